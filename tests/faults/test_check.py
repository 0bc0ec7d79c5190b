"""The judge sees what it is there to see: each kind of loss and doubling, planted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.faults import check
from tests.faults.witness import Run, Witness


class Planted(SimpleNamespace):
    """Books with the rows of a test."""

    def __getattr__(self, name: str) -> list[Any]:
        return []


def lease(epoch: int = 1, end_reason: str = "exited") -> SimpleNamespace:
    return SimpleNamespace(lease_id="o.0", epoch=epoch, end_reason=end_reason)


def usage(n: int, from_ms: int, to_ms: int, final: bool = False) -> SimpleNamespace:
    return SimpleNamespace(lease_id="o.0", epoch=1, n=n, from_ms=from_ms, to_ms=to_ms, wall_ms=to_ms, final=final)


def charge(wall_ms: int, disputed: bool = False, compute: int = 1) -> SimpleNamespace:
    inputs = f'{{"wall_ms": {wall_ms}}}'
    return SimpleNamespace(
        lease_id="o.0", epoch=1, disputed=disputed, compute_microcny=compute, energy_microcny=0, inputs=inputs
    )


def heard(tmp_path: Path, *runs: Run) -> Witness:
    witness = Witness(tmp_path / "witness")
    witness.runs = {run.nonce: run for run in runs}
    return witness


def run(nonce: str, epoch: int, start_ms: int, last_ms: int, ended: bool = True) -> Run:
    return Run("o.0", epoch, 0, nonce, start_ms * 1000, last_ms * 1000, ended)


def test_a_job_that_runs_twice_at_once_is_seen(tmp_path: Path) -> None:
    books: Any = Planted(leases=[lease(1), lease(2)])
    apart = heard(tmp_path, run("a", 1, 0, 100, ended=False), run("b", 2, 101, 200))
    assert list(check._runs(books, apart)) == []
    at_once = heard(tmp_path, run("a", 1, 0, 100), run("b", 2, 60, 200))
    assert list(check._runs(books, at_once)) == ["o.0: attempt 2 began 40 ms before 1 was over"]
    twice = heard(tmp_path, run("a", 1, 0, 100), run("b", 1, 150, 200))
    assert list(check._runs(books, twice)) == ["o.0.1 rank 0 was started twice"]


def test_run_time_that_nobody_is_billed_for_is_seen(tmp_path: Path) -> None:
    witness = heard(tmp_path, run("a", 1, 0, 90))
    whole = [usage(0, 0, 50), usage(1, 50, 100, final=True)]
    good: Any = Planted(leases=[lease()], usage=whole, charges=[charge(100)])
    assert list(check._usage(good, witness)) == []
    for bad in (
        Planted(leases=[lease()], usage=whole, charges=[charge(50)]),  # a part only
        Planted(leases=[lease()], usage=whole),  # no charge
        Planted(leases=[lease()], usage=whole[1:], charges=[charge(100)]),  # a hole
        Planted(leases=[lease()], usage=[usage(0, 0, 50, final=True)], charges=[charge(50)]),  # less than was seen
        Planted(leases=[lease()]),  # never measured
        Planted(leases=[lease(end_reason="lost")], usage=whole, charges=[charge(100)]),  # billed, not disputed
    ):
        books: Any = bad
        assert list(check._usage(books, witness)), bad


def test_money_that_does_not_add_up_is_seen() -> None:
    def row(**fields: object) -> SimpleNamespace:
        return SimpleNamespace(**fields)

    post = row(source="world:deposits", destination="org:lab:available", unit="CNY/6", amount=1_000_000_000)
    rows = [row(account="world:deposits", unit="CNY/6", amount=-1_000_000_000)]
    lab = row(account="org:lab:available", unit="CNY/6", amount=1_000_000_000)
    good: Any = Planted(postings=[post], balances=[*rows, lab])
    assert list(check._money(good)) == []
    lost: Any = Planted(postings=[post], balances=[*rows, row(account=lab.account, unit=lab.unit, amount=5)])
    held: Any = Planted(postings=[post], balances=[*rows, lab], holds=[row(order_id="o", left_amount=7)])
    twice: Any = Planted(postings=[post, post], balances=[*rows, lab])
    assert all(list(check._money(books)) for books in (lost, held, twice))
