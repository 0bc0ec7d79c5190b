"""Messages from plain values, with Yunhe's errors in place of pydantic's."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from yunhe.wire.invalid import from_validation_error

Checked = TypeVar("Checked", bound=BaseModel)


def checked(message: type[Checked], values: Mapping[str, object]) -> Checked:
    """`message` with `values`. Raises InvalidInput or UnknownField naming the field."""
    try:
        return message.model_validate(values)
    except ValidationError as error:
        raise from_validation_error(error) from error
