"""Many agents in one event loop: the real link, signed polls, and an executor that ends every job at once.

The messages are those of `tests.fakes.agent`; what goes out often is written as plain JSON of the same fields.
"""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.http_client import BadAnswer, Connection, request
from tests.fakes.agent import FakeAgent
from yunhe.wire.link import MAX_REPORTS_PER_SYNC, Hello, Welcome
from yunhe.wire.signing import EPOCH_HEADER, SIGNATURE_HEADER, SITE_HEADER, dump_key, load_key, sign, signed_bytes

OK = 200
HOLD_MS = 50_000
RAN_MS = 1_000
SYNC = "/v1/agent/sync"

Ended = Callable[[], Awaitable[None]]


@dataclass
class Executor:
    """What all agents of a process did together."""

    ended: int = 0


@dataclass
class Agent:
    """One site's agent. `hello_first` for one that has not spoken yet."""

    host: str
    port: int
    site_id: str
    key: Ed25519PrivateKey
    epoch: int = 0
    poll_no: int = 0
    applied_seq: int = 0
    report_seq: int = 0
    certificate: dict[str, object] | None = None
    connection: Connection | None = None
    reports: list[dict[str, object]] = field(default_factory=list)

    @staticmethod
    def to_job(fake: FakeAgent, *, certificate: bool = False) -> dict[str, object]:
        """A site that the benchmark enrolled, as it is handed to the load process."""
        return {
            "site_id": fake.site_id,
            "key": base64.b64encode(dump_key(fake.key)).decode(),
            "epoch": fake.epoch,
            "poll_no": fake.poll_no,
            "applied_seq": fake.applied_seq,
            "report_seq": fake.report_seq,
            "certificate": fake.certificate().model_dump(mode="json") if certificate else None,
        }

    @staticmethod
    def from_job(job: dict[str, object], host: str, port: int) -> "Agent":
        key = load_key(base64.b64decode(str(job["key"])))
        given = {name: value for name, value in job.items() if name != "key"}
        return Agent(host, port, key=key, **given)  # type: ignore[arg-type]

    async def begin(self) -> None:
        """Hello, and the certificate with the next poll."""
        hello = Hello(site_id=self.site_id, previous_epoch=self.epoch).model_dump_json().encode()
        welcome = Welcome.model_validate_json(await self._post("/v1/agent/hello", hello))
        self.epoch, self.poll_no, self.report_seq = welcome.epoch, 0, welcome.report_seq
        if self.certificate is not None:
            self.reports.append(self.certificate)
        await self._poll(0)

    async def run(self, executor: Executor, ended: Ended) -> None:
        """Poll until cancelled; every start is reported as started, measured and ended with the next poll."""
        while True:
            telling = sum(report["kind"] == "ended" for report in self.reports[:MAX_REPORTS_PER_SYNC])
            await self._poll(HOLD_MS)
            if telling:
                executor.ended += telling
                await ended()

    async def _poll(self, wait_ms: int) -> None:
        """One poll with what there is to report; the instructions that it brings are carried out."""
        self.poll_no += 1
        told = self.reports[:MAX_REPORTS_PER_SYNC]
        for report in told:
            self.report_seq += 1
            report["seq"] = self.report_seq
        message = {
            "site_id": self.site_id,
            "epoch": self.epoch,
            "poll_no": self.poll_no,
            "applied_seq": self.applied_seq,
            "wait_ms": wait_ms,
            "reports": told,
        }
        answer = orjson.loads(await self._post(SYNC, orjson.dumps(message)))
        self.reports = self.reports[len(told) :]
        for item in answer["instructions"]:
            self.applied_seq = item["seq"]
            if item["kind"] == "start":
                self.reports += ran(item)
            elif item["kind"] == "certify" and self.certificate is not None:
                self.reports.append(self.certificate)

    async def _post(self, target: str, body: bytes) -> bytes:
        if self.connection is None:
            self.connection = await Connection.connect(self.host, self.port)
        signature = sign(self.key, signed_bytes("POST", target, self.site_id, self.epoch, body))
        headers = {SITE_HEADER: self.site_id, EPOCH_HEADER: str(self.epoch), SIGNATURE_HEADER: signature}
        status, answer = await self.connection.send(request("POST", target, headers, body))
        if status != OK:
            raise BadAnswer(f"{target} of {self.site_id}: {status} {answer[:300]!r}")
        return answer


def ran(start: dict[str, object]) -> list[dict[str, object]]:
    """Reports of a lease that started, ran for a second and exited with 0."""
    lease = {"lease_id": start["lease_id"], "epoch": start["epoch"]}
    totals = {"wall_ms": RAN_MS, "cpu_ms": RAN_MS // 2, "peak_memory_bytes": 1 << 20}
    return [
        {"kind": "started", **lease, "started_utc_ms": 1},
        {"kind": "usage", **lease, "n": 0, "from_ms": 0, "to_ms": RAN_MS, "totals": totals, "final": True},
        {"kind": "ended", **lease, "reason": "exited", "exit_code": 0},
    ]
