"""Tables at the width of a terminal: what one copies is whole at every width."""

import pytest
from rich.console import Console

from yunhe.apps.tables import draw, least_width, without

COLUMNS = ("order", ">held", "~why")
ROWS = [("ord_0123456789abcdef0123456789abcdef", "0.0625CNY", "only one of the three pools fits it now")]


def shown(width: int, footer: tuple[str, ...] = ()) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        draw(console, COLUMNS, ROWS, "Orders", footer)
    return capture.get()


@pytest.mark.parametrize("width", range(20, 160, 10))
def test_ids_and_amounts_are_whole_at_every_width(width: int) -> None:
    for value in ROWS[0][:2]:
        assert value in shown(width)


def test_words_are_wrapped_before_a_table_becomes_blocks() -> None:
    least = least_width(COLUMNS, ROWS)
    assert least < sum(map(len, ROWS[0]))
    table = shown(least).splitlines()
    assert table[2].split() == ["order", "held", "why"]
    assert all(len(line.rstrip()) <= least for line in table)
    blocks = shown(least - 1).splitlines()
    assert f"order: {ROWS[0][0]}" in blocks
    assert "why: only one of the three pools fits it now" in blocks


@pytest.mark.parametrize("width", [40, 120])
def test_a_footer_is_shown_in_both(width: int) -> None:
    assert "0 micro-CNY" in shown(width, ("sum", "0 micro-CNY", ""))


def test_columns_are_left_out_by_their_plain_names() -> None:
    columns, rows = without(COLUMNS, ROWS, ("held",))
    assert columns == ("order", "~why")
    assert [len(row) for row in rows] == [2]
