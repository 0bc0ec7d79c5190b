"""Logs and outputs on their way to the hub: by offset, within caps, checked, and only from the lease's own site."""

import hashlib
import itertools
import time
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from tests.fakes.agent import FakeAgent, order_json, ran
from tests.hub.running import RunningHub, running_hub
from yunhe.wire.link import MAX_CHUNK_BYTES, StartLease

names = (f"files{n}" for n in itertools.count())


class Job:
    """One running lease, its site and its customer."""

    def __init__(self, hub: RunningHub) -> None:
        name = next(names)
        self.site: FakeAgent = hub.site(name)
        self.customer: httpx.Client = hub.customer(name)
        requirement = {"cores": 0.5, "sites": [self.site.site_id]}
        headers = {"Content-Type": "application/json"}
        made = self.customer.post("/v1/orders", content=order_json(requirement=requirement), headers=headers)
        self.order = made.json()["id"]
        [self.start] = self.site.wait_starts()
        assert isinstance(self.start, StartLease)

    def log(self, offset: int, body: bytes) -> httpx.Response:
        return self.site.send("PUT", f"/v1/agent/logs/{self.start.lease_id}/{self.start.epoch}?offset={offset}", body)

    def output(
        self, path: str, whole: bytes, offset: int, body: bytes, sha256: str = "", total: int | None = None
    ) -> httpx.Response:
        fields = {
            "path": path,
            "offset": offset,
            "total": len(whole) if total is None else total,
            "sha256": sha256 or hashlib.sha256(whole).hexdigest(),
        }
        target = f"/v1/agent/outputs/{self.start.lease_id}/{self.start.epoch}?{urlencode(fields)}"
        return self.site.send("PUT", target, body)

    def fetched(self, path: str) -> httpx.Response:
        where = {"lease_id": self.start.lease_id, "path": path}
        return self.customer.get(f"/v1/orders/{self.order}/outputs/content", params=where)


@pytest.fixture
def job(shared_hub: RunningHub) -> Job:
    return Job(shared_hub)


def test_a_log_grows_by_offset_and_never_twice(job: Job) -> None:
    assert job.log(0, b"one\n").json() == {"size": 4}
    assert job.log(0, b"one\n").json() == {"size": 4}
    assert job.log(0, b"one\ntwo\n").json() == {"size": 8}
    assert job.log(2, b"e\ntwo\n\xff\xfe\n").json() == {"size": 11}
    hole = job.log(99, b"later")
    assert (hole.status_code, hole.json()["field"]) == (409, "offset")
    assert job.log(0, b"x" * (MAX_CHUNK_BYTES + 1)).status_code == 413
    shown = job.customer.get(f"/v1/orders/{job.order}/logs")
    assert shown.content == b"one\ntwo\n\xff\xfe\n" and shown.headers["yunhe-complete"] == "false"
    job.site.poll(ran(job.start))
    ended = job.customer.get(f"/v1/orders/{job.order}/logs", params={"offset": 11, "follow_ms": 5_000})
    assert (ended.content, ended.headers["yunhe-complete"]) == (b"", "true")


@pytest.mark.parametrize("body", [b"", b"x", b"\0\xff" * 70_000])
def test_outputs_arrive_in_pieces_and_whole(job: Job, body: bytes) -> None:
    half = len(body) // 2
    if half:
        assert job.output("dir/a b.bin", body, 0, body[:half]).json() == {"size": half}
        assert job.customer.get(f"/v1/orders/{job.order}/outputs").json()["outputs"] == []
    assert job.output("dir/a b.bin", body, half, body[half:]).json() == {"size": len(body)}
    assert job.output("dir/a b.bin", body, half, body[half:]).json() == {"size": len(body)}
    [listed] = job.customer.get(f"/v1/orders/{job.order}/outputs").json()["outputs"]
    assert (listed["path"], listed["size_bytes"]) == ("dir/a b.bin", len(body))
    assert job.fetched("dir/a b.bin").content == body


def test_an_output_with_another_hash_is_sent_again(job: Job) -> None:
    wrong = job.output("a", b"data", 0, b"data", sha256="0" * 64)
    assert (wrong.status_code, wrong.json()["field"]) == (422, "sha256")
    assert job.fetched("a").status_code == 404
    assert job.output("a", b"data", 0, b"data").json() == {"size": 4}


def test_outputs_of_a_task_have_one_cap_together(job: Job) -> None:
    cap = job.start.output_cap_bytes
    alone = job.output("big", b"", 0, b"x", total=cap + 1)
    assert (alone.status_code, alone.json()["field"]) == (413, "total")
    assert job.output("first", b"data", 0, b"data").is_success
    second = job.output("second", b"", 0, b"x", total=cap - 3)
    assert (second.status_code, second.json()["field"]) == (413, "total")
    assert job.output("more", b"data", 0, b"data more", total=4).status_code == 422


def test_paths_of_outputs_stay_names(job: Job) -> None:
    for path in ("../../etc/passwd", "/etc/passwd", "a" * 200, "sümmer/日本"):
        assert job.output(path, b"data", 0, b"data").is_success
        assert job.fetched(path).content == b"data"
    assert job.output("a" * 201, b"data", 0, b"data").status_code == 422


def test_a_stranger_sees_neither_logs_nor_outputs(job: Job, shared_hub: RunningHub) -> None:
    job.log(0, b"secret")
    job.output("a", b"data", 0, b"data")
    stranger = shared_hub.customer(next(names))
    where = {"lease_id": job.start.lease_id, "path": "a"}
    for answer in (
        stranger.get(f"/v1/orders/{job.order}/logs"),
        stranger.get(f"/v1/orders/{job.order}/outputs"),
        stranger.get(f"/v1/orders/{job.order}/outputs/content", params=where),
    ):
        assert answer.status_code == 404 and b"secret" not in answer.content


def test_a_moment_after_its_end_an_attempt_takes_no_more(job: Job, tmp_path: Path) -> None:
    job.log(0, b"said")
    job.site.poll(ran(job.start))
    assert job.log(4, b", late").json() == {"size": 10}  # of a site that was away
    with running_hub(f"sqlite:///{tmp_path}/hub.db", tmp_path / "hub", late_files_ms=0) as hub:
        other = Job(hub)
        assert other.log(0, b"said").is_success and other.output("a", b"data", 0, b"da").is_success
        other.site.poll(ran(other.start))
        time.sleep(0.01)  # the end is of a millisecond before
        for late in (other.log(4, b", and more"), other.output("a", b"data", 2, b"ta"), other.output("b", b"", 0, b"")):
            assert (late.status_code, late.json()["code"]) == (409, "refused")
        assert other.customer.get(f"/v1/orders/{other.order}/logs").content == b"said"
        assert other.customer.get(f"/v1/orders/{other.order}/outputs").json()["outputs"] == []
