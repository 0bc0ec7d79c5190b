"""What nobody should send: each gets a problem+json that names the code and the field, and the hub goes on."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.fakes.agent import FakeAgent, cpu_pool, order_json
from tests.hub.running import RunningHub
from yunhe.wire.api import MAX_BODY_BYTES
from yunhe.wire.link import MAX_SYNC_BYTES, PoolReport

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def customer(shared_hub: RunningHub) -> httpx.Client:
    return shared_hub.customer("bad-input")


@pytest.fixture(scope="module")
def site(shared_hub: RunningHub) -> FakeAgent:
    return shared_hub.site("bad-input")


@pytest.fixture(autouse=True)
def goes_on(customer: httpx.Client) -> Iterator[None]:
    """Whatever came, nothing was written, and the next good order is accepted."""
    before = len(customer.get("/v1/orders", params={"limit": 1000}).json()["orders"])
    yield
    orders = customer.get("/v1/orders", params={"limit": 1000}).json()["orders"]
    assert len(orders) == before
    quoted = customer.post("/v1/quotes", content=order_json(), headers=JSON)
    assert quoted.status_code == 200, quoted.text


def problem(answer: httpx.Response, status: int, code: str, field: str | None = None, says: str = "") -> None:
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["status"], told["code"]) == (status, code), told
    assert told["type"] == f"urn:yunhe:problem:{code}" and told["request_id"] == answer.headers["yunhe-request-id"]
    if field is not None:
        assert told["field"] == field, told
    assert says in told["detail"] + told["hint"], told


# --- bodies that are no order ---------------------------------------------------------------------------------------

BODIES: dict[str, tuple[bytes, int, str, str | None]] = {
    "empty": (b"", 422, "invalid_input", None),
    "not json": (b"{run: [true]", 422, "invalid_input", None),
    "cut off": (order_json().encode()[:-3], 422, "invalid_input", None),
    "not utf-8": (b'{"name": "\xff\xfe"}', 422, "invalid_input", None),
    "half surrogate": (b'{"run": {"command": ["\\ud800"]}}', 422, "invalid_input", "run.command[0]"),
    "half surrogate as a field": (b'{"\\udfff": 1, "run": {"command": ["a"]}}', 422, "invalid_input", None),
    "nul": (b'{"run": {"command": ["a\\u0000b"]}}', 422, "invalid_input", "run.command[0]"),
    "a list": (b"[]", 422, "invalid_input", None),
    "null": (b"null", 422, "invalid_input", None),
    "deep": (b'{"run":' * 20_000 + b"1" + b"}" * 20_000, 422, "invalid_input", None),
    "deep list": (b"[" * 200_000, 422, "invalid_input", None),
    "huge number": (b'{"array": ' + b"9" * 5_000 + b', "run": {"command": ["a"]}}', 422, "invalid_input", None),
    "big number": (b'{"array": ' + b"9" * 400 + b', "run": {"command": ["a"]}}', 422, "invalid_input", "array"),
    "nan": (order_json(requirement={"cores": float("nan")}).encode(), 422, "invalid_input", "requirement.cores"),
    "infinity": (order_json(requirement={"cores": float("inf")}).encode(), 422, "invalid_input", "requirement.cores"),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("path", ["/v1/orders", "/v1/quotes"])
def test_bodies_that_are_no_order(customer: httpx.Client, path: str, name: str) -> None:
    body, status, code, field = BODIES[name]
    problem(customer.post(path, content=body, headers=JSON), status, code, field)


def test_a_body_of_another_kind(customer: httpx.Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "nonsense"):
        answer = customer.post("/v1/orders", content=order_json(), headers={"Content-Type": kind})
        problem(answer, 422, "invalid_input", says="Content-Type: application/json")


# --- values ---------------------------------------------------------------------------------------------------------

VALUES: list[tuple[dict[str, object], str]] = [
    ({"requirement": {"cores": -1}}, "requirement.cores"),
    ({"requirement": {"cores": 0}}, "requirement.cores"),
    ({"requirement": {"cores": 1e300}}, "requirement.cores"),
    ({"requirement": {"cores": 1, "memory": "-1GiB"}}, "requirement.memory"),
    ({"requirement": {"cores": 1, "memory": "9999999EiB"}}, "requirement.memory"),
    ({"requirement": {"cores": 1, "memory": "12 parsecs"}}, "requirement.memory"),
    ({"requirement": {"compute": "NaNFLOPS@fp64"}}, "requirement.compute"),
    ({"requirement": {"compute": "1TFLOPS"}}, "requirement.compute"),
    ({"requirement": {"cores": 1, "slots": 10**9}}, "requirement.slots"),
    ({"requirement": {"cores": 1, "latency": "20ms:atlantis"}}, "requirement.latency"),
    ({"duration": "-5m"}, "duration"),
    ({"duration": "400d"}, "duration"),
    ({"start_at": "2026-12-01T08:00Z\x00"}, "start_at"),
    ({"deadline": "2026-12-01T08:00Z\x00"}, "deadline"),
    ({"budget": "1e9CNY"}, "budget"),
    ({"budget": "5EUR"}, "budget"),
    ({"array": 0}, "array"),
    ({"array": 10_001}, "array"),
    ({"array": True}, "array"),
    ({"retries": 11}, "retries"),
    ({"priority": -1}, "priority"),
    ({"run": {"command": []}}, "run.command"),
    ({"run": {"command": ["a"] * 257}}, "run.command"),
    ({"run": {"command": ["a"], "env": {"BAD=NAME": "1"}}}, 'run.env["BAD=NAME"]'),
    ({"run": {"command": ["a"], "files": {"../up": "x"}}}, 'run.files["../up"]'),
]


@pytest.mark.parametrize(("changes", "field"), VALUES, ids=[f"{n}-{field}" for n, (_, field) in enumerate(VALUES)])
def test_values_out_of_all_bounds(customer: httpx.Client, changes: dict[str, object], field: str) -> None:
    answer = customer.post("/v1/orders", content=order_json(**changes), headers=JSON)
    problem(answer, 422, "invalid_input", field)


def test_unknown_fields_are_told_with_what_was_meant(customer: httpx.Client) -> None:
    said = {
        "requirment": ({"requirment": {"cores": 1}}, "requirment", "requirement"),
        "memry": ({"requirement": {"cores": 1, "memry": "1GiB"}}, "requirement.memry", "memory"),
        "cores": ({"cores": 1}, "cores", "requirement"),
        "comand": ({"run": {"comand": ["a"]}}, "run.comand", "command"),
    }
    for changes, field, meant in said.values():
        answer = customer.post("/v1/orders", content=order_json(**changes), headers=JSON)
        problem(answer, 422, "unknown_field", field, says=meant)
    batch = {"orders": [json.loads(order_json()), json.loads(order_json(bugdet="1CNY"))]}
    answer = customer.post("/v1/orders:batch", json=batch)
    problem(answer, 422, "unknown_field", "orders[1].bugdet", says="budget")


def test_addresses_and_queries(customer: httpx.Client, shared_hub: RunningHub) -> None:
    problem(customer.get("/v1/nothing"), 404, "not_found")
    problem(customer.delete("/v1/orders"), 405, "invalid_input", says="DELETE")
    problem(customer.get("/v1/orders/ord_none"), 404, "not_found")
    problem(customer.get("/v1/orders/%00"), 422, "invalid_input")
    problem(customer.get("/v1/orders", params={"cursor": "\0"}), 422, "invalid_input")
    problem(customer.get("/v1/orders", params={"cursor": "ord_none"}), 422, "invalid_input", "cursor")
    problem(customer.get("/v1/orders", params={"limit": "9" * 50}), 422, "invalid_input", "limit")
    problem(customer.get("/v1/orders", params={"state": "asleep"}), 422, "invalid_input", "state")
    problem(customer.get("/v1/orders/" + "x" * 5_000), 404, "not_found")
    problem(customer.get("/v1/invoices/2026-13"), 422, "invalid_input", "month")
    problem(customer.get("/v1/postings", params={"cursor": "1.2"}), 422, "invalid_input", "cursor")
    problem(customer.get("/v1/sites/%ff%fe"), 404, "not_found")
    stranger = shared_hub.client("yk_" + "A" * 43)
    problem(stranger.get("/v1/orders"), 401, "unauthenticated")
    problem(shared_hub.client().get("/v1/orders"), 401, "unauthenticated")
    for said in ("Basic abc", "Bearer", "Bearer " + "k" * 9_000):
        problem(stranger.get("/v1/orders", headers={"Authorization": said}), 401, "unauthenticated")
    problem(customer.get("/v1/trial-balance"), 403, "forbidden")


# --- sizes ----------------------------------------------------------------------------------------------------------


def test_a_body_over_the_bound(customer: httpx.Client) -> None:
    body = order_json(name="x" * (10 * 1024 * 1024))
    problem(customer.post("/v1/orders", content=body, headers=JSON), 413, "too_large")


def test_a_chunked_body_over_the_bound(customer: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65_536 + 2):
            yield b" " * 65_536

    problem(customer.post("/v1/orders", content=endless(), headers=JSON), 413, "too_large")


def test_a_sync_over_the_bound(site: FakeAgent) -> None:
    problem(site.send("POST", "/v1/agent/sync", b" " * (MAX_SYNC_BYTES + 1)), 413, "too_large")
    site.poll()


def test_a_content_length_that_lies(shared_hub: RunningHub) -> None:
    host, _, port = shared_hub.url.removeprefix("http://").partition(":")
    for length in (b"-5", b"1e3", b"99999999999999999999"):
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            raw.sendall(b"POST /v1/orders HTTP/1.1\r\nHost: hub\r\nContent-Length: " + length + b"\r\n\r\n")
            status = raw.recv(4096).split(b"\r\n")[0]
        assert status.split()[1] in (b"400", b"413"), status


def test_huge_arrays(customer: httpx.Client) -> None:
    many = customer.post("/v1/orders:batch", json={"orders": [json.loads(order_json())] * 10_001})
    problem(many, 422, "invalid_input", "orders")
    problem(customer.post("/v1/orders:batch", json={"orders": []}), 422, "invalid_input", "orders")
    many = customer.post("/v1/orders:batch", json={"orders": [{}] * 9_000})
    problem(many, 422, "invalid_input", "orders[0].run")
    latency = [f"{n + 1}ms:shanghai" for n in range(17)]
    answer = customer.post("/v1/orders", content=order_json(requirement={"cores": 1, "latency": latency}), headers=JSON)
    assert answer.status_code == 422 and answer.json()["field"].startswith("requirement.latency")
    files = {f"f{n}": "x" for n in range(65)}
    answer = customer.post("/v1/orders", content=order_json(run={"command": ["a"], "files": files}), headers=JSON)
    problem(answer, 422, "invalid_input", "run.files")
    files = {"big": "x" * 1_100_000}
    answer = customer.post("/v1/orders", content=order_json(run={"command": ["a"], "files": files}), headers=JSON)
    problem(answer, 413, "too_large")


def test_a_command_line_is_no_place_for_data(customer: httpx.Client) -> None:
    """It is written once per task of an array, and sent once per task to a site."""
    run = {"command": ["a"] + ["x" * 4_096] * 100}
    answer = customer.post("/v1/orders", content=order_json(run=run, array=10_000), headers=JSON)
    problem(answer, 413, "too_large", "run", says="files")


# --- idempotency ----------------------------------------------------------------------------------------------------


def test_rules_of_the_idempotency_key(customer: httpx.Client) -> None:
    for key in ("", "a b", "ü".encode().decode("latin-1"), "k" * 101):
        headers = {b"Content-Type": b"application/json", b"Idempotency-Key": key.encode("latin-1")}
        answer = customer.post("/v1/orders", content=order_json(), headers=headers)
        problem(answer, 422, "invalid_input")


# --- sites that say absurd things -----------------------------------------------------------------------------------


def _pool(**changes: object) -> dict[str, object]:
    return {**cpu_pool().model_dump(mode="json"), **changes}


POOLS: list[tuple[dict[str, object], str]] = [
    (_pool(capacity_milli=-1), "capacity_milli"),
    (_pool(capacity_milli=10**30), "capacity_milli"),
    (_pool(watts_per_unit=10**6), "watts_per_unit"),
    (_pool(memory_bytes="lots"), "memory_bytes"),
    (_pool(name="Not A Name"), "name"),
    (_pool(chip_name="a\0b"), "chip_name"),
    (_pool(rates=[{"precision": "fp3", "measured_flops": 1}]), "rates[0].precision"),
    (_pool(rates=[{"precision": "fp64", "measured_flops": -1}]), "rates[0].measured_flops"),
    (_pool(benchmarks=[{"name": "a", "value": 1e300, "unit": "B/s", "repeats": 1, "spread_percent": 0}]), "value"),
    (_pool(cards=4), "cards"),
]


@pytest.mark.parametrize(("pool", "field"), POOLS, ids=[f"{n}-{field}" for n, (_, field) in enumerate(POOLS)])
def test_certificates_with_absurd_figures(site: FakeAgent, pool: dict[str, object], field: str) -> None:
    answer = _certify(site, [pool])
    assert answer.status_code == 422, answer.text
    told = answer.json()
    assert told["code"] in ("invalid_input", "unknown_field")
    assert told["field"].startswith("reports[0]") and told["field"].endswith(field), told
    site.poll()


def test_a_certificate_that_names_a_pool_twice(site: FakeAgent) -> None:
    problem(_certify(site, [_pool(), _pool()]), 422, "invalid_input", "pools")
    site.poll()


def _certify(site: FakeAgent, pools: list[dict[str, object]]) -> httpx.Response:
    message = site.sync_message().model_dump(mode="json")
    certificate = site.certificate().model_dump(mode="json")
    message["reports"] = [{**certificate, "seq": site.report_seq + 1, "pools": pools}]
    return site.send("POST", "/v1/agent/sync", json.dumps(message).encode())


def test_reports_with_numbers_that_no_column_holds(site: FakeAgent) -> None:
    lease = {"lease_id": "ord_1.0", "epoch": 2**31}
    for report in (
        {"kind": "started", "started_utc_ms": 1, **lease},
        {"kind": "ended", "reason": "exited", "exit_code": 2**31, "lease_id": "ord_1.0", "epoch": 1},
        {"kind": "ended", "reason": "exited", "exit_code": 0, "detail": "a\0", "lease_id": "ord_1.0", "epoch": 1},
    ):
        message = site.sync_message().model_dump(mode="json")
        message["reports"] = [{"seq": site.report_seq + 1, **report}]
        answer = site.send("POST", "/v1/agent/sync", json.dumps(message).encode())
        assert answer.status_code == 422 and answer.json()["field"].startswith("reports[0]"), answer.text
    site.poll()


def test_a_site_that_applied_more_than_was_ever_said(site: FakeAgent) -> None:
    message = site.sync_message().model_copy(update={"applied_seq": 10**12})
    problem(site.send("POST", "/v1/agent/sync", message.model_dump_json().encode()), 409, "conflict", "applied_seq")
    site.poll()


def test_the_model_of_a_pool_is_the_one_that_is_tested() -> None:
    assert PoolReport.model_validate(_pool()).name == "cpu"


def test_keys_that_no_order_can_have(customer: httpx.Client) -> None:
    problem(customer.post("/v1/orders:look", json={"keys": ["a", "b\0"]}), 422, "invalid_input", "keys[1]")


def test_a_secret_is_measured_also_in_an_order_that_is_known(customer: httpx.Client) -> None:
    for path in ("/v1/quotes", "/v1/orders"):
        for text, status in (("x", 200), ("\u8fd0" * 8_000, 413)):
            run = {"command": ["true"], "secrets": {"KEY": text}}
            if path == "/v1/orders" and status == 200:
                continue  # it would be accepted
            answer = customer.post(path, content=order_json(run=run), headers=JSON)
            assert answer.status_code == status, answer.text
