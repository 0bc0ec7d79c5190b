"""Data on its way as the hub shows it: staging tasks, what was fetched, outputs with a URL."""

import hashlib
import itertools
from typing import Any

import httpx
import pytest

from tests.fakes.agent import FakeAgent, order_json, ran
from tests.hub.running import RunningHub
from yunhe.core.lifecycle import EndReason
from yunhe.wire.link import DataInput, Delivery, LeaseEnded, LeaseMoved, LeaseStaging, MovedFile, Report, StartLease

names = (f"moves{n}" for n in itertools.count())
SHA = hashlib.sha256(b"x").hexdigest()
RUN = {
    "command": ["true"],
    "inputs": [{"url": "https://data.example/part-{task}.csv", "path": "in.csv", "size": "1KiB", "sha256": SHA}],
    "outputs": ["log.txt", {"path": "out", "url": "s3://lab/run-{task}/"}],
}


class Case:
    """An order with data, its site and its customer."""

    def __init__(self, hub: RunningHub, **more: object) -> None:
        name = next(names)
        self.hub = hub
        self.site: FakeAgent = hub.site(name)
        self.customer: httpx.Client = hub.customer(name)
        requirement = {"cores": 0.5, "sites": [self.site.site_id]}
        made = self.submit(requirement=requirement, run=RUN, **more)
        assert made.status_code == 201, made.text
        self.order = made.json()["id"]

    def submit(self, **spec: object) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        return self.customer.post("/v1/orders", content=order_json(**spec), headers=headers)

    def start(self) -> StartLease:
        [start] = self.site.wait_starts()
        return start

    def show(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.customer.get(f"/v1/orders/{self.order}").json()
        return answer

    def facts(self) -> list[tuple[str, str]]:
        return [(fact["kind"], fact["detail"]) for fact in self.show()["facts"]]

    def outputs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.customer.get(f"/v1/orders/{self.order}/outputs").json()["outputs"]
        return found


@pytest.fixture
def case(shared_hub: RunningHub) -> Case:
    return Case(shared_hub)


def staging(start: StartLease, done: int, problem: str = "", phase: Any = "in", epoch: int = 0) -> Report:
    return LeaseStaging(
        seq=0,
        lease_id=start.lease_id,
        epoch=epoch or start.epoch,
        phase=phase,
        done_bytes=done,
        total_bytes=1024,
        problem=problem,
    )


def moved(start: StartLease, *files: MovedFile, phase: Any = "out", epoch: int = 0) -> Report:
    return LeaseMoved(seq=0, lease_id=start.lease_id, epoch=epoch or start.epoch, phase=phase, files=files)


def test_the_site_is_told_of_the_data_of_each_task(shared_hub: RunningHub) -> None:
    case = Case(shared_hub, array=2)
    starts = {start.lease_id[-2:]: start for start in case.site.wait_starts(2)}
    second = starts[".1"]
    expected = DataInput(url="https://data.example/part-1.csv", path="in.csv", size_bytes=1024, sha256=SHA)
    assert second.inputs == (expected,)
    assert second.outputs == ("log.txt", "out")
    assert second.deliveries == (Delivery(path="out", url="s3://lab/run-1/"),)


def test_a_task_is_staging_until_it_starts(case: Case) -> None:
    start = case.start()
    case.site.poll([staging(start, 100), staging(start, 300, "it broke off"), staging(start, 300, "it broke off")])
    shown = case.show()
    assert shown["tasks"] == {"staging": 1} and shown["state"] == "running"
    [task] = shown["task_list"]
    assert task["state"] == "leased"
    assert task["staging"] == {"phase": "in", "done_bytes": 300, "total_bytes": 1024, "problem": "it broke off"}
    assert [fact for fact in case.facts() if fact[0] == "transfer_problem"] == [("transfer_problem", "it broke off")]
    case.site.poll([moved(start, MovedFile(path="in.csv", size_bytes=1024, sha256=SHA), phase="in"), *ran(start)[:1]])
    shown = case.show()
    assert shown["tasks"] == {"running": 1} and shown["task_list"][0]["staging"] is None
    assert ("fetched", f"in.csv 1KiB sha256 {SHA}") in case.facts()
    case.site.poll([staging(start, 10, phase="out")])
    assert case.show()["task_list"][0]["staging"]["phase"] == "out"


def test_an_older_epoch_and_another_sites_word_change_nothing(case: Case) -> None:
    start = case.start()
    other = case.hub.site(next(names))
    other.poll([staging(start, 5), moved(start, MovedFile(path="out/a", problem="gone"))])
    case.site.poll([staging(start, 7, epoch=start.epoch + 1), moved(start, MovedFile(path="out/a"), epoch=99)])
    shown = case.show()
    assert shown["tasks"] == {"leased": 1} and shown["undelivered"] == 0 and case.outputs() == []


def test_outputs_with_a_url_are_listed_with_what_became_of_them(case: Case) -> None:
    start = case.start()
    good = MovedFile(path="out/a", size_bytes=5, sha256=SHA)
    bad = MovedFile(path="out/b", size_bytes=6, sha256=SHA, problem="out/b: the server answers 403 Forbidden")
    report = moved(start, good, bad)
    case.site.poll([*ran(start)[:1], report])
    case.site.poll([report, *ran(start)[1:]])
    shown = case.show()
    assert (shown["state"], shown["undelivered"], shown["task_list"][0]["delivery"]) == ("succeeded", 1, "undelivered")
    assert ("undelivered", bad.problem) in case.facts()
    a, b = case.outputs()
    assert (a["path"], a["url"], a["stored"], a["problem"]) == ("out/a", "s3://lab/run-0/a", False, "")
    assert (b["path"], b["url"], b["sha256"], b["problem"]) == ("out/b", "s3://lab/run-0/b", SHA, bad.problem)
    where = {"lease_id": start.lease_id, "path": "out/a"}
    gone = case.customer.get(f"/v1/orders/{case.order}/outputs/content", params=where)
    assert gone.status_code == 404 and "where it is" in gone.json()["hint"]


def test_an_input_that_is_wrong_ends_the_order_and_costs_nothing(case: Case) -> None:
    start = case.start()
    detail = "run.inputs[0]: the server answers 404 Not Found"
    end = LeaseEnded(seq=0, lease_id=start.lease_id, epoch=start.epoch, reason=EndReason.DATA_IN_FAILED, detail=detail)
    case.site.poll([staging(start, 0), end])
    shown = case.show()
    [task] = shown["task_list"]
    assert (shown["state"], task["reason"], task["detail"]) == ("failed", "data_in_failed", detail)
    assert task["epoch"] == 1 and task["staging"] is None
    settled = case.customer.get(f"/v1/orders/{case.order}/wait", params={"timeout_ms": 5_000}).json()
    assert settled["settled"] and settled["charged_microcny"] == 0


def test_an_input_that_the_site_cannot_reach_is_another_sites_turn(case: Case) -> None:
    start = case.start()
    case.site.poll(
        [LeaseEnded(seq=0, lease_id=start.lease_id, epoch=start.epoch, reason=EndReason.DATA_UNREACHABLE, detail="no")]
    )
    again = case.start()
    assert (again.lease_id, again.epoch) == (start.lease_id, start.epoch + 1)


@pytest.mark.parametrize(
    ("run", "field", "words"),
    [
        ({"inputs": [{"url": "https://u:pw@h/x", "path": "a"}]}, "run.inputs[0].url", "must not hold a user"),
        ({"inputs": [{"url": "gopher://h/x", "path": "a"}]}, "run.inputs[0].url", "must begin with"),
        ({"inputs": [{"url": "https://h/../x", "path": "a"}]}, "run.inputs[0].url", "'..'"),
        ({"inputs": [{"url": "https://h/x", "path": "../a"}]}, "run.inputs[0].path", "inside the job's directory"),
        ({"inputs": [{"url": "https://h/x", "path": "a", "size": "1 apple"}]}, "run.inputs[0].size", ""),
        ({"inputs": [{"url": "https://h/x", "path": "a", "sha256": "abc"}]}, "run.inputs[0].sha256", ""),
        ({"inputs": [{"url": "https://h/x", "path": "a", "secret": "KEY"}]}, "run.inputs[0].secret", "'KEY'"),
        ({"inputs": [{"url": "https://h/x", "path": p} for p in ("a/b", "a")]}, "run.inputs[1].path", "in the way"),
        ({"files": {"a": "1"}, "inputs": [{"url": "https://h/x", "path": "a"}]}, "run.inputs[0].path", "in the way"),
        ({"inputs": [{"url": "https://h/x", "path": "."}]}, "run.inputs[0].path", "in the way"),
        ({"files": {"./": "1"}}, "run.files", "in the way"),
        ({"files": {"save": "1"}, "checkpoint": {"folder": "save"}}, "run.files", "in the way"),
        ({"outputs": ["./yunhe-checkpoint.tar"]}, "run.outputs[0]", "the name of checkpoints"),
        ({"outputs": ["a", {"path": "a", "url": "s3://b/a"}]}, "run.outputs[1].path", "named twice"),
        ({"inputs": [{"url": "https://h/x", "path": f"p{n}"} for n in range(65)]}, "run.inputs", "64"),
    ],
)
def test_what_is_wrong_with_the_data_is_named(case: Case, run: dict[str, object], field: str, words: str) -> None:
    answer = case.submit(run={"command": ["true"], **run})
    assert answer.status_code == 422 and answer.json()["field"] == field and words in answer.json()["detail"]
    assert "pw@" not in answer.text


def test_tasks_that_would_overwrite_each_other_are_refused(case: Case) -> None:
    run = {"command": ["true"], "outputs": [{"path": "out", "url": "s3://lab/out"}]}
    answer = case.submit(run=run, array=3)
    assert answer.json()["field"] == "run.outputs[0].url" and "{task}" in answer.json()["hint"]
