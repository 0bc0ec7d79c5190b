"""The main job, shown: a network on this machine runs the example orders and settles them.

1. start the network
2. submit the orders in the order of `expected.yaml`
3. steer those that are to be withdrawn or cancelled
4. wait for all, compare with what was expected
5. tell it: tables for people, one JSON object for programs
"""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from yunhe.apps import demo_engines
from yunhe.apps.demo_report import Line, Report, as_json, show
from yunhe.apps.embedded import EngineSite, Network, Say, say_next, say_stopped, stay
from yunhe.core.errors import InvalidInput, YunheError
from yunhe.core.lifecycle import ORDER_ENDED, OrderState
from yunhe.sdk.client import Client
from yunhe.sdk.config import NETWORK_FOLDER
from yunhe.sdk.orderfile import load_order
from yunhe.wire.api import OrderDetail, OrderSpec, QuoteView

ORDER_S = 240.0  # the longest that the orders may take together
POLL_S = 0.25
CANCEL_AFTER_S = 0.5
EXIT_LACKING = 2


@dataclass
class Placed:
    """An example order and what became of it."""

    file: str
    expected: str
    spec: OrderSpec
    quote: QuoteView | None = None
    order_id: str | None = None
    refusal: YunheError | None = None
    why: str = ""
    detail: OrderDetail | None = None

    @property
    def came(self) -> str:
        """What came, in the words of `expected.yaml`."""
        if self.refusal is not None:
            return f"refused:{self.refusal.code}"
        if self.detail is None:
            return "unknown"
        if self.detail.state is not OrderState.FAILED:
            return self.detail.state.value
        first = next(task for task in self.detail.task_list if task.state == "failed")
        status = f":{first.exit_code}" if first.reason == "exited" else ""
        return f"failed:{first.reason}{status}"


@dataclass
class Run:
    """The orders of a demo on their way."""

    client: Client
    say: Say
    network: Network
    orders: list[Placed] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)

    def submit(self, file: Path, expected: str) -> None:
        placed = Placed(file.name, expected, load_order(file))
        self.orders.append(placed)
        try:
            placed.quote = self.client.quote(placed.spec)
            placed.order_id = self.client.submit(placed.spec).id
            self.say(f"  {placed.spec.name}: ordered, {_offers(placed.quote)}")
        except YunheError as refusal:
            placed.refusal = refusal
            self.say(f"  {placed.spec.name}: refused: {refusal}")

    def steer(self) -> None:
        """Ask why an order waits and withdraw it; cancel one that runs."""
        for placed in self.orders:
            if placed.order_id is None:
                continue
            if placed.expected == "withdrawn":
                why = self.client.why(placed.order_id)
                placed.why = why.summary
                self.say(f"  {placed.spec.name}: {why.summary}")
                for site in why.sites:
                    lacks = "; ".join(f"{r.code}: needs {r.need}, has {r.have}" for r in site.reasons)
                    self.say(f"    {site.pool_id or site.site_id}: {lacks}")
                self.client.cancel(placed.order_id)

    def follow(self) -> None:
        """Until every order has ended and is settled, or time is up."""
        until = time.monotonic() + ORDER_S
        running_since: dict[str, float] = {}
        while time.monotonic() < until:
            self.network.check()
            open_ids = [p for p in self.orders if p.order_id and not self._over(p)]
            if not open_ids:
                return
            for placed in open_ids:
                assert placed.order_id is not None
                view = self.client.order(placed.order_id)
                placed.detail = view
                self._tell(placed, view)
                if placed.expected == "cancelled" and any(t.started_utc_ms for t in view.task_list):
                    since = running_since.setdefault(placed.order_id, time.monotonic())
                    if time.monotonic() - since > CANCEL_AFTER_S and view.state is OrderState.RUNNING:
                        self.client.cancel(placed.order_id)
            time.sleep(POLL_S)

    @staticmethod
    def _over(placed: Placed) -> bool:
        detail = placed.detail
        return detail is not None and detail.settled and detail.state in ORDER_ENDED

    def _tell(self, placed: Placed, view: OrderDetail) -> None:
        at = sorted({task.site_id for task in view.task_list if task.site_id})
        text = f"  {placed.spec.name}: {view.state.value}" + (f" at {', '.join(at)}" if at else "")
        if self.told.get(view.id) != text:
            self.told[view.id] = text
            self.say(text)


def demo(folder: Path, orders: Path, *, leave: bool, json_only: bool, engines: Sequence[str] = ()) -> int:
    """Run the demo in `folder`/.yunhe/demo, with the order files of `orders`. Returns the exit status.

    `leave`: end when all is told, with status 0 if all went as expected, 1 otherwise. Without it the network stays up
    until Ctrl-C.  `json_only`: one JSON object on standard output and nothing else there.  `engines`: what runs the
    jobs of the sites, in their order, private ones that are started for it; status 2 where one is not installed.
    """
    say = _sayer(json_only)
    wanted = list(_expected(orders))
    chosen = demo_engines.checked(engines) if engines else ()
    for why in (lacking := demo_engines.missing(chosen)):
        print(why, file=sys.stderr)
    if lacking:
        return EXIT_LACKING
    data_dir = folder / NETWORK_FOLDER / "demo"
    started = time.monotonic()
    say("Starting a hub and three sites on this machine ...")
    with demo_engines.running(chosen, say) as clusters, _fresh_network(folder, data_dir, say, clusters) as network:
        report = _run(network, wanted, say, started)
        if chosen:
            report = replace(report, engines=tuple(network.engines().items()))
        if json_only:
            print(as_json(report), flush=True)
        else:
            show(report)
        if not leave:
            say_next(say, network)
            stay(network)
    if not leave:
        say_stopped(say)
    return 0 if report.as_expected else 1


def _run(network: Network, wanted: list[tuple[Path, str]], say: Say, started: float) -> Report:
    with network.customer() as customer, network.operator() as operator:
        say(f"Placing {len(wanted)} orders ...")
        first_s = time.monotonic()
        run = Run(customer, say, network)
        for file, expected in wanted:
            run.submit(file, expected)
        run.steer()
        run.follow()
        busy_s = time.monotonic() - first_s
        lines = [_line(customer, placed) for placed in run.orders]
        return Report(
            lines=tuple(lines),
            sites=tuple(operator.site(site.id) for site in operator.sites()),
            stats=operator.stats(),
            trial=operator.trial_balance(),
            busy_s=busy_s,
            seconds=time.monotonic() - started,
        )


def _line(customer: Client, placed: Placed) -> Line:
    charges = customer.usage(placed.order_id).charges if placed.order_id else ()
    if placed.order_id:
        placed.detail = customer.order(placed.order_id)
    return Line(
        name=placed.spec.name,
        expected=placed.expected,
        came=placed.came,
        preference=placed.spec.preference.value,
        quote=placed.quote,
        detail=placed.detail,
        charges=charges,
        remark=placed.refusal.message if placed.refusal else placed.why,
    )


def _offers(quote: QuoteView) -> str:
    if not quote.offers:
        return "no site fits now"
    best = quote.offers[0]
    return f"{len(quote.offers)} of {len(quote.offers) + len(quote.refused)} pools fit, best {best.site_id}"


def _expected(orders: Path) -> Iterator[tuple[Path, str]]:
    file = orders / "expected.yaml"
    try:
        table = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InvalidInput(
            f"cannot be read: {error}", field=str(file), hint="run it in the project's folder, or name --orders"
        ) from error
    if not isinstance(table, dict) or not table:
        raise InvalidInput("must map order files to how they end", field=str(file))
    for name, expected in table.items():
        yield orders / str(name), str(expected)


def _fresh_network(folder: Path, data_dir: Path, say: Say, clusters: Mapping[str, EngineSite]) -> Network:
    """The demo starts from nothing each time; only its own folder is emptied."""
    shutil.rmtree(data_dir, ignore_errors=True)
    return Network(folder, data_dir, say, clusters=clusters)


def _sayer(json_only: bool) -> Say:
    stream = sys.stderr if json_only else sys.stdout

    def say(text: str) -> None:
        print(text, file=stream, flush=True)

    return say
