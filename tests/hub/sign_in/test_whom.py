"""Whom a sign-in lets in, for whom they act, and when that is over."""

from tests.fakes.oidc import FakeProvider
from tests.hub.conftest import FakeClock, MakeKey
from tests.hub.sign_in.door import STAFF, Door, MakeDoor, link


def test_who_is_not_known_is_told_what_to_tell_the_operator(door: Door, provider: FakeProvider) -> None:
    refused = door.enter()
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert provider.subject in refused.json()["detail"] and provider.url in refused.json()["detail"]
    assert "ask the operator" in refused.json()["hint"]


def test_a_person_is_the_subject_and_no_address_of_mail(
    door: Door, linked: dict[str, str], provider: FakeProvider
) -> None:
    provider.more = {"email": "somebody.else@example.com", "email_verified": True}
    assert door.enter().json()["organisation"] == "acme"
    provider.subject, provider.more = "another", {"email": "li.wei@example.com", "preferred_username": "li.wei"}
    assert door.enter().status_code == 403


def test_newcomers_get_an_account_of_their_own_where_the_operator_says_so(
    door_with: MakeDoor, provider: FakeProvider, operator: dict[str, str]
) -> None:
    door = door_with(newcomers="create")
    first, again = door.enter().json(), door.enter().json()
    assert (first["role"], first["member"]) == ("customer", "li.wei")
    assert first["organisation"] == again["organisation"]
    provider.subject = "zhang"
    assert door.enter().json()["organisation"] != first["organisation"]
    listed = door.client.get("/v1/organisations", headers=operator).json()["organisations"]
    assert [o["credit_limit_microcny"] for o in listed if o["id"] == first["organisation"]] == [0]
    # Whoever came in stays known when the rule is changed.
    assert door_with(newcomers="refuse").enter().json()["organisation"] != first["organisation"]


MAIL: list[tuple[dict[str, object], int]] = [
    ({"email": "li@Example.com", "email_verified": True}, 201),
    ({"email": "li@example.com", "email_verified": "true"}, 403),
    ({"email": "li@example.com"}, 403),
    ({"email": "li@sub.example.com", "email_verified": True}, 403),
    ({"email": "li@example.com@evil.example", "email_verified": True}, 403),
    ({"email": ["li@example.com"], "email_verified": True}, 403),
    ({}, 403),
]


def test_only_the_domains_that_are_named(door_with: MakeDoor, provider: FakeProvider) -> None:
    door = door_with(newcomers="create", email_domains=["example.com"])
    for provider.more, status in MAIL:
        assert door.enter().status_code == status, provider.more


def test_a_claim_gives_an_account_and_a_role_and_takes_them_again(
    door_with: MakeDoor, provider: FakeProvider, operator: dict[str, str], as_role: MakeKey
) -> None:
    as_role("acme", "customer")
    grants = [
        {"claim": "groups", "value": "auditors", "organisation": "acme", "role": "auditor"},
        {"claim": "groups", "value": "users", "organisation": "acme", "role": "customer"},
        {"claim": "groups", "value": "lost", "organisation": "nowhere", "role": "customer"},
    ]
    door = door_with(grants=grants)
    provider.more = {"groups": ["users", "auditors"]}
    auditor = door.key()
    assert door.client.get("/v1/whoami", headers=auditor).json()["role"] == "auditor"
    provider.more = {"groups": ["users"]}
    customer = door.key()
    assert door.client.get("/v1/whoami", headers=customer).json()["role"] == "customer"
    # What the claim gives no more is over at the next sign-in, here and in every other browser.
    assert door_with(grants=grants).client.get("/v1/whoami", headers=auditor).status_code == 401
    provider.more = {"groups": "user"}
    assert door.enter().status_code == 403
    assert door_with(grants=grants).client.get("/v1/whoami", headers=customer).status_code == 401
    provider.more = {"groups": ["lost"]}
    assert "nowhere" in door.enter().json()["detail"]


def test_an_address_that_nobody_verified_is_no_claim(
    door_with: MakeDoor, provider: FakeProvider, as_role: MakeKey
) -> None:
    as_role("acme", "customer")
    grants = [{"claim": "email", "value": "li@example.com", "organisation": "acme", "role": "customer"}]
    door = door_with(grants=grants)
    for provider.more, status in MAIL[1:3]:
        assert door.enter().status_code == status, provider.more
    provider.more = {"email": "li@example.com", "email_verified": True}
    assert door.enter().json()["organisation"] == "acme"


def test_the_operators_word_goes_before_claims_and_domains(
    door_with: MakeDoor, provider: FakeProvider, operator: dict[str, str], as_role: MakeKey
) -> None:
    as_role("acme", "customer")
    grants = [{"claim": "preferred_username", "value": "li.wei", "organisation": "operator", "role": "operator"}]
    door = door_with(grants=grants, email_domains=["example.com"])
    link(door, operator, provider.subject, "auditor")
    assert (door.enter().json()["organisation"], door.enter().json()["role"]) == ("acme", "auditor")


def test_links_are_the_operators(
    door: Door, linked: dict[str, str], provider: FakeProvider, operator: dict[str, str], as_role: MakeKey
) -> None:
    assert link(door, operator, provider.subject) == linked  # twice is once
    body = {
        "provider": STAFF,
        "subject": provider.subject,
        "organisation": "operator",
        "member": "m",
        "role": "operator",
    }
    taken = door.client.post("/v1/identities", json=body, headers=operator)
    assert (taken.status_code, taken.json()["field"]) == (409, "subject")
    for headers in (as_role("acme", "customer"), as_role("acme", "provider"), as_role("audit", "auditor")):
        assert door.client.post("/v1/identities", json=body, headers=headers).status_code == 403
        assert door.client.request("DELETE", f"/v1/identities/{linked['id']}", headers=headers).status_code == 403
    assert door.client.get("/v1/identities", headers=as_role("acme", "customer")).status_code == 403
    page = door.client.get("/v1/identities", headers=as_role("audit", "auditor")).json()
    assert [item["subject"] for item in page["identities"]] == [provider.subject]
    headers = door.key()
    gone = door.client.request("DELETE", f"/v1/identities/{linked['id']}", headers=operator)
    assert gone.json()["id"] == linked["id"]
    assert door.enter().status_code == 403
    unknown = {**body, "subject": "x", "organisation": "nobody"}
    assert door.client.post("/v1/identities", json=unknown, headers=operator).json()["field"] == "organisation"
    actions = [e["action"] for e in door.client.get("/v1/audit", headers=operator).json()["entries"]]
    assert [a for a in actions if a.startswith(("identity", "session"))] == [
        "identity.unlink",
        "session.create",
        "identity.link",
    ]
    assert headers


def test_who_is_unlinked_is_out(door: Door, linked: dict[str, str], operator: dict[str, str], clock: FakeClock) -> None:
    headers = door.key()
    door.client.request("DELETE", f"/v1/identities/{linked['id']}", headers=operator)
    clock.ms += 2_000
    assert door.client.get("/v1/whoami", headers=headers).status_code == 401


def test_a_page_of_identities_ends_where_the_next_begins(
    door: Door, operator: dict[str, str], as_role: MakeKey
) -> None:
    as_role("acme", "customer")
    made = {link(door, operator, f"s{n}")["id"] for n in range(5)}
    seen, cursor = set(), ""
    while cursor is not None:
        page = door.client.get(f"/v1/identities?limit=2&cursor={cursor}", headers=operator).json()
        seen |= {item["id"] for item in page["identities"]}
        cursor = page["next_cursor"]
    assert seen == made


def test_of_many_sessions_the_oldest_go(door: Door, linked: dict[str, str], clock: FakeClock) -> None:
    made = []
    for _ in range(5):
        made.append(door.key())
        clock.ms += 10
    clock.ms += 2_000
    assert [door.client.get("/v1/whoami", headers=key).status_code for key in made] == [401, 401, 200, 200, 200]


def test_a_key_is_no_session(door: Door, as_role: MakeKey) -> None:
    headers = as_role("acme", "customer")
    kept = door.client.post("/v1/sign-out", headers=headers)
    assert (kept.status_code, kept.json()["code"]) == (409, "conflict")
    assert door.client.get("/v1/whoami", headers=headers).status_code == 200
    assert door.client.post("/v1/sign-out").status_code == 401


def test_an_auditor_can_sign_out(
    door: Door, operator: dict[str, str], as_role: MakeKey, provider: FakeProvider
) -> None:
    as_role("acme", "customer")
    link(door, operator, provider.subject, "auditor")
    assert door.client.post("/v1/sign-out", headers=door.key()).status_code == 200
