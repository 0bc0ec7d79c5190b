"""Random holds, captures, releases, deposits and repeats, against a model of the book in plain dictionaries."""

import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from tests.hub.conftest import NOW_MS
from yunhe.core import posting
from yunhe.core.errors import Conflict, InsufficientFunds
from yunhe.hub.accounts import service as accounts
from yunhe.hub.accounts.service import Organisation
from yunhe.hub.ledger import service as ledger
from yunhe.hub.ledger.service import Capture, Deposit, NewHold, Release
from yunhe.hub.platform.db import Database, metadata
from yunhe.hub.platform.writer import Tx

CREDIT = {"a": 0, "b": 300}
AMOUNT = st.integers(0, 400)


class Book(RuleBasedStateMachine):
    """The model: what each organisation has, what is left of each hold, which refs are booked."""

    orders = Bundle("orders")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.db = Database(f"sqlite:///{Path(self.folder.name) / 'hub.db'}", 1)
        metadata.create_all(self.db.write_engine)
        self.conn = self.db.write_engine.connect()
        self.transaction = self.conn.begin()
        self.tx = Tx(self.conn, NOW_MS)
        names = [*CREDIT, "site"]
        accounts.create_organisations(self.tx, [Organisation(n, n, CREDIT.get(n, 0)) for n in names])
        self.available = dict.fromkeys(CREDIT, 0)
        self.left: dict[str, int] = {}
        self.org_of: dict[str, str] = {}
        self.earned = self.fees = self.paid_in = self.refs = 0

    def teardown(self) -> None:
        self.transaction.rollback()
        self.conn.close()
        self.db.close()
        self.folder.cleanup()

    def _ref(self, what: str) -> str:
        self.refs += 1
        return f"{what}:{self.refs}"

    @rule(org=st.sampled_from(sorted(CREDIT)), amount=st.integers(1, 1000), times=st.integers(1, 2))
    def deposit(self, org: str, amount: int, times: int) -> None:
        wanted = Deposit(org, amount, self._ref("bank"), NOW_MS)
        for _ in range(times):
            (balance,) = ledger.deposit(self.tx, [wanted])
            assert isinstance(balance, ledger.Balance)
        self.available[org] += amount
        self.paid_in += amount

    @rule(target=orders, batch=st.lists(st.tuples(st.sampled_from(sorted(CREDIT)), AMOUNT), min_size=1, max_size=6))
    def hold(self, batch: list[tuple[str, int]]) -> str:
        wanted = [NewHold(self._ref("o"), org, amount) for org, amount in batch]
        results = ledger.hold_many(self.tx, wanted)
        for item, result in zip(wanted, results, strict=True):
            org = item.organisation
            if item.amount <= self.available[org] + CREDIT[org] or not item.amount:
                assert result is None
                self.available[org] -= item.amount
                self.left[item.order_id] = item.amount
                self.org_of[item.order_id] = org
            else:
                assert isinstance(result, InsufficientFunds)
        return wanted[0].order_id

    @rule(order=orders, provider=AMOUNT, fee=st.integers(0, 20), rest=st.integers(0, 50), times=st.integers(1, 2))
    def capture(self, order: str, provider: int, fee: int, rest: int, times: int) -> None:
        org = self.org_of.get(order, "a")
        amount = provider + fee + rest
        moves = posting.capture(
            self._ref("capture"),
            NOW_MS,
            org,
            "site",
            hold_microcny=amount,
            provider_microcny=provider,
            fee_microcny=fee,
        )
        for _ in range(times):
            (result,) = ledger.capture(self.tx, [Capture(order, moves)])
            if order not in self.left:
                assert result is not None and result.code == "not_found"
            elif amount > self.left[order]:
                assert isinstance(result, Conflict)
            else:
                assert result is None
                self.left[order] -= amount
                self.available[org] += rest
                self.earned += provider
                self.fees += fee
                amount = provider = fee = rest = 0  # the repeat books nothing

    @rule(order=orders, amount=st.none() | st.integers(1, 400), times=st.integers(1, 2))
    def release(self, order: str, amount: int | None, times: int) -> None:
        wanted = Release(order, self._ref("release"), NOW_MS, amount)
        booked = False
        for result in ledger.release(self.tx, [wanted] * times):
            left = self.left.get(order)
            if left is None:
                assert not isinstance(result, int) and result.code == "not_found"
            elif booked or amount is None and not left:
                assert result == 0
            elif amount is not None and amount > left:
                assert isinstance(result, Conflict)
            else:
                assert result == (left if amount is None else amount)
                assert isinstance(result, int)
                self.left[order] -= result
                self.available[self.org_of[order]] += result
                booked = True

    @invariant()
    def the_book_agrees_with_the_model(self) -> None:
        for org in CREDIT:
            balance = ledger.balance(self.conn, org)
            held = sum(left for order, left in self.left.items() if self.org_of[order] == org)
            assert (balance.available, balance.held) == (self.available[org], held)
            assert balance.available >= -CREDIT[org]
        assert all(left >= 0 for left in self.left.values())
        assert ledger.balance(self.conn, "site").earned == self.earned

    @invariant()
    def everything_sums_to_zero(self) -> None:
        trial = ledger.trial_balance(self.conn)
        assert trial.balanced
        rows = {row.account: row.amount for row in trial.rows}
        assert rows.get(posting.FEES, 0) == self.fees
        assert rows.get(posting.DEPOSITS, 0) == -self.paid_in


TestBook = Book.TestCase
TestBook.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
