"""An agent that speaks the real hub-site link and runs nothing: for tests and loads of the hub alone.

It signs with a real key, keeps its report sequence, and ends leases as it is told to.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from yunhe.core.demand import Ability, Precision
from yunhe.core.lifecycle import EndReason
from yunhe.wire.link import (
    Certificate,
    CertifyNow,
    Enrol,
    Hello,
    LeaseEnded,
    LeaseStarted,
    PoolReport,
    RateReport,
    Report,
    StartLease,
    Sync,
    SyncAnswer,
    UsageReport,
    UsageTotals,
    Welcome,
)
from yunhe.wire.signing import (
    EPOCH_HEADER,
    SIGNATURE_HEADER,
    SITE_HEADER,
    new_key,
    public_text,
    sign,
    signed_bytes,
)


def cpu_pool(cores_milli: int = 4_000, memory_bytes: int = 8 << 30) -> PoolReport:
    """A measured pool of cores: 20 GFLOP/s FP64 and 40 GFLOP/s FP32 each."""
    return PoolReport(
        abilities=tuple(Ability),
        name="cpu",
        kind_of_unit="core",
        chip="unknown",
        chip_name="test processor",
        stack="cpu",
        capacity_milli=cores_milli,
        memory_bytes=memory_bytes,
        max_slot_milli=cores_milli,
        watts_per_unit=5,
        rates=(
            RateReport(precision=Precision.FP64, measured_flops=20_000_000_000),
            RateReport(precision=Precision.FP32, measured_flops=40_000_000_000),
        ),
    )


@dataclass
class FakeAgent:
    """One site. `client` has the hub's address as its base."""

    client: httpx.Client
    key: Ed25519PrivateKey = field(default_factory=new_key)
    site_id: str = ""
    epoch: int = 0
    used_epoch: int = 0
    poll_no: int = 0
    applied_seq: int = 0
    report_seq: int = 0
    pools: tuple[PoolReport, ...] = field(default_factory=lambda: (cpu_pool(),))
    tier: int = 2

    def enrol(self, token: str, name: str, cluster: str = "zhangjiakou") -> None:
        message = Enrol(
            token=token,
            name=name,
            public_key=public_text(self.key),
            proof=sign(self.key, token.encode()),
            cluster=cluster,
        )
        answer = self.client.post("/v1/agent/enrol", content=message.model_dump_json(), headers=_JSON)
        answer.raise_for_status()
        self.site_id = answer.json()["site_id"]

    def hello(self) -> httpx.Response:
        body = Hello(site_id=self.site_id, previous_epoch=self.used_epoch).model_dump_json().encode()
        answer = self.send("POST", "/v1/agent/hello", body)
        if answer.is_success:
            welcome = Welcome.model_validate_json(answer.content)
            self.epoch, self.poll_no, self.report_seq = welcome.epoch, 0, welcome.report_seq
        return answer

    def send(self, method: str, target: str, body: bytes = b"", epoch: int | None = None) -> httpx.Response:
        """A signed request."""
        epoch = self.epoch if epoch is None else epoch
        message = signed_bytes(method, target, self.site_id, epoch, body)
        headers = {
            **_JSON,
            SITE_HEADER: self.site_id,
            EPOCH_HEADER: str(epoch),
            SIGNATURE_HEADER: sign(self.key, message),
        }
        return self.client.request(method, target, content=body, headers=headers)

    def sync_message(self, reports: Iterable[Report] = (), wait_ms: int = 0, full: bool = False) -> Sync:
        """The next poll; reports get the next sequence numbers."""
        self.poll_no += 1
        numbered = []
        for report in reports:
            self.report_seq += 1
            numbered.append(report.model_copy(update={"seq": self.report_seq}))
        return Sync(
            site_id=self.site_id,
            epoch=self.epoch,
            poll_no=self.poll_no,
            applied_seq=self.applied_seq,
            wait_ms=wait_ms,
            reports=tuple(numbered),
            leases=() if full else None,
        )

    def poll(self, reports: Iterable[Report] = (), wait_ms: int = 0) -> SyncAnswer:
        answer = self.send("POST", "/v1/agent/sync", self.sync_message(reports, wait_ms).model_dump_json().encode())
        answer.raise_for_status()
        parsed = SyncAnswer.model_validate_json(answer.content)
        self.used_epoch = self.epoch
        if parsed.instructions:
            self.applied_seq = parsed.instructions[-1].seq
        return parsed

    def certificate(self) -> Certificate:
        return Certificate(
            seq=0, tested_utc_ms=1, tier=self.tier, isolation="none: a test", software="test", pools=self.pools
        )

    def become_active(self) -> None:
        """Hello, wait for the turn to measure, and report."""
        self.hello().raise_for_status()
        for _ in range(50):
            answer = self.poll(wait_ms=500)
            if any(isinstance(item, CertifyNow) for item in answer.instructions):
                self.poll([self.certificate()])
                return
        raise AssertionError("the hub never asked this site to measure")

    def wait_starts(self, count: int = 1, polls: int = 50) -> list[StartLease]:
        starts: list[StartLease] = []
        for _ in range(polls):
            starts += [i for i in self.poll(wait_ms=500).instructions if isinstance(i, StartLease)]
            if len(starts) >= count:
                return starts
        raise AssertionError(f"{len(starts)} of {count} starts came")


_JSON = {"Content-Type": "application/json"}


def ran(
    start: StartLease, wall_ms: int = 1_000, exit_code: int | None = 0, reason: EndReason = EndReason.EXITED
) -> list[Report]:
    """Reports of a lease that started, ran for `wall_ms` on all its units, and ended."""
    totals = UsageTotals(wall_ms=wall_ms, cpu_ms=wall_ms * start.slot_milli // 1000, peak_memory_bytes=1 << 20)
    return [
        LeaseStarted(seq=0, lease_id=start.lease_id, epoch=start.epoch, started_utc_ms=1),
        UsageReport(
            seq=0,
            lease_id=start.lease_id,
            epoch=start.epoch,
            n=0,
            from_ms=0,
            to_ms=wall_ms,
            totals=totals,
            final=True,
        ),
        LeaseEnded(seq=0, lease_id=start.lease_id, epoch=start.epoch, reason=reason, exit_code=exit_code),
    ]


def order_json(**changes: object) -> str:
    """A small order as a request body."""
    spec: dict[str, object] = {
        "name": "test",
        "run": {"command": ["true"]},
        "requirement": {"cores": 0.5, "memory": "64MiB"},
        "duration": "1m",
        "budget": "1CNY",
    }
    return json.dumps({**spec, **changes})
