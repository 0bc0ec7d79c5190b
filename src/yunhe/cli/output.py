"""How results are shown: one JSON document, or tables for people.

On a terminal tables are drawn to fit it; elsewhere they are plain aligned columns without colour or cutting.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console

from yunhe.apps.tables import draw, plain_name
from yunhe.cli.wording import NONE

GAP = "  "


def show_json(document: BaseModel | Mapping[str, object]) -> None:
    """One JSON document on stdout, and nothing else."""
    if isinstance(document, BaseModel):
        print(document.model_dump_json(indent=2))
    else:
        print(json.dumps(document, indent=2, ensure_ascii=False))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """A column named with a leading `>` is aligned to the right, one with a leading `~` has words that may wrap."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        draw(Console(), columns, cells, title)
        return
    if title:
        print(title)
    names = [plain_name(name) for name in columns]
    widths = [max(cell_len(row[i]) for row in [names, *cells]) for i in range(len(names))]
    for row in [names, *cells]:
        padded = [_pad(row[i], width, columns[i][:1] == ">") for i, width in enumerate(widths)]
        print(GAP.join(padded).rstrip())


def show_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """A short form: one name and its value per line."""
    known = [(name, clean(value)) for name, value in pairs]
    width = max((cell_len(name) for name, _ in known), default=0)
    for name, value in known:
        print(f"{_pad(name, width, False)}{GAP}{value}")


def clean(text: str) -> str:
    """Text without control characters: what a site or a job wrote cannot steer this terminal."""
    return "".join(c if c.isprintable() else " " if c in "\n\t" else "\ufffd" for c in text)


def moment(utc_ms: int | None) -> str:
    """A time as UTC to the second."""
    if utc_ms is None:
        return NONE
    return datetime.fromtimestamp(utc_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _pad(text: str, width: int, right: bool) -> str:
    blank = " " * (width - cell_len(text))
    return blank + text if right else text + blank
