"""Orders as YAML files.

Beside what the API takes, `run.files` may be a list of paths relative to the YAML file: their text is read in. The
job finds a file under the same path, or under its name alone where the path leads out of the YAML file's folder. Of a
secret in `run.secrets` the YAML file says where it lies, `{file: PATH}` or `{env: VARIABLE}`, never its text.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from yunhe.core.errors import InvalidInput, TooLarge, YunheError
from yunhe.wire.api import MAX_FILES_BYTES, OrderSpec
from yunhe.wire.api.orders import MAX_SECRET_BYTES
from yunhe.wire.invalid import field_path
from yunhe.wire.order_yaml import MAX_YAML_BYTES, load_order_yaml

_TOO_BIG_HINT = "files sent with an order are programs and parameters; let the job fetch its data where it runs"


def load_order(path: Path) -> OrderSpec:
    """Read one order. Raises InvalidInput with the field's path, UnknownField, or TooLarge; the file is named."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_YAML_BYTES + 1)
        return parse_order(raw.decode("utf-8"), path.parent)
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", field=str(path)) from error
    except UnicodeDecodeError as error:
        raise InvalidInput("is not text (UTF-8)", field=str(path)) from error
    except YunheError as error:
        where = f"{path}: {error.field}" if error.field else str(path)
        raise type(error)(error.message, field=where, hint=error.hint) from error


def parse_order(text: str, folder: Path) -> OrderSpec:
    """An order from YAML text; paths in `run.files` are relative to `folder`. Raises as `load_order`."""
    return load_order_yaml(
        text, lambda paths: read_files(paths, folder, outside=True), lambda named: _read_secrets(named, folder)
    )


def dump_order(order: OrderSpec) -> str:
    """An order as YAML that `load_order` reads back; what has its default value is left out."""
    return yaml.dump(
        order.model_dump(mode="json", exclude_defaults=True),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=110,
    )


def read_files(paths: Iterable[str], folder: Path, *, outside: bool = False) -> dict[str, str]:
    """Text of small files, by the path that the job finds them under.

    A file inside `folder` keeps its path there; with `outside`, one that lies elsewhere comes under its own name.
    Raises InvalidInput when one is missing, not text or not inside, TooLarge when they are together.
    """
    files: dict[str, str] = {}
    total = 0
    for path in paths:
        name = _name_in_job(path, folder, outside)
        if name in files:
            raise InvalidInput(f"two files would be {name!r} in the job's directory", field="run.files")
        try:
            total += (folder / path).stat().st_size
            if total > MAX_FILES_BYTES:
                raise TooLarge(f"with {path} the files are more than 1 MiB", field="run.files", hint=_TOO_BIG_HINT)
            raw = (folder / path).read_bytes()
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror}", field="run.files") from error
        files[name] = _text(raw, path)
    return files


def secret_of_file(path: Path, field: str) -> str:
    """The text of a small file, line ends included. Raises InvalidInput, TooLarge."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field=field) from error
    if len(raw) > MAX_SECRET_BYTES:
        raise TooLarge(f"{path} is more than {MAX_SECRET_BYTES // 1024} KiB", field=field)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        hint = "encode what is binary, for example by base64"
        raise InvalidInput(f"{path} is not text (UTF-8)", field=field, hint=hint) from None  # the cause would show it


def secret_of_variable(name: str, field: str) -> str:
    """What an environment variable holds. Raises InvalidInput when it is not set, or empty."""
    value = os.environ.get(name)
    if not value:
        raise InvalidInput(f"the environment variable {name[:80]} is not set", field=field, hint="export it first")
    return value


def _read_secrets(named: Mapping[str, object], folder: Path) -> dict[str, str]:
    return {str(name): _secret(where, folder, field_path("run.secrets", str(name))) for name, where in named.items()}


def _secret(where: object, folder: Path, field: str) -> str:
    match where:
        case {"file": str(path), **rest} if not rest:
            return secret_of_file(folder / path, field)
        case {"env": str(variable), **rest} if not rest:
            return secret_of_variable(variable, field)
    raise InvalidInput("does not say where the secret lies", field=field, hint="{file: PATH} or {env: VARIABLE}")


def _name_in_job(path: str, folder: Path, outside: bool) -> str:
    if Path(path).is_absolute():
        raise InvalidInput(f"{path} is an absolute path", field="run.files", hint="write it relative to the order file")
    if (folder / path).resolve().is_relative_to(folder.resolve()):
        return Path(os.path.normpath(path)).as_posix()
    if not outside:
        raise InvalidInput(f"{path} is not inside {folder}", field="run.files", hint="copy it here")
    return Path(path).name


def _text(raw: bytes, path: str) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not text (UTF-8)", field="run.files", hint=_TOO_BIG_HINT) from error
    if "\0" in text:
        raise InvalidInput(f"{path} is not text: it has NUL bytes", field="run.files", hint=_TOO_BIG_HINT)
    return text


class _Dumper(yaml.SafeDumper):
    """Programs are written as blocks, so that they can be read and edited."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent)
