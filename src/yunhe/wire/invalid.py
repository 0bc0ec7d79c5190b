"""One clear error out of pydantic's many: which field, what is wrong, what was probably meant.

Used by the hub for request bodies and by the CLI for files, so that both say the same.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from yunhe.core.errors import InvalidInput, UnknownField, YunheError
from yunhe.core.units import meant, other_name
from yunhe.wire import api, link

Location = Sequence[int | str]

_MODELS: dict[str, type[BaseModel]] = {
    name: value
    for module in (api, link)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, BaseModel)
}
_REQUEST_PARTS = frozenset({"body", "query", "path", "header", "cookie"})
_SECRET = frozenset({"token", "key", "proof", "url"})  # a URL may hold a password or a signature
_SECRETS = "secrets"  # a mapping whose values are never shown
_SHOWN_CHARS = 40
_HUGE = 10**30  # Python refuses to write integers of thousands of digits
_PLAIN_NAME = re.compile(r"[\w-]+")

# Plain words for pydantic's types; others keep pydantic's text.
_WORDS = {
    "missing": "is required",
    "string_type": "must be text; write it in quotes",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "model_attributes_type": "must be a mapping of names to values",
    "int_from_float": "must be a whole number",
    "extra_forbidden": "unknown field",
}
# Shown where text with a unit, or a list, was left out or written as a bare number.
_EXAMPLES = {
    "compute": "0.05TFLOPS@fp64",
    "work": "3EFLOP@bf16",
    "memory": "2GiB",
    "card_memory": "80GB",
    "latency": "20ms:shanghai",
    "rtt": "20ms",
    "one_way": "9ms",
    "bandwidth": "10Gbps",
    "size": "100GB",
    "max_carbon": "400g/kWh",
    "duration": "1h30m",
    "deadline": "6h",
    "start_at": "in 2h",
    "budget": "2CNY",
    "credit_limit": "100CNY",
    "amount": "50CNY",
    "price_per_core_hour": "0.10CNY",
    "price_per_card_hour": "10CNY",
    "power_price_per_kwh": "0.60CNY",
    "command": "[python3, job.py]",
}
# Of several errors at one place (a union tries each branch), the first of these says the most.
_TELLING = ("extra_forbidden", "missing", "string_type")


def from_validation_error(error: ValidationError) -> YunheError:
    """The one of pydantic's errors that helps most, as an InvalidInput or UnknownField with its dotted field path."""
    return from_errors(error.errors(include_url=False), _MODELS.get(error.title))


def from_errors(errors: Sequence[Mapping[str, Any]], model: type[BaseModel] | None) -> YunheError:
    """As `from_validation_error`, from a list of error details (as a web framework hands them out)."""
    read = [(_Path(model, detail["loc"]), detail) for detail in errors]
    path, detail = min(read, key=lambda entry: _rank(*entry))
    kind, said = str(detail["type"]), detail.get("input")
    if kind == "json_invalid":
        return InvalidInput(f"not valid JSON: {(detail.get('ctx') or {}).get('error', detail['msg'])}")
    if kind == "extra_forbidden":
        name = readable(str(detail["loc"][-1]))
        return UnknownField(f"unknown field {name[:_SHOWN_CHARS]!r}", field=path.text[:200], hint=path.meant(name))
    message = _WORDS.get(kind) or _plain(str(detail["msg"]))
    hint = None
    if kind in ("string_type", "tuple_type", "missing") and path.parts and path.parts[-1] in _EXAMPLES:
        name = str(path.parts[-1])
        hint = f"for example {name}: {_EXAMPLES[name]}"
        message = "must be text with its unit" if kind == "string_type" else message
    secret = bool(path.parts) and (path.parts[-1] in _SECRET or _SECRETS in path.parts)
    if kind != "missing" and isinstance(said, str | int | float) and not secret:
        shown = "a huge number" if isinstance(said, int) and abs(said) > _HUGE else repr(said)
        message += f" (it is {shown if len(shown) <= _SHOWN_CHARS else shown[:_SHOWN_CHARS] + '...'})"
    return InvalidInput(message, field=path.text[:200] or None, hint=hint)


def _rank(path: "_Path", detail: Mapping[str, Any]) -> tuple[bool, int, int]:
    """Unknown fields first, then the deepest place, then the most telling type."""
    kind = detail["type"]
    telling = _TELLING.index(kind) if kind in _TELLING else len(_TELLING)
    return (kind != "extra_forbidden", -len(path.parts), telling)


def _plain(message: str) -> str:
    for prefix, plain in (("Value error, ", ""), ("Input should be ", "must be "), ("String should ", "should ")):
        if message.startswith(prefix):
            return plain + message.removeprefix(prefix)
    return message[:1].lower() + message[1:]


def readable(text: str) -> str:
    """Half surrogates, which JSON can spell but UTF-8 cannot, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def field_path(parent: str, part: int | str) -> str:
    """The path of a child: `parent[0]`, `parent.name`, or `parent["../odd name"]`."""
    if isinstance(part, int):
        return f"{parent}[{part}]"
    part = readable(part)
    if not _PLAIN_NAME.fullmatch(part):
        return f'{parent}["{part}"]'
    return f"{parent}.{part}" if parent else part


class _Path:
    """A pydantic location without the names of union branches, and the models that its last part stands in."""

    def __init__(self, model: type[BaseModel] | None, location: Location) -> None:
        self.parts: list[int | str] = []
        self._owners: list[type[BaseModel]] = []
        candidates = [model] if model else []
        for index, part in enumerate(location):
            if index == 0 and part in _REQUEST_PARTS:
                continue
            named = [c for c in candidates if c.__name__ == part]
            if named:  # the branch of a union that was tried
                candidates = named
                continue
            if isinstance(part, str) and _is_label(part):
                continue
            if isinstance(part, str) and candidates:
                fields = [c.model_fields[part] for c in candidates if part in c.model_fields]
                if not fields and index < len(location) - 1:
                    continue  # the tag of a discriminated union
                self._owners = candidates
                candidates = [m for field in fields for m in models_in(field.annotation)]
            self.parts.append(part)

    @property
    def text(self) -> str:
        """`requirement.latency[0].place`."""
        text = ""
        for part in self.parts:
            text = field_path(text, part)
        return text

    def meant(self, name: str) -> str:
        """A hint for an unknown field: one of that name a level below, a near one here, or all that are known."""
        fields = {field: info for owner in self._owners for field, info in owner.model_fields.items()}
        for field, info in fields.items():
            if any(name in model.model_fields for model in models_in(info.annotation)):
                return f"it belongs under {field!r}"
        for field, info in fields.items():
            below = [known for model in models_in(info.annotation) for known in model.model_fields]
            other = other_name(name, below)
            if other is not None:
                return f"did you mean {other!r} under {field!r}?"
        return meant(name[:100], sorted(fields)) if fields else ""


def _is_label(part: str) -> bool:
    """Names that pydantic gives to branches of a union, and to the key of a mapping."""
    return part == "[key]" or part.startswith(("constrained-", "function-", "tuple[", "list[", "dict[", "union["))


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The models that a type mentions, also inside unions and lists."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)
