"""Tables for a terminal: nothing that one copies or compares is ever cut or folded.

A column's name says how it is shown: a leading `>` aligns it to the right, a leading `~` marks words that may be
wrapped. A table that does not fit the terminal even so becomes one block of `name: value` lines per row.
"""

from collections.abc import Collection, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

LEAST_WORDS = 16  # columns that words keep at least; below that a block reads better
BETWEEN = 2  # columns between two cells: the box draws them

Row = Sequence[str]

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


def plain_name(column: str) -> str:
    return column.lstrip(">~")


def draw(console: Console, columns: Row, rows: Sequence[Row], title: str = "", footer: Row = ()) -> None:
    """Show a table, or blocks where the console is too narrow for it. `footer` has one cell per column, or none."""
    if least_width(columns, [*rows, footer] if footer else rows) > console.width:
        _blocks(console, columns, [*rows, footer] if footer else rows, title)
        return
    table = Table(
        box=SIMPLE_HEAD,
        title=title or None,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        show_footer=bool(footer),
    )
    for i, name in enumerate(columns):
        table.add_column(
            plain_name(name),
            footer=footer[i] if footer else "",
            justify="right" if name.startswith(">") else "left",
            no_wrap=not name.startswith("~"),
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(_styled(cell) for cell in row))
    console.print(table)


def least_width(columns: Row, rows: Sequence[Row]) -> int:
    """The columns of a terminal that a table needs, its words wrapped."""
    names = [plain_name(name) for name in columns]
    natural = [max(cell_len(row[i]) for row in [names, *rows]) for i in range(len(names))]
    widths = [
        min(width, max(LEAST_WORDS, cell_len(plain_name(name)))) if name.startswith("~") else width
        for name, width in zip(columns, natural, strict=True)
    ]
    return sum(widths) + BETWEEN * len(widths)


def without(columns: Row, rows: Sequence[Row], dropped: Collection[str]) -> tuple[tuple[str, ...], list[Row]]:
    """The table without the columns of these names (their signs `>` and `~` left out)."""
    kept = [i for i, name in enumerate(columns) if plain_name(name) not in dropped]
    return tuple(columns[i] for i in kept), [[row[i] for i in kept] for row in rows]


def _blocks(console: Console, columns: Row, rows: Sequence[Row], title: str) -> None:
    if title:
        console.print(Text(title, style="bold"))
    for number, row in enumerate(rows):
        if number or title:
            console.print()
        for name, cell in zip(columns, row, strict=True):
            if cell:
                label = f"{plain_name(name)}: " if plain_name(name) else ""
                # Soft: the terminal itself folds a long value, so that it is copied as one.
                console.print(Text(label, style="dim") + _styled(cell), soft_wrap=True)


def _styled(cell: str) -> Text:
    return Text(cell, style=_STATE_STYLES.get(cell, ""))
