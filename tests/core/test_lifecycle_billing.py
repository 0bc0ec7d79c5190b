"""Lifecycle, metering, rating and postings together: every second that ran is billed once or told as disputed.

The machine plays a hub and its sites over a link that loses, repeats and reorders usage records.
"""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from yunhe.core import posting, usage
from yunhe.core.lifecycle import (
    DISPUTED,
    ENDED,
    PLACED,
    CancelRequested,
    Ended,
    EndReason,
    Event,
    GivenUp,
    Placed,
    SiteBack,
    SiteSilent,
    Started,
    Task,
    TaskState,
    step,
)
from yunhe.core.posting import PostingSet
from yunhe.core.tariff import RatingInputs, rate
from yunhe.core.usage import Accepted, Conflict, Duplicate, Gap, Interval, Prefix, Totals

DEPOSIT, HOLD = 10**9, 5_000_000
REASONS = st.sampled_from(list(EndReason))


@dataclass
class Attempt:
    """One lease epoch: what its site measured, and what the hub knows of it."""

    site: str
    ran: list[Interval] = field(default_factory=list)
    known: Prefix = field(default_factory=Prefix)
    kept: dict[int, Interval] = field(default_factory=dict)
    settled: Prefix = field(default_factory=Prefix)
    reason: EndReason | None = None
    kept_ms: int = 0  # preempted: up to the newest checkpoint
    over: bool = False  # at the site


class OneOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.task = Task("order.0", retries_left=2)
        self.attempts: dict[int, Attempt] = {}
        self.balance: Counter[str] = Counter()
        self.hold_left = HOLD
        self.billed_ms = self.disputed_ms = self.charged = 0
        self.book(posting.deposit("deposit", 0, "customer", DEPOSIT))
        self.book(posting.hold("hold", 0, "customer", HOLD))

    def book(self, postings: PostingSet) -> None:
        change = posting.deltas(postings)
        assert sum(change.values()) == 0
        for account, amount in change.items():
            self.balance[account] += amount

    def give(self, event: Event) -> None:
        before = self.task
        self.now_ms += 1
        result = step(before, event, self.now_ms)
        self.task = result.task
        if result.released:
            self.attempts[before.epoch].reason = self.task.reason

    @property
    def running(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts.values() if not attempt.over]

    @precondition(lambda self: self.task.state is TaskState.PENDING and not self.running)
    @rule(site=st.sampled_from(["north", "west"]))
    def place(self, site: str) -> None:
        self.give(Placed(site, f"{site}:cpu"))
        self.attempts[self.task.epoch] = Attempt(site)

    @rule()
    def start(self) -> None:
        self.give(Started(self.task.epoch))

    @precondition(lambda self: self.running)
    @rule(ms=st.integers(1, 10**7), busy=st.floats(0, 1), memory=st.integers(0, 2**35))
    def run_on(self, ms: int, busy: float, memory: int) -> None:
        """The site measures one more interval; the hub may never hear of it in time."""
        self.measure(self.running[0], ms, busy, memory, final=False)

    def measure(self, attempt: Attempt, ms: int, busy: float, memory: int, *, final: bool) -> None:
        last = Prefix(attempt.ran[-1] if attempt.ran else None)
        used = last.totals
        at = last.to_ms + ms
        totals = Totals(at, used.cpu_ms + int(ms * busy), max(used.peak_memory_bytes, memory))
        attempt.ran.append(Interval(last.next_n, last.to_ms, at, totals, final))

    @precondition(lambda self: self.running)
    @rule(reason=REASONS, exit_code=st.integers(0, 2), told=st.booleans(), saved=st.floats(0, 1))
    def end(self, reason: EndReason, exit_code: int, told: bool, saved: float) -> None:
        """The job ends at its site; when the word is lost, only silence and giving up remain."""
        epoch = max(self.attempts)
        attempt = self.attempts[epoch]
        self.measure(attempt, 0, 0, 0, final=True)
        attempt.over = True
        if told:
            keeps = reason is EndReason.PREEMPTED and self.task.started
            attempt.kept_ms = int(attempt.ran[-1].to_ms * saved) if keeps else 0
            self.give(Ended(epoch, reason, exit_code, attempt.kept_ms))
        else:
            self.give(SiteSilent())
            self.give(GivenUp())

    @precondition(lambda self: any(attempt.ran for attempt in self.attempts.values()))
    @rule(data=st.data())
    def record_arrives(self, data: st.DataObject) -> None:
        """Any record of any attempt, early, late or again."""
        attempt = data.draw(st.sampled_from([a for a in self.attempts.values() if a.ran]))
        self.receive(attempt, data.draw(st.sampled_from(attempt.ran)))

    def receive(self, attempt: Attempt, record: Interval) -> None:
        match usage.accept(attempt.known, record, attempt.kept.get(record.n)):
            case Accepted(prefix):
                attempt.kept[record.n] = record
                attempt.known, _ = usage.extend(prefix, attempt.kept.values())
            case Gap():
                attempt.kept[record.n] = record
            case Duplicate():
                pass
            case Conflict(reason):
                raise AssertionError(reason)

    @rule()
    def settle_what_is_over(self) -> None:
        for epoch, attempt in self.attempts.items():
            if attempt.reason is not None:
                self.settle(epoch, attempt)

    def settle(self, epoch: int, attempt: Attempt) -> None:
        if attempt.reason is EndReason.PREEMPTED and not attempt.known.complete:
            return  # what was kept of it is rated once, when it is known
        used = usage.between(attempt.settled, attempt.known)
        disputed = attempt.reason in DISPUTED
        keeps = disputed and attempt.settled != attempt.known
        kept = usage.up_to(attempt.kept.values(), attempt.kept_ms) if keeps else usage.NOTHING_USED
        attempt.settled = attempt.known
        charge = rate(
            RatingInputs(
                milli=1_500,
                wall_ms=used.wall_ms,
                cpu_ms=used.cpu_ms,
                price_microcny_per_unit_hour=100_000,
                power_price_microcny_per_kwh=600_000,
                transfer_microcny_per_gib=0,
                data_bytes=0,
                pue_milli=1_250,
                watts_per_unit=8,
                carbon_g_per_kwh=500,
                fee_bps=500,
                hold_microcny=self.hold_left,
                disputed=disputed,
                kept_wall_ms=kept.wall_ms,
                kept_cpu_ms=kept.cpu_ms,
            )
        )
        assert charge.price.total == 0 or kept.wall_ms or not disputed
        total = charge.price.total
        self.book(
            posting.capture(
                f"{epoch}:{attempt.known.to_ms}",
                self.now_ms,
                "customer",
                attempt.site,
                hold_microcny=total,
                provider_microcny=charge.provider_amount,
                fee_microcny=charge.fee,
            )
        )
        self.hold_left -= total
        self.charged += total
        if disputed:
            assert kept.wall_ms <= used.wall_ms and kept.cpu_ms <= used.cpu_ms
            self.billed_ms += kept.wall_ms
            self.disputed_ms += used.wall_ms - kept.wall_ms
        else:
            self.billed_ms += used.wall_ms

    @rule()
    def cancel(self) -> None:
        self.give(CancelRequested())

    @rule()
    def silence(self) -> None:
        self.give(SiteSilent())

    @rule()
    def back(self) -> None:
        self.give(SiteBack())

    @invariant()
    def money_is_neither_made_nor_lost(self) -> None:
        assert sum(self.balance.values()) == 0
        assert self.balance["org:customer:held"] == self.hold_left >= 0
        earned = sum(amount for account, amount in self.balance.items() if account.endswith(":earned"))
        assert earned + self.balance[posting.FEES] == self.charged <= HOLD

    @invariant()
    def nothing_is_counted_that_did_not_run(self) -> None:
        ran = sum(a.ran[-1].to_ms for a in self.attempts.values() if a.ran)
        assert self.billed_ms + self.disputed_ms <= ran

    def teardown(self) -> None:
        """The link heals, every record arrives, the order is closed: all time and all money is accounted for."""
        self.give(CancelRequested())
        if self.task.state in PLACED:
            for attempt in self.running:
                self.measure(attempt, 0, 0, 0, final=True)
                attempt.over = True
            self.give(Ended(self.task.epoch, EndReason.CANCELLED, None))
        assert self.task.state in ENDED
        for epoch, attempt in self.attempts.items():
            for record in attempt.ran:
                self.receive(attempt, record)
            assert attempt.known.complete
            self.settle(epoch, attempt)
        self.book(posting.release("close", self.now_ms, "customer", self.hold_left))
        self.hold_left = 0
        self.money_is_neither_made_nor_lost()
        assert self.billed_ms + self.disputed_ms == sum(a.ran[-1].to_ms for a in self.attempts.values())
        assert self.balance["org:customer:available"] == DEPOSIT - self.charged


TestOneOrder = OneOrder.TestCase
TestOneOrder.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
