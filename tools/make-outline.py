"""Makes the coastlines of the console's map from a land mask: `make-outline.py globe_combined_mask_compressed.npz`.

The mask is the one that the package global-land-mask 1.0.0 ships: NOAA GLOBE (public domain), land and sea at 30 arc
seconds. Coarsened to a fifth of a degree; islands of less than a degree's outline are left out. Only coasts are drawn,
no borders.
"""

import json
import sys
from pathlib import Path

import numpy as np
from contourpy import contour_generator

WEST, EAST, SOUTH, NORTH = 68.0, 142.0, 14.0, 56.0
STEP = 0.2
LEAST = 1.0  # degrees of outline
TARGET = Path(__file__).parent.parent / "src" / "yunhe" / "console" / "static" / "land.json"


def main(file: str) -> None:
    stored = np.load(file)
    lat, lon, sea = stored["lat"], stored["lon"], stored["mask"]
    rows = np.flatnonzero((lat >= SOUTH) & (lat <= NORTH))
    columns = np.flatnonzero((lon >= WEST) & (lon <= EAST))
    land = ~sea[np.ix_(rows, columns)]
    size = round(STEP * 120)
    land = land[: len(rows) // size * size, : len(columns) // size * size]
    share = land.reshape(land.shape[0] // size, size, -1, size).mean(axis=(1, 3))
    y = lat[rows][: land.shape[0]].reshape(-1, size).mean(axis=1)
    x = lon[columns][: land.shape[1]].reshape(-1, size).mean(axis=1)
    found = []
    for line in contour_generator(x, y, share).lines(0.5):
        steps = np.abs(np.diff(line, axis=0)).sum()
        if steps >= LEAST:
            found.append([[round(float(a), 2), round(float(b), 2)] for a, b in line[:: max(1, len(line) // 400)]])
            found[-1].append([round(float(line[-1][0]), 2), round(float(line[-1][1]), 2)])
    TARGET.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{len(found)} lines, {sum(map(len, found))} points, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
