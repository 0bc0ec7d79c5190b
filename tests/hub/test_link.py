"""The hub's end of the hub-site link: who may speak, and that saying something twice changes nothing."""

import itertools
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from tests.fakes.agent import FakeAgent, order_json, ran
from tests.hub.running import RunningHub
from yunhe.wire.link import LeaseDigest, StartLease, Sync, SyncAnswer
from yunhe.wire.signing import EPOCH_HEADER, SIGNATURE_HEADER, SITE_HEADER, new_key, sign, signed_bytes

JSON = {"Content-Type": "application/json"}
SYNC = "/v1/agent/sync"
names = (f"link{n}" for n in itertools.count())

Orders = Callable[..., dict[str, object]]


@pytest.fixture
def site(shared_hub: RunningHub) -> FakeAgent:
    return shared_hub.site(next(names))


@pytest.fixture
def customer(shared_hub: RunningHub) -> httpx.Client:
    return shared_hub.customer(next(names))


def order_at(customer: httpx.Client, site: FakeAgent, **changes: object) -> str:
    """An order that only this site may run. Other tests of the module have sites beside it."""
    requirement = {"cores": 0.5, "memory": "64MiB", "sites": [site.site_id]}
    made = customer.post("/v1/orders", content=order_json(requirement=requirement, **changes), headers=JSON)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def settled(customer: httpx.Client, order_id: str) -> dict[str, object]:
    order: dict[str, object] = customer.get(f"/v1/orders/{order_id}/wait", params={"timeout_ms": 10_000}).json()
    assert order["settled"], order
    return order


def body_of(message: Sync) -> bytes:
    return message.model_dump_json().encode()


def refused(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["status"]) == (code, status), problem
    if field is not None:
        assert problem["field"] == field, problem


# --- who may speak ------------------------------------------------------------------------------------------------


def test_what_is_not_signed_by_the_site_is_refused(shared_hub: RunningHub, site: FakeAgent) -> None:
    body = body_of(site.sync_message())
    good = signed_bytes("POST", SYNC, site.site_id, site.epoch, body)
    elsewhere = signed_bytes("POST", "/v1/agent/hello", site.site_id, site.epoch, body)
    other_body = signed_bytes("POST", SYNC, site.site_id, site.epoch, body + b" ")
    other_site = signed_bytes("POST", SYNC, "another", site.epoch, body)
    other_epoch = signed_bytes("POST", SYNC, site.site_id, site.epoch + 1, body)
    client = shared_hub.client()

    def send(
        signature: str | bytes | None, site_id: str = site.site_id, epoch: str = str(site.epoch)
    ) -> httpx.Response:
        headers = {b"Content-Type": b"application/json", SITE_HEADER.encode(): site_id.encode()}
        headers[EPOCH_HEADER.encode()] = epoch.encode()
        if signature is not None:
            headers[SIGNATURE_HEADER.encode()] = signature.encode() if isinstance(signature, str) else signature
        return client.post(SYNC, content=body, headers=headers)

    for wrong in (elsewhere, other_body, other_site, other_epoch):
        refused(send(sign(site.key, wrong)), 401, "unauthenticated", SIGNATURE_HEADER)
    refused(send(sign(new_key(), good)), 401, "unauthenticated", SIGNATURE_HEADER)
    refused(send(None), 401, "unauthenticated", SIGNATURE_HEADER)
    refused(send("not base64 !"), 401, "unauthenticated", SIGNATURE_HEADER)
    refused(send("ÿ".encode()), 401, "unauthenticated", SIGNATURE_HEADER)
    refused(send(sign(site.key, good), epoch="one"), 401, "unauthenticated", SIGNATURE_HEADER)
    refused(send(sign(site.key, good), epoch="9" * 400), 401, "unauthenticated", SIGNATURE_HEADER)
    refused(send(sign(site.key, good), site_id="nobody"), 401, "unauthenticated", SITE_HEADER)
    assert send(sign(site.key, good)).status_code == 200


def test_a_message_speaks_only_for_its_signer(shared_hub: RunningHub, site: FakeAgent) -> None:
    other = shared_hub.site(next(names))
    body = body_of(site.sync_message().model_copy(update={"site_id": other.site_id}))
    refused(site.send("POST", SYNC, body), 401, "unauthenticated", "site_id")
    body = body_of(site.sync_message())
    refused(site.send("POST", SYNC, body, epoch=site.epoch - 1), 409, "conflict", EPOCH_HEADER)


def test_a_site_that_is_not_approved_may_not_speak_yet(shared_hub: RunningHub) -> None:
    shared_hub.operator.post("/v1/organisations", json={"id": "waiting", "name": "waiting"})
    token = shared_hub.operator.post("/v1/enrolment-tokens", json={"provider": "waiting"}).json()["token"]
    site = FakeAgent(shared_hub.client())
    site.enrol(token, next(names))
    refused(site.hello(), 503, "unavailable")
    shared_hub.operator.post(f"/v1/sites/{site.site_id}/approve", json={}).raise_for_status()
    assert site.hello().status_code == 200


# --- saying it twice ----------------------------------------------------------------------------------------------


def test_an_identical_poll_is_answered_again_and_changes_nothing(site: FakeAgent, customer: httpx.Client) -> None:
    order = order_at(customer, site)
    [start] = site.wait_starts()
    body = body_of(site.sync_message(ran(start, wall_ms=20_000)))
    first = site.send("POST", SYNC, body)
    charged = settled(customer, order)["charged_microcny"]
    again = [site.send("POST", SYNC, body) for _ in range(3)]
    assert {answer.status_code for answer in (first, *again)} == {200}
    assert {answer.content for answer in again} == {first.content}
    assert settled(customer, order)["charged_microcny"] == charged
    usage = customer.get(f"/v1/orders/{order}/usage").json()
    assert (len(usage["usage"]), len(usage["charges"])) == (1, 1)


def test_an_older_poll_or_another_body_under_its_number_is_refused(site: FakeAgent) -> None:
    old = body_of(site.sync_message())
    site.send("POST", SYNC, old).raise_for_status()
    newer = site.sync_message()
    site.send("POST", SYNC, body_of(newer)).raise_for_status()
    refused(site.send("POST", SYNC, old), 409, "stale_message", "poll_no")
    changed = newer.model_copy(update={"accepting": False})
    refused(site.send("POST", SYNC, body_of(changed)), 409, "stale_message", "poll_no")
    site.poll()


def test_reports_are_taken_in_order_without_holes_and_once(site: FakeAgent, customer: httpx.Client) -> None:
    order = order_at(customer, site)
    [start] = site.wait_starts()
    stored = site.report_seq
    first, second, third = site.sync_message(ran(start, wall_ms=9_000)).reports

    def send(*reports: object) -> int:
        message = site.sync_message().model_copy(update={"reports": reports})
        answer = site.send("POST", SYNC, body_of(message))
        answer.raise_for_status()
        return SyncAnswer.model_validate_json(answer.content).report_seq

    assert send(second, third) == stored  # a hole: nothing is taken
    assert send(third, first) == stored + 1  # out of order, and a hole
    assert send(first, first, second) == stored + 2  # doubled
    assert send(third, second, first) == stored + 3  # reordered
    assert send(first, second, third) == stored + 3  # all of it again
    assert settled(customer, order)["state"] == "succeeded"
    usage = customer.get(f"/v1/orders/{order}/usage").json()
    assert (len(usage["usage"]), len(usage["charges"])) == (1, 1)


# --- epochs -------------------------------------------------------------------------------------------------------


def test_a_new_epoch_silences_the_one_before(site: FakeAgent) -> None:
    old_epoch, old_body = site.epoch, body_of(site.sync_message())
    assert site.hello().status_code == 200 and site.epoch == old_epoch + 1
    refused(site.send("POST", SYNC, old_body, epoch=old_epoch), 409, "stale_message", "epoch")
    refused(site.send("GET", "/v1/agent/logs/ord_1.0/1", epoch=old_epoch), 409, "stale_message", "epoch")
    site.poll()


def test_a_hello_that_is_replayed_later_is_refused(site: FakeAgent) -> None:
    recorded: list[httpx.Request] = []
    site.client.event_hooks = {"request": [recorded.append]}
    site.hello().raise_for_status()
    site.client.event_hooks = {}
    [hello] = recorded
    site.poll()
    refused(site.client.send(hello), 409, "stale_message", "previous_epoch")
    site.poll()  # and its sender is not disturbed


def test_of_two_agents_with_one_spool_only_one_can_speak(shared_hub: RunningHub, site: FakeAgent) -> None:
    clone = FakeAgent(shared_hub.client(), site.key, site.site_id, site.epoch, site.used_epoch)
    site.hello().raise_for_status()
    clone.hello().raise_for_status()
    refused(site.send("POST", SYNC, body_of(site.sync_message())), 409, "stale_message", "epoch")
    clone.poll()
    refused(site.hello(), 409, "stale_message", "previous_epoch")
    clone.poll()


# --- other sites' leases ------------------------------------------------------------------------------------------


def test_a_site_cannot_speak_of_anothers_lease(shared_hub: RunningHub, site: FakeAgent, customer: httpx.Client) -> None:
    other = shared_hub.site(next(names))
    order = order_at(customer, site)
    [start] = site.wait_starts()
    refused_before = shared_hub.operator.get("/v1/stats").json()
    other.poll(ran(start, wall_ms=50_000, exit_code=1))
    target = f"/v1/agent/logs/{start.lease_id}/{start.epoch}?offset=0"
    refused(other.send("PUT", target, b"not mine"), 404, "not_found")
    assert customer.get(f"/v1/orders/{order}").json()["tasks"] == {"leased": 1}
    assert customer.get(f"/v1/orders/{order}/usage").json()["usage"] == []
    assert shared_hub.operator.get("/v1/stats").json()["usage_records"] == refused_before["usage_records"]
    site.poll(ran(start))
    assert settled(customer, order)["state"] == "succeeded"


def test_a_full_snapshot_with_strays_is_answered_by_cancels(site: FakeAgent, customer: httpx.Client) -> None:
    order = order_at(customer, site)
    [start] = site.wait_starts()
    held = LeaseDigest(lease_id=start.lease_id, epoch=start.epoch, started=True)
    stray = LeaseDigest(lease_id="ord_0123456789.7", epoch=3, started=True)
    message = site.sync_message().model_copy(update={"leases": (held, stray)})
    answer = SyncAnswer.model_validate_json(site.send("POST", SYNC, body_of(message)).content)
    assert [(i.kind, i.lease_id, i.epoch) for i in answer.instructions if not isinstance(i, StartLease)] == [
        ("cancel", stray.lease_id, stray.epoch)
    ]
    site.applied_seq = answer.instructions[-1].seq
    site.poll(ran(start))
    assert settled(customer, order)["state"] == "succeeded"


def test_a_lease_that_the_site_forgot_is_cancelled_but_not_one_on_its_way(
    site: FakeAgent, customer: httpx.Client
) -> None:
    first = order_at(customer, site)
    [start] = site.wait_starts()
    order_at(customer, site)
    until = time.monotonic() + 10
    applied = site.applied_seq
    while not site.poll(wait_ms=500).instructions and time.monotonic() < until:
        pass  # the second start is in the outbox
    site.applied_seq = applied
    answer = SyncAnswer.model_validate_json(site.send("POST", SYNC, body_of(site.sync_message(full=True))).content)
    cancelled = [i.lease_id for i in answer.instructions if i.kind == "cancel"]
    assert cancelled == [start.lease_id] == [f"{first}.0"]
    assert [i.kind for i in answer.instructions] == ["start", "cancel"]


# --- holding ------------------------------------------------------------------------------------------------------


def test_a_held_poll_returns_at_once_with_an_instruction(site: FakeAgent, customer: httpx.Client) -> None:
    order = order_at(customer, site)
    [start] = site.wait_starts()
    site.poll(ran(start)[:1])
    answers: list[tuple[float, SyncAnswer]] = []

    def hold() -> None:
        answer = site.poll(wait_ms=2_000)
        answers.append((time.monotonic(), answer))

    waiting = threading.Thread(target=hold)
    waiting.start()
    time.sleep(0.4)
    asked = time.monotonic()
    customer.post(f"/v1/orders/{order}/cancel").raise_for_status()
    waiting.join(5)
    [(at, answer)] = answers
    assert [i.kind for i in answer.instructions] == ["cancel"]
    assert at - asked < 1.0


def test_the_newest_poll_wins(shared_hub: RunningHub, site: FakeAgent) -> None:
    held, newer = site.sync_message(wait_ms=2_000), site.sync_message()
    took: list[float] = []

    def hold() -> None:
        began = time.monotonic()
        assert second.send("POST", SYNC, body_of(held)).status_code == 200
        took.append(time.monotonic() - began)

    second = FakeAgent(shared_hub.client(), site.key, site.site_id, site.epoch)
    waiting = threading.Thread(target=hold)
    waiting.start()
    time.sleep(0.4)
    # A request that is refused does not disturb the one that waits.
    refused(site.send("POST", SYNC, body_of(newer), epoch=site.epoch - 1), 409, "conflict")
    time.sleep(0.2)
    assert not took
    site.send("POST", SYNC, body_of(newer)).raise_for_status()
    waiting.join(5)
    assert 0.5 < took[0] < 1.5
