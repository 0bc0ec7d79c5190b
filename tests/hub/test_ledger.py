"""The ledger: what is booked sums to zero, holds are never over-captured, and nobody goes under the credit limit."""

import threading

import pytest

from tests.hub.conftest import NOW_MS, Begin
from yunhe.core import posting
from yunhe.core.errors import Conflict, IdempotencyConflict, InsufficientFunds, InvalidInput, NotFound
from yunhe.hub.accounts import service as accounts
from yunhe.hub.accounts.service import Organisation
from yunhe.hub.ledger import service as ledger
from yunhe.hub.ledger.service import Capture, Deposit, NewHold, Release
from yunhe.hub.platform.writer import Tx

CNY = 1_000_000


@pytest.fixture
def funded(tx: Tx) -> Tx:
    """acme has 100 CNY and no credit, poor has nothing but 5 CNY of credit, site-co earns."""
    accounts.create_organisations(
        tx,
        [
            Organisation("acme", "Acme"),
            Organisation("poor", "Poor", credit_limit_microcny=5 * CNY),
            Organisation("site-co", "Site Co"),
        ],
    )
    ledger.deposit(tx, [Deposit("acme", 100 * CNY, "bank-1", NOW_MS)])
    return tx


def charge(order: str, hold: int, provider: int, fee: int, n: int = 0) -> Capture:
    return Capture(
        order,
        posting.capture(
            f"capture:{order}:{n}",
            NOW_MS,
            "acme",
            "site-co",
            hold_microcny=hold,
            provider_microcny=provider,
            fee_microcny=fee,
        ),
    )


def check_books(tx: Tx) -> None:
    trial = ledger.trial_balance(tx.conn)
    assert trial.balanced
    assert set(trial.sum_by_unit.values()) <= {0}


def test_the_way_of_money(funded: Tx) -> None:
    assert ledger.hold_many(funded, [NewHold("o1", "acme", 30 * CNY)]) == [None]
    assert ledger.balance(funded.conn, "acme").available == 70 * CNY
    assert ledger.capture(funded, [charge("o1", 20 * CNY, 11 * CNY, 1 * CNY)]) == [None]
    assert ledger.find_hold(funded.conn, "o1") == ledger.Hold("o1", "acme", 30 * CNY, 10 * CNY)
    assert ledger.release(funded, [Release("o1", "release:o1", NOW_MS)]) == [10 * CNY]
    acme, site = ledger.balance(funded.conn, "acme"), ledger.balance(funded.conn, "site-co")
    assert (acme.available, acme.held, site.earned) == (88 * CNY, 0, 11 * CNY)
    trial = ledger.trial_balance(funded.conn)
    assert {row.account: row.amount for row in trial.rows}[posting.FEES] == CNY
    assert trial.postings == 1 + 1 + 3 + 1
    check_books(funded)


def test_a_repeat_is_not_booked_twice(funded: Tx) -> None:
    ledger.hold_many(funded, [NewHold("o1", "acme", 30 * CNY)])
    for _ in range(2):
        assert ledger.capture(funded, [charge("o1", 20 * CNY, 20 * CNY, 0)]) == [None]
    both = [Release("o1", "release:o1", NOW_MS), Release("o1", "release:o1", NOW_MS)]
    assert ledger.release(funded, both) == [10 * CNY, 0]
    assert ledger.release(funded, both) == [0, 0]
    assert ledger.balance(funded.conn, "acme").available == 80 * CNY
    one = posting.deposit("x", NOW_MS, "acme", 5)
    assert ledger.post(funded, [one, one]) == ("x",)
    assert ledger.post(funded, [one]) == ()
    assert ledger.balance(funded.conn, "acme").available == 80 * CNY + 5
    check_books(funded)


def test_captures_never_exceed_the_hold(funded: Tx) -> None:
    ledger.hold_many(funded, [NewHold("o1", "acme", 30 * CNY)])
    results = ledger.capture(funded, [charge("o1", 20 * CNY, 20 * CNY, 0, n) for n in range(2)])
    assert results[0] is None
    assert isinstance(results[1], Conflict)
    assert isinstance(ledger.release(funded, [Release("o1", "r", NOW_MS, 11 * CNY)])[0], Conflict)
    assert isinstance(ledger.release(funded, [Release("o1", "r", NOW_MS, -1)])[0], Conflict)
    assert isinstance(ledger.capture(funded, [charge("none", 1, 1, 0)])[0], NotFound)
    assert isinstance(ledger.release(funded, [Release("none", "r", NOW_MS)])[0], NotFound)
    check_books(funded)


def test_a_set_against_another_customers_hold_is_refused(funded: Tx) -> None:
    ledger.hold_many(funded, [NewHold("o1", "acme", 30 * CNY), NewHold("p1", "poor", 5 * CNY)])
    assert isinstance(ledger.capture(funded, [charge("p1", CNY, CNY, 0)])[0], Conflict)
    assert ledger.balance(funded.conn, "acme").held == 30 * CNY


def test_an_empty_charge_is_recorded_as_done(funded: Tx) -> None:
    ledger.hold_many(funded, [NewHold("o1", "acme", 0)])
    free = charge("o1", 0, 0, 0)
    assert ledger.capture(funded, [free]) == [None]
    assert ledger.post(funded, [free.postings]) == ()
    assert ledger.trial_balance(funded.conn).postings == 1
    check_books(funded)


def test_holds_that_do_not_fit_are_refused_in_order(funded: Tx) -> None:
    wanted = [
        NewHold("a", "acme", 60 * CNY),
        NewHold("p", "poor", 3 * CNY),
        NewHold("b", "acme", 50 * CNY),
        NewHold("c", "acme", 40 * CNY),
        NewHold("q", "poor", 3 * CNY),
        NewHold("z", "nobody", CNY),
    ]
    results = ledger.hold_many(funded, wanted)
    assert [type(r) for r in results] == [
        type(None),
        type(None),
        InsufficientFunds,
        type(None),
        InsufficientFunds,
        InsufficientFunds,
    ]
    assert ledger.balance(funded.conn, "acme").available == 0
    assert ledger.balance(funded.conn, "poor").available == -3 * CNY
    assert ledger.find_hold(funded.conn, "b") is None
    check_books(funded)


def test_an_account_without_a_row_can_use_its_credit(funded: Tx) -> None:
    assert isinstance(ledger.hold_many(funded, [NewHold("p", "poor", 5 * CNY + 1)])[0], InsufficientFunds)
    assert ledger.hold_many(funded, [NewHold("p", "poor", 5 * CNY)]) == [None]


def test_ten_thousand_holds_in_one_transaction(funded: Tx) -> None:
    ledger.deposit(funded, [Deposit("acme", 1_000 * CNY, "bank-2", NOW_MS)])
    results = ledger.hold_many(funded, [NewHold(f"o{n}", "acme", 100_000) for n in range(10_000)])
    assert results == [None] * 10_000
    assert ledger.balance(funded.conn, "acme").held == 1_000 * CNY
    check_books(funded)


def test_a_deposit_is_booked_once_per_reference(funded: Tx) -> None:
    again, other, nobody = ledger.deposit(
        funded,
        [
            Deposit("acme", 100 * CNY, "bank-1", NOW_MS + 5),
            Deposit("acme", 99 * CNY, "bank-1", NOW_MS),
            Deposit("nobody", CNY, "bank-9", NOW_MS),
        ],
    )
    assert isinstance(again, ledger.Balance)
    assert again.available == 100 * CNY
    assert isinstance(other, IdempotencyConflict)
    assert isinstance(nobody, InvalidInput)


def test_a_floor_guards_a_payment(funded: Tx) -> None:
    pay = posting.PostingSet(
        "pay",
        NOW_MS,
        posting.PostingKind.CAPTURE,
        (posting.Posting(posting.available("acme"), posting.earned("site-co"), 101 * CNY),),
    )
    with pytest.raises(InsufficientFunds):
        ledger.post(funded, [pay], {posting.available("acme"): 0})


def test_a_balance_that_was_tampered_with_is_seen(funded: Tx) -> None:
    funded.conn.exec_driver_sql("UPDATE balance SET amount = amount + 1 WHERE account = 'org:acme:available'")
    trial = ledger.trial_balance(funded.conn)
    assert not trial.balanced
    assert trial.sum_by_unit == {posting.CNY: 0}


def test_postings_are_listed_newest_first_by_pages(funded: Tx) -> None:
    for n in range(5):
        ledger.deposit(funded, [Deposit("poor", n + 1, f"r{n}", NOW_MS + n // 2)])
    own = ledger.own_accounts("poor")
    seen, cursor = [], None
    while True:
        page, cursor = ledger.postings(funded.conn, own, cursor, limit=2)
        seen += [row.amount for row in page]
        if cursor is None:
            break
    assert seen == [5, 4, 3, 2, 1]
    everything, _ = ledger.postings(funded.conn, None, None)
    assert len(everything) == 6
    with pytest.raises(InvalidInput):
        ledger.postings(funded.conn, None, "nonsense")


@pytest.mark.usefixtures("only_postgresql")
def test_two_writers_share_one_balance(begin: Begin) -> None:
    """Two replicas hold for the same account at once: together they never take more than there is."""
    with begin() as tx:
        accounts.create_organisations(tx, [Organisation("acme", "Acme")])
        ledger.deposit(tx, [Deposit("acme", 1_000, "bank", NOW_MS)])
    results: list[object] = []

    def hold(writer: int) -> None:
        for n in range(30):
            with begin() as tx:
                results.extend(ledger.hold_many(tx, [NewHold(f"{writer}-{n}-{i}", "acme", 10) for i in range(3)]))

    run_at_once(hold)
    assert results.count(None) == 100
    assert len(results) == 180
    with begin() as tx:
        assert ledger.balance(tx.conn, "acme").available == 0
        check_books(tx)


@pytest.mark.usefixtures("only_postgresql")
def test_two_writers_settle_the_same_order_once(begin: Begin) -> None:
    """Two leaders at once capture and release the same holds under the same refs: booked once, nothing lost."""
    with begin() as tx:
        accounts.create_organisations(tx, [Organisation("acme", "Acme"), Organisation("site-co", "Site Co")])
        ledger.deposit(tx, [Deposit("acme", 1_000, "bank", NOW_MS)])
        ledger.hold_many(tx, [NewHold(f"o{n}", "acme", 20) for n in range(50)])
    released: list[object] = []

    def settle(writer: int) -> None:
        for n in range(50):
            with begin() as tx:
                assert ledger.capture(tx, [charge(f"o{n}", 15, 10, 1)]) == [None]
                released.extend(ledger.release(tx, [Release(f"o{n}", f"release:o{n}", NOW_MS + writer)]))

    run_at_once(settle)
    assert sorted(released) == [0] * 50 + [5] * 50
    with begin() as tx:
        assert ledger.balance(tx.conn, "site-co").earned == 500
        assert ledger.balance(tx.conn, "acme").available == 1_000 - 50 * 11
        check_books(tx)


def run_at_once(work: object) -> None:
    """Run `work(0)` and `work(1)` in two threads; what one raises is raised here."""
    assert callable(work)
    failures: list[BaseException] = []

    def guarded(writer: int) -> None:
        try:
            work(writer)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]
