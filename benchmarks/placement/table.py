"""What a public table says, what this code finds by the same protocol, and what Yunhe's own policy reaches."""

import gzip
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TextIO

Progress = Callable[[str], None]  # told in words what is being done, a line each


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: a policy in one case of one measure.

    `value` None: shown beside, not found here. `published` None: nobody published this cell. `tolerance` is how far a
    reproduction may lie from it, in `unit`. `ours` marks Yunhe's own policy: it is compared with the best of the
    others in the same case and measure, published or found here. `spread` is the standard deviation over the seeds.
    """

    case: str
    policy: str
    measure: str
    unit: str
    value: float | None
    published: float | None = None
    tolerance: float = 0.0
    spread: float | None = None
    ours: bool = False
    better: Literal["higher", "lower"] = "higher"
    note: str = ""


@dataclass(slots=True)
class Table:
    """A whole table. `data` maps each file that was read to its sha256; `notes` say where it differs and why."""

    id: str
    title: str
    source: str
    rows: list[Row]
    data: dict[str, str]
    seeds: Sequence[int] = ()
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def best_other(self, row: Row) -> float | None:
        """The best that anyone else has in the row's case and measure."""
        values = [
            value
            for other in self.rows
            if (other.case, other.measure) == (row.case, row.measure) and not other.ours
            for value in (other.value, other.published)
            if value is not None
        ]
        return (max if row.better == "higher" else min)(values, default=None)

    def verdict(self, row: Row) -> str:
        """In words: `equal`, `off by X`, `better by X`, `worse by X`, or nothing where there is nothing beside it."""
        if row.value is None:
            return "not reproduced"
        if row.ours:
            other = self.best_other(row)
            if other is None:
                return ""
            gain = row.value - other if row.better == "higher" else other - row.value
            return (
                f"{'better' if gain > 0 else 'worse' if gain < 0 else 'equal'}{f' by {abs(gain):.4g}' if gain else ''}"
            )
        if row.published is None:
            return ""
        off = row.value - row.published
        if abs(off) > row.tolerance:
            return f"off by {off:+.4g}"
        return f"within {row.tolerance:.3g} ({off:+.3g})" if off else "equal"

    def as_json(self) -> dict[str, object]:
        found = {name: value for name, value in asdict(self).items() if name != "rows"}
        return found | {"rows": [asdict(row) | {"verdict": self.verdict(row)} for row in self.rows]}


@contextmanager
def opened(path: Path, hashes: dict[str, str]) -> Iterator[TextIO]:
    """A text file of a public trace, gzip or plain; its sha256 is noted under its name.

    Raises FileNotFoundError naming the file.
    """
    raw = path.read_bytes()
    hashes[path.name] = hashlib.sha256(raw).hexdigest()
    text = gzip.decompress(raw) if path.suffix == ".gz" else raw
    with io.StringIO(text.decode("utf-8"), newline="") as file:
        yield file
