"""What the demo tells at its end."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass

from rich.console import Console

from yunhe.apps.tables import draw, least_width
from yunhe.core.posting import CNY
from yunhe.core.units import format_carbon_mass, format_energy, format_money, format_span
from yunhe.wire.api import ChargeView, HubStats, OrderDetail, QuoteView, SiteView, TrialBalance

_BEST = {"cost": "cheapest", "speed": "fastest", "carbon": "least carbon"}


@dataclass(frozen=True)
class Line:
    """One order, from its quote to its charges."""

    name: str
    expected: str
    came: str
    preference: str
    quote: QuoteView | None
    detail: OrderDetail | None
    charges: tuple[ChargeView, ...]
    remark: str

    @property
    def as_expected(self) -> bool:
        settled = self.detail is None or self.detail.settled
        return self.came == self.expected and settled

    @property
    def site_ids(self) -> list[str]:
        tasks = self.detail.task_list if self.detail else ()
        return sorted({task.site_id for task in tasks if task.site_id})

    @property
    def why_there(self) -> str:
        """In a few words: its rank among the offers, or why it went nowhere."""
        if not self.site_ids or self.quote is None or not self.quote.offers:
            return self.remark
        offers = [offer.site_id for offer in self.quote.offers]
        if len(offers) == 1:
            codes = sorted({reason.code for site in self.quote.refused for reason in site.reasons})
            return f"only one fits ({', '.join(codes)})"
        if len(self.site_ids) > 1:
            return f"spread over {len(self.site_ids)} of {len(offers)} that fit"
        rank = offers.index(self.site_ids[0]) if self.site_ids[0] in offers else len(offers) - 1
        best = f"{_BEST[self.preference]} of {len(offers)}"
        return best if rank == 0 else f"rank {rank + 1} of {len(offers)}; {offers[0]} was busy"


@dataclass(frozen=True)
class Report:
    lines: tuple[Line, ...]
    sites: tuple[SiteView, ...]
    stats: HubStats
    trial: TrialBalance
    busy_s: float  # from the first order to the last settlement
    seconds: float
    engines: tuple[tuple[str, str], ...] = ()  # site id and its engine, where they were named

    @property
    def tasks_by_engine(self) -> dict[str, int]:
        """Tasks that were placed, by what ran them."""
        of = dict(self.engines)
        tasks = [task for line in self.lines if line.detail for task in line.detail.task_list if task.site_id]
        count = Counter(of.get(task.site_id or "", "unknown") for task in tasks)
        return {engine: count[engine] for engine in dict.fromkeys(of.values())}

    @property
    def as_expected(self) -> bool:
        usage_ok = self.stats.usage_gaps == 0 and self.stats.usage_duplicates == 0
        return usage_ok and self.trial.balanced and all(line.as_expected for line in self.lines)


def as_json(report: Report) -> str:
    states = Counter(line.came.partition(":")[0] for line in report.lines)
    names = ("succeeded", "failed", "refused", "cancelled", "withdrawn")
    return json.dumps(
        {
            "orders": {"total": len(report.lines), **{name: states[name] for name in names}},
            "sites": len(report.sites),
            **({"tasks_by_engine": report.tasks_by_engine} if report.engines else {}),
            "usage": {
                "records": report.stats.usage_records,
                "gaps": report.stats.usage_gaps,
                "duplicates": report.stats.usage_duplicates,
            },
            "ledger": {"balanced": report.trial.balanced, "postings": report.trial.postings},
            "seconds": round(report.seconds, 1),
            "as_expected": report.as_expected,
            "unexpected": [
                {"order": line.name, "expected": line.expected, "came": line.came}
                for line in report.lines
                if not line.as_expected
            ],
        }
    )


def show(report: Report) -> None:
    console = Console()
    # Where nobody looks at a terminal, lines must not be folded to 80 columns.
    if not console.is_terminal:
        console = Console(width=180)
    console.print()
    _orders(console, report)
    console.print("Compute reserved is measured rate x leased units x time; each task's energy is rounded up to 1 mWh.")
    console.print()
    _sites(console, report)
    console.print()
    _trial(console, report)
    if report.engines:
        console.print("Tasks by engine: " + ", ".join(f"{n} on {name}" for name, n in report.tasks_by_engine.items()))
    verdict = "All orders ended as expected." if report.as_expected else "NOT as expected:"
    console.print(f"\n{verdict} {report.seconds:.1f} s in all.")
    for line in report.lines:
        if not line.as_expected:
            console.print(f"  {line.name}: expected {line.expected}, came {line.came}")


def _orders(console: Console, report: Report) -> None:
    """One table; three, of where, how much and what it cost, on a terminal that is too narrow for it."""
    where = ("~order", "ended", "~site", "~why there")
    used = (">wait", ">run", ">compute reserved", ">energy", ">carbon")
    cost = (">compute CNY", ">energy CNY", ">total CNY")
    rows = [
        (line.name, line.came, ", ".join(line.site_ids) or "-", line.why_there, *_figures(line))
        for line in report.lines
    ]
    columns = (*where, *used, *cost)
    if least_width(columns, rows) <= console.width:
        draw(console, columns, rows, "Orders")
        return
    draw(console, where, [row[: len(where)] for row in rows], "Orders")
    charged = [row for row, line in zip(rows, report.lines, strict=True) if line.charges]
    for title, part in (("What they used", used), ("What they cost", cost)):
        first = columns.index(part[0])
        console.print()
        draw(console, ("~order", *part), [(row[0], *row[first : first + len(part)]) for row in charged], title)


def _figures(line: Line) -> list[str]:
    if line.detail is None or not line.charges:
        return ["-"] * 8
    first = min((t.placed_utc_ms for t in line.detail.task_list if t.placed_utc_ms), default=None)
    wait_ms = first - line.detail.submitted_utc_ms if first else 0
    run_ms = max(int(charge.inputs["wall_ms"]) for charge in line.charges)
    flop = sum(charge.compute_delivered.get("fp64", 0) for charge in line.charges)
    return [
        format_span(wait_ms),
        format_span(run_ms),
        f"{flop / 1e9:.1f} GFLOP",
        format_energy(sum(charge.energy_mwh for charge in line.charges)),
        format_carbon_mass(sum(charge.carbon_mg for charge in line.charges)),
        _cny(sum(charge.price.compute_microcny for charge in line.charges)),
        _cny(sum(charge.price.energy_microcny for charge in line.charges)),
        _cny(sum(charge.price.total_microcny for charge in line.charges)),
    ]


def _cny(microcny: int) -> str:
    return f"{microcny / 1e6:.6f}"


def _sites(console: Console, report: Report) -> None:
    """Utilisation is leased core time over certified core time while orders were placed."""
    used: dict[str, int] = defaultdict(int)
    earned: dict[str, int] = defaultdict(int)
    for line in report.lines:
        for charge in line.charges:
            used[charge.site_id] += int(charge.inputs["milli"]) * int(charge.inputs["wall_ms"])
            earned[charge.site_id] += charge.price.total_microcny - charge.operator_fee_microcny
    rows = []
    for site in report.sites:
        milli = sum(pool.capacity_milli for pool in site.pools)
        share = used[site.id] / (milli * report.busy_s * 1000) if milli and report.busy_s else 0.0
        rates = [r.measured_flops for pool in site.pools for r in pool.rates if r.precision == "fp64"]
        row = (
            site.id,
            site.region,
            ", ".join(sorted({pool.chip_name for pool in site.pools})),
            f"{milli / 1000:g}",
            f"{rates[0] / 1e9:.1f} GFLOPS" if rates and rates[0] else "-",
            f"{share:.0%}",
            f"{site.pue_milli / 1000:.2f}" + _assumed(site, "pue_milli"),
            f"{site.carbon_g_per_kwh}" + _assumed(site, "carbon_g_per_kwh"),
            format_money(earned[site.id]),
        )
        rows.append(row)
    columns = ("site", "region", "~chip", "cores", "FP64 per core", "utilisation", "PUE", "g CO2/kWh", "earned")
    draw(console, columns, rows, "Sites")


def _assumed(site: SiteView, name: str) -> str:
    return " (assumed)" if name in site.assumed else ""


def _trial(console: Console, report: Report) -> None:
    """Units beside money, where there are any, keep their own names."""
    sums = ", ".join(
        f"{amount} micro-CNY" if unit == CNY else f"{amount} {unit}"
        for unit, amount in report.trial.sum_by_unit.items()
    )
    rows = [(row.account, str(row.amount)) for row in report.trial.rows]
    name = "sum" if report.trial.balanced else "sum: NOT BALANCED"
    draw(console, ("account", ">micro-CNY"), rows, "Trial balance", footer=(name, sums))
