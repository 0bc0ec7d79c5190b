"""Every set of postings balances; a capture never takes more than its hold; a reversal undoes."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yunhe.core import posting
from yunhe.core.errors import InvalidInput
from yunhe.core.posting import CNY, Posting, PostingKind, PostingSet

ORGS = st.sampled_from(["alice", "bob", "center-1"])
AMOUNTS = st.integers(1, 10**15)
ACCOUNTS = st.sampled_from([posting.DEPOSITS, posting.FEES, posting.available("a"), posting.held("a")])


@st.composite
def captures(draw: st.DrawFn) -> PostingSet:
    hold = draw(st.integers(0, 10**12))
    provider = draw(st.integers(0, hold))
    fee = draw(st.integers(0, hold - provider))
    return posting.capture(
        "c1", 7, draw(ORGS), draw(ORGS), hold_microcny=hold, provider_microcny=provider, fee_microcny=fee
    )


@st.composite
def any_set(draw: st.DrawFn) -> PostingSet:
    pairs = draw(st.lists(st.tuples(ACCOUNTS, ACCOUNTS, AMOUNTS, st.sampled_from([CNY, "TOKEN/3"])), max_size=8))
    moves = tuple(Posting(a, b, amount, unit) for a, b, amount, unit in pairs if a != b)
    return PostingSet("r", 0, PostingKind.CAPTURE, moves)


@given(st.one_of(captures(), any_set()))
def test_every_set_sums_to_zero_per_unit(postings: PostingSet) -> None:
    for unit in sorted({move.unit for move in postings.postings}):
        assert sum(posting.deltas(postings, unit).values()) == 0


@given(st.one_of(captures(), any_set()))
def test_a_reversal_undoes_and_says_what(postings: PostingSet) -> None:
    undone = posting.reversal(postings, 9)
    assert undone.ref == f"reversal:{postings.ref}"
    assert undone.kind is PostingKind.REVERSAL
    for unit in sorted({move.unit for move in postings.postings}):
        total = Counter(posting.deltas(postings, unit))
        total.update(posting.deltas(undone, unit))
        assert not any(total.values())


@given(captures())
def test_a_capture_empties_its_part_of_the_hold(postings: PostingSet) -> None:
    taken = sum(p.amount for p in postings.postings)
    back = sum(p.amount for p in postings.postings if p.destination.endswith(":available"))
    assert all(p.source.endswith(":held") for p in postings.postings)
    assert 0 <= back <= taken


def test_the_way_of_money_through_one_order() -> None:
    sets = (
        posting.deposit("d", 1, "alice", 100),
        posting.hold("h", 2, "alice", 60),
        posting.capture("c", 3, "alice", "center-1", hold_microcny=60, provider_microcny=38, fee_microcny=2),
    )
    balances: Counter[str] = Counter()
    for each in sets:
        balances.update(posting.deltas(each))
    assert {account: amount for account, amount in balances.items() if amount} == {
        "world:deposits": -100,
        "org:alice:available": 60,
        "org:center-1:earned": 38,
        "operator:fees": 2,
    }


def test_a_capture_over_its_hold_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        posting.capture("c", 0, "a", "b", hold_microcny=10, provider_microcny=10, fee_microcny=1)
    assert caught.value.field == "hold"


def test_a_free_task_moves_nothing() -> None:
    free = posting.capture("c", 0, "a", "b", hold_microcny=0, provider_microcny=0, fee_microcny=0)
    assert free.postings == ()
    assert posting.deltas(free) == {}


@pytest.mark.parametrize("amount", [0, -5])
def test_nothing_and_less_are_not_deposited(amount: int) -> None:
    with pytest.raises(InvalidInput, match="more than zero"):
        posting.deposit("d", 0, "a", amount)


def test_negative_parts_are_refused() -> None:
    with pytest.raises(InvalidInput, match="more than zero"):
        posting.capture("c", 0, "a", "b", hold_microcny=5, provider_microcny=6, fee_microcny=-1)


def test_a_posting_needs_two_accounts() -> None:
    with pytest.raises(InvalidInput, match="two accounts"):
        Posting("x", "x", 1)


def test_guards_come_in_sorted_order() -> None:
    change = posting.deltas(posting.capture("c", 0, "z", "a", hold_microcny=9, provider_microcny=5, fee_microcny=1))
    assert list(change) == sorted(change)
