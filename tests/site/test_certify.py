"""Certification by real jobs: figures with their reasons, software stacks with what they lack, challenges answered."""

import asyncio
import base64
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.fake_hub import FakeHub, certify_now
from tests.site.conftest import SiteProcess
from yunhe.core import chain
from yunhe.core.demand import Precision
from yunhe.core.lifecycle import EndReason
from yunhe.site.certify import job
from yunhe.site.certify.results import result, stack_report, with_results
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.fake import FakeDriver
from yunhe.wire.link import Certificate, PoolReport, Proof, ProveNow, RateReport

MakeSite = Callable[..., SiteProcess]
PROGRAMS = Path(__file__).parents[2] / "src/yunhe/site/certify/programs"
FRAMEWORK = ("gemm", "conv2d", "softmax", "layernorm", "attention", "backward", "allreduce")


def run(folder: Path, program: str, *words: str) -> dict[str, object]:
    """A program as a job runs it: in a folder with what lies beside it."""
    for name in (program, "device.py"):
        (folder / name).write_text((PROGRAMS / name).read_text())
    (folder / "chain.py").write_text(Path(chain.__file__).read_text())
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, program, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def pool(*precisions: Precision) -> PoolReport:
    return PoolReport(
        name="cpu",
        kind_of_unit="core",
        chip="unknown",
        chip_name="a processor",
        stack="cpu",
        capacity_milli=4_000,
        memory_bytes=1 << 33,
        max_slot_milli=4_000,
        watts_per_unit=5,
        rates=tuple(RateReport(precision=p, nominal_flops=10**11) for p in precisions),
    )


# --- the programs ---------------------------------------------------------------------------------------------------


def test_every_precision_is_measured_or_says_why_not(tmp_path: Path) -> None:
    found = run(tmp_path, "bench.py", "100", "cpu", "fp64", "fp32", "fp8")
    measured = with_results(pool(Precision.FP64, Precision.FP32, Precision.FP8), found["samples"], found["reasons"])  # type: ignore[arg-type]
    rates = {rate.precision: rate for rate in measured.rates}
    assert rates[Precision.FP64].measured_flops and rates[Precision.FP32].measured_flops
    assert rates[Precision.FP8].measured_flops is None and "hardware" in rates[Precision.FP8].not_measured
    assert {"gemm_fp64", "gemm_fp32", "memory_bandwidth", "disk_write"} == {b.name for b in measured.benchmarks}
    assert {"python", "numpy", "blas"} <= set(found["versions"])  # type: ignore[call-overload]


def test_a_card_without_its_framework_says_so(tmp_path: Path) -> None:
    found = run(tmp_path, "bench.py", "1000", "cann", "bf16", "fp16")
    assert set(found["reasons"]) == {"bf16", "fp16"}  # type: ignore[call-overload]
    assert list(found["samples"]) == ["disk_write"]  # type: ignore[call-overload]


def test_a_gang_sums_what_its_processes_have(tmp_path: Path) -> None:
    found = run(tmp_path, "gang.py", "cpu", "3")
    rates = found["samples"]["allreduce"]  # type: ignore[index]
    assert len(rates) == 5 and min(rates) > 0
    assert found["means"] in ("sockets", "torch.distributed")


def test_the_chain_by_the_program_is_the_chain_of_the_check(tmp_path: Path) -> None:
    for precision in chain.MODULI:
        what = chain.Challenge(b"k/site/cpu", precision, chain.N, chain.WIDTH, 3)
        found = run(tmp_path, "show.py", "k/site/cpu", "cpu", precision, str(what.n), str(what.width), "3")
        answer = chain.Answer(*(base64.b64decode(str(found[name])) for name in ("digests", "columns")))
        assert chain.check(what, answer, b"secret") == ""
        assert chain.check(what._replace(key=b"k/other/cpu"), answer, b"secret")


def test_median_spread_and_units() -> None:
    assert result("rtt_hub", [10.0, 30.0, 20.0], "us").model_dump() == {
        "name": "rtt_hub",
        "value": 20.0,
        "unit": "us",
        "repeats": 3,
        "spread_percent": 100.0,
    }
    measured = with_results(pool(Precision.INT8), {"gemm_int8": [4.0]})
    assert measured.benchmarks[0].unit == "OP/s" and measured.rates[0].measured_flops == 4


# --- software stacks ------------------------------------------------------------------------------------------------


def test_this_stack_runs_what_it_says(tmp_path: Path) -> None:
    found = stack_report(run(tmp_path, "stack.py", "cpu"), {"blas": "b"})
    ready, missing = set(found.operators), {item.operator for item in found.missing}
    assert {"python", "numpy", "gemm"} <= ready and not ready & missing
    assert ready | missing >= {"torch", *FRAMEWORK}
    assert found.versions["blas"] == "b" and "numpy" in found.versions


@pytest.mark.parametrize("seed", range(20))
def test_a_planted_missing_operator_is_found(tmp_path: Path, seed: int) -> None:
    """A framework that lacks a part, or does it wrong: whichever, the operator is not ready, and the rest is told."""
    planted = random.Random(seed).choice(("numpy", "torch", "wrong"))
    if planted == "numpy":
        (tmp_path / "numpy.py").write_text("raise ImportError('libopenblas.so.0: cannot open shared object file')\n")
    elif planted == "torch":
        (tmp_path / "torch.py").write_text("__version__ = '2.0'\n")
    else:
        wrong = (
            "import sys, types\n__version__ = '9'\nclass A:\n    def __getattr__(self, n): return lambda *a, **k: 1\n"
        )
        (tmp_path / "torch.py").write_text(f"{wrong}def __getattr__(name):\n    return A()\n")
    found = stack_report(run(tmp_path, "stack.py", "cpu"), {})
    missing = {item.operator: item.reason for item in found.missing}
    if planted == "numpy":
        assert "libopenblas" in missing["numpy"] and "gemm" not in found.operators
    else:
        assert {"conv2d", "softmax", "layernorm", "attention", "backward", "allreduce"} <= set(missing)
        assert {"python", "numpy", "gemm", "torch"} == set(found.operators)
    assert all(missing.values())


# --- as jobs of a site ----------------------------------------------------------------------------------------------


def asked(pool_name: str = "cpu") -> ProveNow:
    return ProveNow(
        seq=0,
        challenge="ab" * 32,
        pool=pool_name,
        precision=Precision.FP32,
        n=chain.N,
        width=chain.WIDTH,
        steps=20,
    )


def proofs(hub: FakeHub) -> list[Proof]:
    return [report for report in hub.site.reports if isinstance(report, Proof)]


def test_a_site_shows_its_rate_by_a_job(hub: FakeHub, make_site: MakeSite) -> None:
    site = make_site().start()
    hub.tell(asked())
    proof = hub.wait(lambda: proofs(hub), 60)[0]
    assert proof.error == "" and proof.challenge == "ab" * 32
    what = chain.Challenge(f"{'ab' * 32}/site-1/cpu".encode(), "fp32", chain.N, chain.WIDTH, 20)
    assert chain.check(what, chain.Answer(base64.b64decode(proof.digests), base64.b64decode(proof.columns)), b"s") == ""
    hub.wait(lambda: not list((site.data_dir / "leases").glob("certify*")))


@pytest.mark.parametrize("engine", ["process", "fake"])
def test_a_site_gets_ready_before_it_knows_what_counts(hub: FakeHub, make_site: MakeSite, engine: str) -> None:
    site = make_site(engine=engine).start()
    first = asked().model_copy(update={"hold": True})
    hub.tell(first)
    [ready] = hub.wait(lambda: proofs(hub), 60)
    assert (ready.ready, ready.challenge, ready.digests, ready.error) == (True, first.challenge, "", "")
    assert len(list((site.data_dir / "leases").glob("certify*"))) == (engine == "process")
    hub.tell(asked().model_copy(update={"challenge": "cd" * 32, "after": first.challenge}))
    proof = hub.wait(lambda: proofs(hub)[1:], 60)[0]
    assert proof.challenge == "cd" * 32
    if engine == "process":
        assert proof.error == ""
        what = chain.Challenge(f"{'cd' * 32}/site-1/cpu".encode(), "fp32", chain.N, chain.WIDTH, 20)
        found = chain.Answer(base64.b64decode(proof.digests), base64.b64decode(proof.columns))
        assert chain.check(what, found, b"secret") == ""
        hub.wait(lambda: not list((site.data_dir / "leases").glob("certify*")))


def test_what_counts_may_come_to_an_agent_that_was_started_since(hub: FakeHub, make_site: MakeSite) -> None:
    make_site().start()
    hub.tell(asked().model_copy(update={"after": "cd" * 32}))
    [proof] = hub.wait(lambda: proofs(hub), 60)
    assert (proof.challenge, proof.error, proof.ready) == ("ab" * 32, "", False)


def test_a_challenge_that_cannot_be_met_is_answered_with_the_reason(hub: FakeHub, make_site: MakeSite) -> None:
    make_site().start()
    hub.tell(asked("gpu"))
    proof = hub.wait(lambda: proofs(hub), 30)[0]
    assert "no pool 'gpu'" in proof.error and not proof.digests


def test_the_fake_engine_proves_nothing(hub: FakeHub, make_site: MakeSite) -> None:
    make_site(engine="fake").start()
    hub.tell(asked())
    assert hub.wait(lambda: proofs(hub), 30)[0].error


def test_a_certificate_has_stack_network_and_versions(hub: FakeHub, make_site: MakeSite) -> None:

    make_site().start()
    hub.tell(certify_now())
    certificate = hub.wait(lambda: [r for r in hub.site.reports if isinstance(r, Certificate)], 60)[0]
    (measured,) = certificate.pools
    assert "gemm" in measured.stack_check.operators and "blas" in measured.stack_check.versions
    (rtt,) = [found for found in certificate.network if found.name == "rtt_hub"]
    assert rtt.unit == "us" and 0 < rtt.value < 1e6


class Deaf(FakeDriver):
    """An engine whose jobs do not end, whatever they are told."""

    async def cancel(self, key: LeaseKey, reason: EndReason) -> None:
        return


def test_a_benchmark_that_does_not_end_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "LIMIT_MS", 50)

    async def main() -> frozenset[LeaseKey]:
        driver = Deaf("cpu", 4_000, 1 << 30, 3_600_000)
        proof = await job.prove(driver, "site", asked())
        assert proof.error == "the benchmark does not end"
        return await driver.known()

    assert not asyncio.run(main())
