"""Which hub to talk to, and with which key.

The first of these that names a hub wins:

1. arguments (`Client(url=..., api_key=...)`, `yunhe --url`), then a profile named by argument (`yunhe --profile`);
2. the environment: `YUNHE_URL`, `YUNHE_API_KEY`, or `YUNHE_PROFILE`;
3. `.yunhe/client.toml` in this folder or one above it, written by a network that runs there (`yunhe up`);
4. the default profile of `~/.config/yunhe/config.toml` (`$XDG_CONFIG_HOME`), written by `yunhe login`;
5. http://127.0.0.1:8440 without a key.

A key belongs to the address that it was stored with: it is never sent to another one.
"""

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from yunhe.core.errors import InvalidInput, NotFound

DEFAULT_URL = "http://127.0.0.1:8440"
NETWORK_FOLDER = ".yunhe"
NETWORK_FILE = "client.toml"


@dataclass(frozen=True, slots=True)
class Profile:
    """A hub's address, the key for it, and where both were found. The key is kept out of `repr`."""

    url: str
    api_key: str | None = field(default=None, repr=False)
    source: str = "argument"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The user's own file: named profiles, one of them the default."""

    path: Path
    default: str | None
    profiles: dict[str, Profile]


def config_path(env: Mapping[str, str] = os.environ) -> Path:
    """Where the user's own profiles are kept (XDG base directories)."""
    base = env.get("XDG_CONFIG_HOME") or str(Path(env.get("HOME") or Path.home()) / ".config")
    return Path(base) / "yunhe" / "config.toml"


def load_config(path: Path) -> ConfigFile:
    """Read the user's profiles; a missing file is one without profiles. Raises InvalidInput when it is not readable."""
    data = _read_toml(path)
    if data is None:
        return ConfigFile(path, None, {})
    table = data.get("profiles", {})
    if not isinstance(table, dict):
        raise InvalidInput("must be a table of profiles", field=f"{path}: profiles")
    profiles = {name: _profile(entry, f"{path}: profiles.{name}", str(path)) for name, entry in table.items()}
    default = data.get("default")
    if default is not None and default not in profiles:
        raise InvalidInput(f"names no profile of this file: {default!r}", field=f"{path}: default")
    return ConfigFile(path, default if isinstance(default, str) else None, profiles)


def save_profile(path: Path, name: str, profile: Profile, *, make_default: bool) -> ConfigFile:
    """Add or replace one profile; the file is replaced as a whole and readable by its owner alone (mode 0600)."""
    config = load_config(path)
    default = name if make_default or config.default is None else config.default
    profiles = {**config.profiles, name: profile}
    lines = [f"default = {toml_quoted(default)}", ""]
    for key, entry in profiles.items():
        lines += [f"[profiles.{toml_quoted(key)}]", *_entry_lines(entry), ""]
    _write_private(path, "\n".join(lines))
    return load_config(path)


def write_network_file(folder: Path, url: str, api_key: str) -> Path:
    """Tell clients below `folder` of the network that runs there. Returns the file, to be removed at its stop."""
    path = folder / NETWORK_FOLDER / NETWORK_FILE
    _write_private(path, "\n".join([*_entry_lines(Profile(url, api_key)), ""]))
    return path


def find_network_file(start: Path) -> Path | None:
    """The nearest `.yunhe/client.toml` in `start` or above that belongs to this user.

    One that somebody else owns is passed over: it could send orders and keys to a stranger's hub.
    """
    for folder in (start, *start.parents):
        path = folder / NETWORK_FOLDER / NETWORK_FILE
        try:
            mine = path.is_file() and path.stat().st_uid == os.getuid()
        except OSError:  # a folder above that this user may not look into has no network of theirs
            continue
        if mine:
            return path
    return None


def resolve(
    url: str | None = None,
    api_key: str | None = None,
    profile: str | None = None,
    *,
    env: Mapping[str, str] = os.environ,
    folder: Path | None = None,
) -> Profile:
    """The hub to use, by the order at the top of this file. An `api_key` of "" means nobody's: none is looked for.

    Raises NotFound for a profile name that is not stored, InvalidInput for a file that cannot be read.
    """
    if api_key == "":
        return replace(resolve(url, None, profile, env=env, folder=folder), api_key=None)
    if profile is None and url is None and not env.get("YUNHE_URL"):
        profile = env.get("YUNHE_PROFILE") or None
    if profile is not None and url is None:
        return _with_key(_named(profile, env), api_key)
    explicit = url or env.get("YUNHE_URL") or None
    key = api_key or env.get("YUNHE_API_KEY") or None
    stored = _stored(env, folder or Path.cwd())
    if explicit is None:
        return _with_key(stored, key)
    source = "argument" if url else "YUNHE_URL"
    if key is None:
        key = _key_for(explicit, stored, env)
    return Profile(explicit, key, source)


def _with_key(profile: Profile, api_key: str | None) -> Profile:
    return Profile(profile.url, api_key, profile.source) if api_key else profile


def _named(name: str, env: Mapping[str, str]) -> Profile:
    config = load_config(config_path(env))
    if name not in config.profiles:
        known = ", ".join(sorted(config.profiles)) or "none"
        raise NotFound(f"no profile {name!r}; stored: {known}", field="profile", hint=f"yunhe login --profile {name}")
    return config.profiles[name]


def _stored(env: Mapping[str, str], folder: Path) -> Profile:
    network = find_network_file(folder)
    if network is not None:
        data = _read_toml(network)
        if data is not None:
            return _profile(data, str(network), str(network))
    config = load_config(config_path(env))
    if config.default is not None:
        return config.profiles[config.default]
    return Profile(DEFAULT_URL, None, "default")


def _key_for(url: str, stored: Profile, env: Mapping[str, str]) -> str | None:
    for candidate in (stored, *load_config(config_path(env)).profiles.values()):
        if candidate.url.rstrip("/") == url.rstrip("/"):
            return candidate.api_key
    return None


def _profile(entry: object, where: str, source: str) -> Profile:
    if not isinstance(entry, dict):
        raise InvalidInput("must be a table with url and api_key", field=where)
    url, key = entry.get("url"), entry.get("api_key")
    if not isinstance(url, str) or not url:
        raise InvalidInput("must be the hub's address", field=f"{where}.url")
    if key is not None and not isinstance(key, str):
        raise InvalidInput("must be text", field=f"{where}.api_key")
    return Profile(url, key, source)


def _read_toml(path: Path) -> dict[str, object] | None:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot be read: {error}", field=str(path)) from error


def _entry_lines(profile: Profile) -> list[str]:
    lines = [f"url = {toml_quoted(profile.url)}"]
    if profile.api_key is not None:
        lines.append(f"api_key = {toml_quoted(profile.api_key)}")
    return lines


def toml_quoted(text: str) -> str:
    """Text as a basic string of TOML, with its quotes."""
    # JSON's escapes are a subset of TOML's basic strings, except for the one control character JSON leaves bare.
    return json.dumps(text).replace("\x7f", "\\u007f")


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # mkstemp makes the file with mode 0600, so the key is never readable by others, not even for a moment.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
