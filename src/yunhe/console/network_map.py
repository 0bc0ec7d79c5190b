"""The network's map: a canvas of its own that draws cells, and asks for those of what is looked at."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from yunhe.console.sums import WHOLE, Cell, View

COLOURS = ("#2c7bb6", "#7fb8d6", "#f2d57e", "#f09a4a", "#c9361f")  # idle to full; apart for the colour-blind too
COAST = "/static/land.json"
MARGIN = 0.5  # of the view, on each side: a map that is moved has cells there already


class NetworkMap(Element, component=Path(__file__).parent / "static" / "network_map.js"):
    """`tell`: the label of a cell; `looked`: another part of the map is looked at."""

    def __init__(
        self,
        label: str,
        words: Mapping[str, str],
        tell: Callable[[Cell], str],
        looked: Callable[[], None],
    ) -> None:
        super().__init__()
        self._tell, self._looked = tell, looked
        self._sent: Sequence[Cell] = ()
        self.view = WHOLE
        self._props |= {
            "label": label,
            "words": dict(words),
            "coast": COAST,
            "colours": list(COLOURS),
            "cells": [],
        }
        self.on("look", self._look)

    def show(self, cells: Sequence[Cell]) -> None:
        """Those of `view`; nothing is sent when they are what is shown."""
        if cells == self._sent:
            return
        self._sent = cells
        rows = [
            (c.lon, c.lat, c.size, c.used_percent, self._tell(c), *c.end, c.load_percent, c.transfers) for c in cells
        ]
        with self._props.suspend_updates():  # for a page that is drawn only now; others are told by the call
            self._props["cells"] = rows
        self.run_method("show", rows)

    def _look(self, event: GenericEventArguments) -> None:
        """(west, south, east, north) of the window, degrees: from a browser, so it may be anything."""
        asked = event.args
        if not (isinstance(asked, list) and len(asked) == 4 and all(isinstance(each, int | float) for each in asked)):
            return
        if not all(math.isfinite(each) and abs(each) <= 360 for each in asked):
            return
        west, south, east, north = map(float, asked)
        if not (west < east and south < north):
            return
        wide, high = MARGIN * (east - west), MARGIN * (north - south)
        cell_deg = View.of(west, south, east, north).cell_deg
        step = cell_deg * 4  # pages that look at nearly the same share their cells
        self.view = View(
            math.floor((west - wide) / step) * step,
            math.floor((south - high) / step) * step,
            math.ceil((east + wide) / step) * step,
            math.ceil((north + high) / step) * step,
            cell_deg,
        )
        self._looked()
