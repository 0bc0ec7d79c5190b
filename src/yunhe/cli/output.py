"""How results are shown: one JSON document, or tables for people.

On a terminal tables are drawn by Rich; elsewhere they are plain aligned columns without colour or cutting.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from yunhe.cli.wording import NONE

GAP = "  "

_STATE_STYLES = {
    "succeeded": "green",
    "active": "green",
    "failed": "red",
    "unknown": "yellow",
    "pending": "yellow",
    "open": "yellow",
    "running": "cyan",
    "cancelled": "dim",
    "withdrawn": "dim",
    "left": "dim",
}


def show_json(document: BaseModel | Mapping[str, object]) -> None:
    """One JSON document on stdout, and nothing else."""
    if isinstance(document, BaseModel):
        print(document.model_dump_json(indent=2))
    else:
        print(json.dumps(document, indent=2, ensure_ascii=False))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Columns named with a leading `>` are aligned to the right."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(columns, cells, title)
        return
    if title:
        print(title)
    names = [name.removeprefix(">") for name in columns]
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


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STATE_STYLES.get(cell, "")) for cell in row))
    Console().print(table)


def _pad(text: str, width: int, right: bool) -> str:
    blank = " " * (width - cell_len(text))
    return blank + text if right else text + blank
