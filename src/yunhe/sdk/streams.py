"""Server-sent events as a hub sends them (WHATWG HTML, section 9.2): one line of each kind."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Answer = TypeVar("Answer", bound=BaseModel)

BEAT_S = 20.0  # the hub says something at least so often
HINT = "is this a hub, of a version near this one?"


class NotUnderstood(Exception):
    """What came is no hub's, or a much newer one's: it would come again as it is."""

    def __init__(self, message: str = "an event of this hub is not understood") -> None:
        super().__init__(message)


@dataclass(slots=True)
class Block:
    id: str = ""
    data: str = ""


def blocks(chunks: Iterator[bytes], max_bytes: int) -> Iterator[Block]:
    """Those with something in them that came whole: what was cut off comes again. Raises NotUnderstood."""
    rest: list[bytes] = []
    size = 0
    block = Block()
    for chunk in chunks:
        if b"\n" not in chunk:
            rest, size = [*rest, chunk], size + len(chunk)
            if size > max_bytes:
                raise NotUnderstood("the answer is not a hub's stream of events")
            continue
        *lines, last = (b"".join(rest) + chunk).split(b"\n")
        rest, size = [last], len(last)
        for line in lines:
            name, _, value = line.rstrip(b"\r").decode("utf-8", errors="replace").partition(": ")
            if name == "id":
                block.id = value
            elif name == "data":
                block.data = value
            elif not name:
                if block.data or block.id:
                    yield block
                block = Block()


def understood(answer: type[Answer], data: str) -> Answer:
    """Raises NotUnderstood."""
    try:
        return answer.model_validate_json(data)
    except ValidationError as error:
        raise NotUnderstood from error
