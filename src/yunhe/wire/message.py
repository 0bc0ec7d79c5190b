"""What all messages are made of: the two kinds of message, and the forms of text in them."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_BODY_BYTES = 8 * 1024 * 1024

NO_NUL = r"^[^\x00]*$"  # what a database cannot hold as text
Quantity = Annotated[str, Field(min_length=1, max_length=60, pattern=NO_NUL)]
Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[\w][\w .:-]*$")]


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number, not a truth value")
    return value


# Beside a number's bounds: `true` would silently count as 1. Digits in quotes pass, options of a command line are such.
NUMBER = BeforeValidator(_no_truth_value)


class Message(BaseModel):
    # A refused value may be a secret: the text of the error must not carry it into a log.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Answer(BaseModel):
    """What the hub sends: a newer hub may send more fields than this SDK knows."""

    model_config = ConfigDict(extra="ignore", frozen=True)
