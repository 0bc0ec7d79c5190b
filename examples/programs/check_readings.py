"""Check a table of measurements before anyone builds on it. Exits 3 and names the line of a broken reading."""

import csv
import sys
from pathlib import Path

BROKEN_DATA = 3


def main() -> int:
    readings = 0
    with Path("stations.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            try:
                float(row["temperature_c"]), float(row["wind_m_per_s"])
            except ValueError as error:
                line = readings + 2
                print(f"stations.csv, line {line}: {row['station']} at {row['hour']}h: {error}", file=sys.stderr)
                return BROKEN_DATA
            readings += 1
    print(f"{readings} readings, all of them numbers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
