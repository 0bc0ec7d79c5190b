"""Where the hub's address and the key come from, in the stated order, and that a key stays with its address."""

import os
import stat
from pathlib import Path

import pytest

from yunhe.core.errors import InvalidInput, NotFound
from yunhe.sdk.config import (
    DEFAULT_URL,
    Profile,
    config_path,
    find_network_file,
    load_config,
    resolve,
    save_profile,
    write_network_file,
)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "project" / "deep"
    inner.mkdir(parents=True)
    return inner


def test_the_order_in_which_a_hub_is_found(env: dict[str, str], folder: Path) -> None:
    assert resolve(env=env, folder=folder) == Profile(DEFAULT_URL, None, "default")
    save_profile(config_path(env), "lab", Profile("http://lab:1", "k-lab"), make_default=True)
    assert resolve(env=env, folder=folder) == Profile("http://lab:1", "k-lab", str(config_path(env)))
    written = write_network_file(folder.parent, "http://net:2", "k-net")
    assert resolve(env=env, folder=folder) == Profile("http://net:2", "k-net", str(written))
    env["YUNHE_PROFILE"] = "lab"
    assert resolve(env=env, folder=folder).url == "http://lab:1"
    env |= {"YUNHE_URL": "http://env:3", "YUNHE_API_KEY": "k-env"}
    assert resolve(env=env, folder=folder) == Profile("http://env:3", "k-env", "YUNHE_URL")
    assert resolve(profile="lab", env=env, folder=folder).url == "http://lab:1"
    assert resolve("http://arg:4", "k-arg", env=env, folder=folder) == Profile("http://arg:4", "k-arg", "argument")


def test_a_key_is_not_sent_to_another_address(env: dict[str, str], folder: Path) -> None:
    save_profile(config_path(env), "lab", Profile("http://lab:1", "k-lab"), make_default=True)
    assert resolve("http://stranger:1", env=env, folder=folder).api_key is None
    assert resolve("http://lab:1/", env=env, folder=folder).api_key == "k-lab"
    assert resolve(env=env | {"YUNHE_URL": "http://stranger:1"}, folder=folder).api_key is None


def test_an_empty_key_is_nobodys(env: dict[str, str], folder: Path) -> None:
    """A console asks for visitors, and for whoever left the field of the key blank, beside keys that lie about."""
    save_profile(config_path(env), "lab", Profile("http://lab:1", "k-lab"), make_default=True)
    write_network_file(folder, "http://net:2", "k-net")
    for url in ("http://lab:1", "http://net:2", None):
        assert resolve(url, "", env=env, folder=folder).api_key is None
        assert resolve(url, "", env=env | {"YUNHE_API_KEY": "k-env"}, folder=folder).api_key is None
    assert resolve(None, "", "lab", env=env, folder=folder) == Profile("http://lab:1", None, str(config_path(env)))


def test_files_with_keys_are_for_their_owner_alone(env: dict[str, str], folder: Path) -> None:
    old = os.umask(0)
    try:
        save_profile(config_path(env), "lab", Profile("http://lab:1", "k"), make_default=True)
        network = write_network_file(folder, "http://net:2", "k")
    finally:
        os.umask(old)
    for path in (config_path(env), network):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_profiles_are_kept_beside_each_other(env: dict[str, str]) -> None:
    path = config_path(env)
    save_profile(path, "a", Profile("http://a", 'k"\\\x7f\n'), make_default=True)
    save_profile(path, "名字 two", Profile("http://b"), make_default=False)
    config = load_config(path)
    assert config.default == "a"
    assert {name: (p.url, p.api_key) for name, p in config.profiles.items()} == {
        "a": ("http://a", 'k"\\\x7f\n'),
        "名字 two": ("http://b", None),
    }
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("url = [", "config.toml"),
        ("profiles = 3", "config.toml: profiles"),
        ('default = "x"', "config.toml: default"),
        ("[profiles.a]\nurl = 3", "config.toml: profiles.a.url"),
        ("[profiles.a]\nurl = 'http://a'\napi_key = 1", "config.toml: profiles.a.api_key"),
    ],
)
def test_a_broken_file_is_told_by_field(text: str, field: str, env: dict[str, str]) -> None:
    path = config_path(env)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        load_config(path)
    assert (caught.value.field or "").endswith(field)


def test_an_unknown_profile_says_which_are_known(env: dict[str, str], folder: Path) -> None:
    save_profile(config_path(env), "lab", Profile("http://lab:1"), make_default=True)
    with pytest.raises(NotFound, match="stored: lab"):
        resolve(profile="lap", env=env, folder=folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to somebody else")
def test_a_network_file_of_somebody_else_is_passed_over(folder: Path) -> None:
    written = write_network_file(folder.parent, "http://net:2", "k-net")
    assert find_network_file(folder) == written
    os.chown(written, 12345, 12345)
    assert find_network_file(folder) is None
