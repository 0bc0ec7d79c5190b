"""Secrets of orders at the hub: who gets them, when, and that nobody else ever sees them."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from tests.fakes.agent import FakeAgent, order_json, ran
from tests.hub.running import RunningHub, running_hub
from yunhe.core.errors import Conflict, InvalidInput
from yunhe.core.lifecycle import EndReason
from yunhe.hub.orders.vault import KEY_FILE, Vault
from yunhe.wire import sealing
from yunhe.wire.api.orders import MASK
from yunhe.wire.link import LeaseStarted, StartLease

JSON = {"Content-Type": "application/json"}
VALUE = "hunter2-Zürich"


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> Iterator[RunningHub]:
    with running_hub(database_url, tmp_path / "hub", poll_hold_ms=2_000) as running:
        yield running


def order_with(secrets: object, **changes: object) -> str:
    return order_json(run={"command": ["true"], "secrets": secrets}, **changes)


def submit(customer: httpx.Client, secrets: object = None, key: str = "", **changes: object) -> httpx.Response:
    headers = JSON | ({"Idempotency-Key": key} if key else {})
    return customer.post("/v1/orders", content=order_with(secrets or {"TOKEN": VALUE}, **changes), headers=headers)


def ask(site: FakeAgent, start: StartLease, epoch: int | None = None, speaking: int | None = None) -> httpx.Response:
    """As an agent asks; what it got is opened in `opened`."""
    key = sealing.new_key()
    body = json.dumps({"public_key": sealing.public_text(key)}).encode()
    path = f"/v1/agent/secrets/{start.lease_id}/{start.epoch if epoch is None else epoch}"
    answer = site.send("POST", path, body, epoch=speaking)
    if answer.is_success:
        bound_to = sealing.context(site.site_id, start.lease_id, start.epoch)
        plain = sealing.unseal(key, answer.json()["sealed"], bound_to)
        with pytest.raises(InvalidInput):
            sealing.unseal(key, answer.json()["sealed"], sealing.context(site.site_id, start.lease_id, start.epoch + 1))
        answer.extensions["opened"] = json.loads(plain)
    return answer


def kept(database_url: str) -> list[str]:
    """The rows of the secrets, from beside the hub."""
    url = database_url.replace("postgresql://", "postgresql+psycopg://")
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.connect() as conn:
        return list(conn.scalars(sa.text("SELECT sealed FROM secret")))


def test_the_site_that_holds_the_lease_gets_them_until_the_job_starts(hub: RunningHub, database_url: str) -> None:
    north, customer = hub.site(), hub.customer()
    order = submit(customer).json()
    [start] = north.wait_starts()
    assert start.secrets == ("TOKEN",) and VALUE not in start.model_dump_json()
    south = hub.site("south")  # only now, so that the order had one place to go
    for _ in range(2):  # a repeat is answered again
        answer = ask(north, start)
        assert answer.extensions["opened"] == {"TOKEN": VALUE}
        assert VALUE not in answer.text
    assert len(kept(database_url)) == 1
    assert ask(south, start).status_code == 404
    assert ask(north, start, epoch=start.epoch + 1).status_code == 404
    assert ask(north, start, speaking=north.epoch - 1).json()["code"] == "stale_message"
    unsigned = north.client.post(f"/v1/agent/secrets/{start.lease_id}/{start.epoch}", json={"public_key": "A" * 44})
    assert unsigned.status_code == 401
    north.poll([LeaseStarted(seq=0, lease_id=start.lease_id, epoch=start.epoch, started_utc_ms=1)])
    assert ask(north, start).status_code == 404
    north.poll(ran(start)[1:])
    assert customer.get(f"/v1/orders/{order['id']}/wait", params={"timeout_ms": 5_000}).json()["state"] == "succeeded"
    assert kept(database_url) == []
    assert ask(north, start).status_code == 404


def test_an_old_epoch_gets_nothing_and_the_next_one_does(hub: RunningHub, database_url: str) -> None:
    site, customer = hub.site(), hub.customer()
    submit(customer, retries=1)
    [first] = site.wait_starts()
    site.poll(ran(first, exit_code=3))
    [second] = site.wait_starts()
    assert (second.lease_id, second.epoch) == (first.lease_id, first.epoch + 1)
    assert ask(site, first).status_code == 404
    assert ask(site, second).extensions["opened"] == {"TOKEN": VALUE}
    site.poll(ran(second, reason=EndReason.EXITED, exit_code=4))
    assert kept(database_url) == []


def test_a_cancelled_order_gives_nothing_any_more(hub: RunningHub, database_url: str) -> None:
    site, customer = hub.site(), hub.customer()
    order = submit(customer).json()
    [start] = site.wait_starts()
    customer.post(f"/v1/orders/{order['id']}/cancel")
    assert ask(site, start).status_code == 404
    waiting = submit(customer, requirement={"cores": 4000}).json()
    assert len(kept(database_url)) == 2
    customer.post(f"/v1/orders/{waiting['id']}/cancel")
    assert len(kept(database_url)) == 1


def test_they_are_shown_by_name_only(hub: RunningHub) -> None:
    hub.site()
    customer = hub.customer()
    answer = submit(customer, {"TOKEN": VALUE, "OTHER": "x" * 8192})
    order = answer.json()
    shown = customer.get(f"/v1/orders/{order['id']}")
    assert shown.json()["spec"]["run"]["secrets"] == {"TOKEN": MASK, "OTHER": MASK}
    paths = ("", "/why", "/usage", "/outputs", "/logs")
    texts = [customer.get(f"/v1/orders/{order['id']}{path}").text for path in paths]
    quoted = customer.post("/v1/quotes", content=order_with({"TOKEN": VALUE}), headers=JSON).text
    for text in (*texts, quoted, answer.text, customer.get("/v1/orders").text):
        assert VALUE not in text and "xxxx" not in text


def test_an_order_as_it_is_shown_cannot_be_submitted_again(hub: RunningHub) -> None:
    customer = hub.customer()
    hub.site()
    refused = submit(customer, {"TOKEN": MASK})
    assert (refused.status_code, refused.json()["field"]) == (422, "run.secrets.TOKEN"), refused.text


@pytest.mark.parametrize(
    ("secrets", "field"),
    [
        ({"TOKEN": "hunter2" * 1171}, "run.secrets.TOKEN"),  # 8197 bytes
        ({"TOKEN": "é" * 4097}, "run.secrets.TOKEN"),
        ({f"S{n}": "hunter2" for n in range(17)}, "run.secrets"),
        ({"TOKEN": ""}, "run.secrets.TOKEN"),
        ({"TOKEN": ["hunter2"]}, "run.secrets.TOKEN"),
        ({"TOKEN": "hunter2\ud800"}, "run.secrets.TOKEN"),
        ({"a b": "hunter2"}, 'run.secrets["a b"]'),
        ({"../TOKEN": "hunter2"}, 'run.secrets["../TOKEN"]'),
        ("hunter2", "run.secrets"),
    ],
)
def test_what_is_refused_is_named_and_not_repeated(
    shared_hub: RunningHub, shared_customer: httpx.Client, secrets: object, field: str
) -> None:
    refused = submit(shared_customer, secrets)
    assert refused.status_code in (400, 413, 422), refused.text
    assert refused.json().get("field") == field, refused.text
    assert "hunter2" not in refused.text and "éé" not in refused.text


@pytest.fixture(scope="module")
def shared_customer(shared_hub: RunningHub) -> httpx.Client:
    shared_hub.site("shared-north")
    return shared_hub.customer("refused")


def test_a_repeat_is_one_order_and_another_secret_is_another_order(
    shared_hub: RunningHub, shared_customer: httpx.Client
) -> None:
    first = submit(shared_customer, key="k1")
    again = submit(shared_customer, key="k1")
    other = submit(shared_customer, {"TOKEN": "another"}, key="k1")
    assert (first.status_code, again.status_code, again.json()["id"]) == (201, 200, first.json()["id"])
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    batch = json.dumps({"orders": [json.loads(order_with({"TOKEN": VALUE}))] * 2})
    headers = JSON | {"Idempotency-Key": "k2"}
    made = [shared_customer.post("/v1/orders:batch", content=batch, headers=headers).json()["ids"] for _ in range(2)]
    assert made[0] == made[1]


# --- the vault ------------------------------------------------------------------------------------------------------


def test_the_key_is_the_owners_alone_and_the_same_for_all_replicas(tmp_path: Path) -> None:
    first, second = Vault.open(tmp_path), Vault.open(tmp_path)
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    assert json.loads(second.open_sealed("ord_1", first.seal("ord_1", {"A": VALUE}))) == {"A": VALUE}


def test_what_was_sealed_is_bound_to_its_order_and_key(tmp_path: Path) -> None:
    vault = Vault.open(tmp_path)
    sealed = vault.seal("ord_1", {"A": VALUE})
    assert vault.seal("ord_1", {"A": VALUE}) != sealed
    with pytest.raises(Conflict, match=KEY_FILE):
        vault.open_sealed("ord_2", sealed)
    (tmp_path / KEY_FILE).write_bytes(b"k" * 32)
    with pytest.raises(Conflict, match="submit the order again"):
        Vault.open(tmp_path).open_sealed("ord_1", sealed)
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(InvalidInput, match="backup"):
        Vault.open(tmp_path)
