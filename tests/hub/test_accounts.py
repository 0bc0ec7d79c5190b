"""Accounts: keys are secrets, roles are kept, quotas are guarded."""

import functools
import logging
import threading

import pytest
import sqlalchemy as sa

from tests.hub.conftest import ApiClient, Begin, FakeClock, MakeKey
from yunhe.core.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from yunhe.core.round import AccountShare
from yunhe.hub.accounts import service as accounts
from yunhe.hub.accounts.service import NewKey, Organisation, Principal, check_role
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.db import metadata
from yunhe.hub.platform.writer import Tx


def make_key(tx: Tx, organisation: str, role: accounts.Role) -> NewKey:
    accounts.create_organisations(tx, [Organisation(organisation, organisation)])
    made = accounts.create_keys(tx, [NewKey(organisation, "tester", role)])[0]
    assert isinstance(made, NewKey)
    return made


def test_a_key_names_its_holder_until_it_is_revoked(tx: Tx) -> None:
    key = make_key(tx, "acme", "customer")
    who, _ = accounts.authenticate(tx.conn, key.secret, tx.now_ms)
    assert who == Principal("acme", "tester", "customer", key.id)
    assert isinstance(accounts.revoke_keys(tx, [(who, key.id)])[0], accounts.Key)
    with pytest.raises(Unauthenticated, match="revoked"):
        accounts.authenticate(tx.conn, key.secret, tx.now_ms)


@pytest.mark.parametrize("key", ["", "yk_", "yk_" + "A" * 43, "yk_" + "A" * 44, "xx_" + "A" * 43, "yk_" + "é" * 43])
def test_what_is_no_key_is_refused_without_repeating_it(tx: Tx, key: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        accounts.authenticate(tx.conn, key, tx.now_ms)
    assert not key or key not in str(refused.value)


def test_keys_are_256_random_bits(tx: Tx) -> None:
    secrets = {make_key(tx, "acme", "customer").secret for _ in range(50)}
    assert len(secrets) == 50
    assert {len(secret) for secret in secrets} == {accounts.KEY_LENGTH}


def test_another_organisations_key_cannot_be_revoked(tx: Tx) -> None:
    key = make_key(tx, "acme", "customer")
    stranger = Principal("other", "m", "customer", "k")
    assert isinstance(accounts.revoke_keys(tx, [(stranger, key.id)])[0], NotFound)
    assert accounts.authenticate(tx.conn, key.secret, tx.now_ms)[0].key_id == key.id


def test_keys_and_tokens_are_never_stored_or_logged(
    platform: Platform, client: ApiClient, as_role: MakeKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    operator = as_role("operator", "operator")
    body = {"organisation": "operator", "member": "m", "role": "auditor"}
    made = client.post("/v1/keys", json=body, headers=operator).json()
    token = client.post("/v1/enrolment-tokens", json={"provider": "operator"}, headers=operator).json()["token"]
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert client.get("/v1/whoami", headers=headers).status_code == 200
    assert made["key"] not in client.get("/v1/keys", headers=headers).text
    client.get("/v1/whoami", headers={"Authorization": f"Bearer {made['key']}x"})
    with platform.db.reading() as conn:
        stored = [str(row) for table in metadata.sorted_tables for row in conn.execute(sa.select(table))]
    assert any(made["id"] in row for row in stored)
    secrets = [operator["Authorization"].split()[1], made["key"], token]
    for secret in secrets:
        assert not any(secret in row for row in stored)
        assert secret not in caplog.text
    assert made["key"] not in repr(NewKey("o", "m", "auditor", "id", made["key"]))


def test_bootstrap_gives_one_key_once(tx: Tx) -> None:
    key = accounts.bootstrap(tx)
    assert key is not None
    assert accounts.authenticate(tx.conn, key, tx.now_ms)[0].role == "operator"
    assert accounts.bootstrap(tx) is None


def test_organisations_are_made_once(tx: Tx) -> None:
    first, second = accounts.create_organisations(tx, [Organisation("acme", "A"), Organisation("acme", "B")])
    assert first == Organisation("acme", "A")
    assert isinstance(second, Conflict)
    assert isinstance(accounts.create_keys(tx, [NewKey("nobody", "m", "customer")])[0], InvalidInput)


def test_quota_is_taken_and_given_back(tx: Tx) -> None:
    accounts.create_organisations(tx, [Organisation("a", "A", quota_milli=1000), Organisation("b", "B", weight=3)])
    assert accounts.reserve_quota(tx, {"b": 9000, "a": 800, "nobody": 1}) == {"nobody"}
    assert accounts.reserve_quota(tx, {"a": 201}) == {"a"}
    assert accounts.reserve_quota(tx, {"a": 200}) == set()
    accounts.release_quota(tx, {"a": 500, "b": 99_999})
    assert accounts.shares(tx.conn) == (AccountShare("a", 1, 500, 1000), AccountShare("b", 3, 0, None))


@pytest.mark.usefixtures("only_postgresql")
def test_two_writers_share_one_quota(begin: Begin) -> None:
    with begin() as tx:
        accounts.create_organisations(tx, [Organisation("a", "A", quota_milli=100), Organisation("b", "B")])
    refused: list[set[str]] = []

    def reserve() -> None:
        for _ in range(80):
            with begin() as tx:
                refused.append(accounts.reserve_quota(tx, {"a": 1, "b": 1}))

    threads = [threading.Thread(target=reserve) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert refused.count(set()) == 100
    assert refused.count({"a"}) == 60


def test_a_revoked_key_works_for_two_seconds_at_most(
    platform: Platform, client: ApiClient, as_role: MakeKey, clock: FakeClock
) -> None:
    headers = as_role("acme", "customer")
    assert client.get("/v1/whoami", headers=headers).json() == {
        "organisation": "acme",
        "member": "tester",
        "role": "customer",
    }

    def revoke(tx: Tx, items: object) -> list[None]:
        # As another replica would: this process's cache is not told.
        tx.conn.exec_driver_sql("UPDATE api_key SET revoked_ms = 1")
        return [None]

    platform.writer.do_blocking(revoke, None)
    clock.ms += accounts.CACHE_TTL_MS
    refused = client.get("/v1/whoami", headers=headers)
    assert refused.status_code == 401
    assert refused.json()["code"] == "unauthenticated"


def test_a_revocation_counts_at_once_where_it_was_made(client: ApiClient, as_role: MakeKey) -> None:
    headers = as_role("acme", "customer")
    key_id = client.get("/v1/keys", headers=headers).json()["keys"][0]["id"]
    assert client.request("DELETE", f"/v1/keys/{key_id}", headers=headers).json()["revoked_utc_ms"] is not None
    assert client.get("/v1/whoami", headers=headers).status_code == 401


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic yk_x", "Bearer yk_wrong", "Bearer \x01\x02"])
def test_a_missing_or_strange_header_is_a_401(client: ApiClient, header: str | None) -> None:
    answer = client.get("/v1/whoami", headers={} if header is None else {"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_the_role_rule() -> None:
    def admitted(role: accounts.Role, roles: tuple[accounts.Role, ...], method: str) -> bool:
        try:
            check_role(Principal("o", "m", role, "k"), roles, method)
        except Forbidden:
            return False
        return True

    assert admitted("operator", (), "POST")
    assert admitted("auditor", (), "GET")
    assert not admitted("auditor", ("customer", "provider"), "POST")
    assert admitted("customer", ("customer",), "POST")
    assert not admitted("customer", ("provider",), "GET")
    assert not admitted("provider", (), "GET")


# Each route with a body that is understood; who is let in to it. Everybody else gets 403, nobody without a key 401.
ALL = "customer provider operator auditor"
ROUTES = [
    ("POST", "/v1/organisations", {"id": "new", "name": "New"}, "operator"),
    ("GET", "/v1/organisations", None, ALL),
    ("POST", "/v1/keys", {"organisation": "acme", "member": "m", "role": "customer"}, "operator"),
    ("GET", "/v1/keys", None, ALL),
    ("DELETE", "/v1/keys/key-none", None, "customer provider operator"),
    ("GET", "/v1/whoami", None, ALL),
    ("GET", "/v1/balance", None, ALL),
    ("POST", "/v1/deposits", {"organisation": "acme", "amount": "1CNY", "reference": "r"}, "operator"),
    ("GET", "/v1/trial-balance", None, "operator auditor"),
    ("GET", "/v1/postings", None, ALL),
    ("POST", "/v1/enrolment-tokens", {"provider": "acme"}, "operator"),
    ("PATCH", "/v1/organisations/none", {}, "operator"),
    ("GET", "/v1/audit", None, "operator auditor"),
    ("GET", "/v1/sites", None, ALL),
    ("GET", "/v1/sites/none", None, ALL),
    ("POST", "/v1/sites/none/approve", {}, "operator"),
    ("PUT", "/v1/sites/none/terms", {}, "operator"),
    ("PUT", "/v1/sites/none/tariff", {}, "provider operator"),
    ("POST", "/v1/sites/none/certify", None, "operator"),
    ("POST", "/v1/sites/none/pause", None, "provider operator"),
    ("POST", "/v1/sites/none/resume", None, "provider operator"),
    ("POST", "/v1/sites/none/leave", None, "provider operator"),
    ("GET", "/v1/pools", None, ALL),
]
OPEN = ["/v1/chips", "/v1/clusters", "/v1/factors", "/v1/places"]


@pytest.mark.parametrize(("method", "path", "body", "admitted"), ROUTES, ids=lambda value: str(value)[:40])
def test_each_route_admits_its_roles(
    client: ApiClient, as_role: MakeKey, method: str, path: str, body: object, admitted: str
) -> None:
    assert client.request(method, path, json=body).status_code == 401
    for role in accounts.Role.__args__:
        answer = client.request(method, path, json=body, headers=as_role("acme", role))
        if role in admitted.split():
            assert answer.status_code in (200, 201, 404), (role, answer.text)
        else:
            assert answer.status_code == 403, (role, answer.text)
            assert answer.json()["code"] == "forbidden"


def test_the_table_of_roles_names_every_route(client: ApiClient) -> None:
    document = client.get("/openapi.json").json()
    known = {(method, path) for method, path, _, _ in ROUTES} | {("GET", path) for path in OPEN}
    known.add(("POST", "/v1/agent/enrol"))
    served = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    names = {"{site_id}": "none", "{organisation_id}": "none", "{key_id}": "key-none"}
    shown = {(m, functools.reduce(lambda text, n: text.replace(n, names[n]), names, p)) for m, p in served}
    assert shown == known


@pytest.mark.parametrize("path", OPEN)
def test_facts_are_open_and_carry_their_source(client: ApiClient, path: str) -> None:
    rows = client.get(path).json()["rows"]
    assert len(rows) >= 10
    assert all(row["source"] and row["confidence"] for row in rows)


def test_what_belongs_to_others_is_not_known(client: ApiClient, as_role: MakeKey) -> None:
    acme, other = as_role("acme", "customer"), as_role("other", "customer")
    assert [o["id"] for o in client.get("/v1/organisations", headers=acme).json()["organisations"]] == ["acme"]
    assert client.get("/v1/balance?organisation=acme", headers=other).status_code == 404
    assert client.get("/v1/postings?account=org:acme:available", headers=other).status_code == 404
    auditor = as_role("audit", "auditor")
    assert client.get("/v1/balance?organisation=acme", headers=auditor).json()["account"] == "acme"
    assert client.get("/v1/postings?account=org:acme:available", headers=auditor).json()["postings"] == []
    assert len(client.get("/v1/organisations", headers=auditor).json()["organisations"]) == 3


def test_deposits_over_the_api(client: ApiClient, as_role: MakeKey) -> None:
    operator, acme = as_role("operator", "operator"), as_role("acme", "customer")
    body = {"organisation": "acme", "amount": "3.50CNY", "reference": "bank-1"}
    for _ in range(2):
        assert client.post("/v1/deposits", json=body, headers=operator).json()["available_microcny"] == 3_500_000
    changed = client.post("/v1/deposits", json={**body, "amount": "4CNY"}, headers=operator)
    assert (changed.status_code, changed.json()["code"]) == (409, "idempotency_conflict")
    for amount in ("0CNY", "-1CNY", "1USD", "NaN", "1e9CNY", "1", "99999999999CNY"):
        bad = client.post("/v1/deposits", json={**body, "amount": amount}, headers=operator)
        assert (bad.status_code, bad.json()["field"]) == (422, "amount"), bad.text
    page = client.get("/v1/postings", headers=acme).json()
    assert [(p["source"], p["amount"]) for p in page["postings"]] == [("world:deposits", 3_500_000)]
    trial = client.get("/v1/trial-balance", headers=operator).json()
    assert trial["balanced"] and trial["sum_by_unit"] == {"CNY/6": 0}
