"""What people change leaves a line: who, when, what, before and after; and a quota can be changed while it is used."""

import json

from tests.hub.conftest import ApiClient, FakeClock, MakeKey
from tests.hub.world import World
from yunhe.hub.accounts import administration
from yunhe.hub.accounts.service import Principal
from yunhe.hub.platform.context import Platform


def test_what_operators_do_is_written_down_once(client: ApiClient, as_role: MakeKey) -> None:
    operator, auditor = as_role("operator", "operator"), as_role("watch", "auditor")
    lab = {"id": "lab", "name": "Lab", "quota_cores": 8}
    assert client.post("/v1/organisations", lab, operator).status_code == 201
    assert client.post("/v1/organisations", lab, operator).status_code == 409
    key = client.post("/v1/keys", {"organisation": "lab", "member": "li", "role": "customer"}, operator).json()
    for _ in range(2):
        assert client.request("DELETE", f"/v1/keys/{key['id']}", headers=operator).status_code == 200
        paid = {"organisation": "lab", "amount": "5CNY", "reference": "first"}
        assert client.post("/v1/deposits", paid, operator).status_code == 200
        change = {"quota_cores": 4, "weight": 3}
        assert client.request("PATCH", "/v1/organisations/lab", json=change, headers=operator).status_code == 200
    token = client.post("/v1/enrolment-tokens", {"provider": "lab"}, operator).json()["token"]

    page = client.get("/v1/audit", auditor)
    told = [(e["action"], e["subject"], e["before"], e["after"]) for e in page.json()["entries"]]
    holder = {"member": "li", "organisation": "lab", "role": "customer"}
    assert told == [
        ("token.issue", "lab", {}, {"expires_ms": told[0][3]["expires_ms"]}),
        ("organisation.change", "lab", {"quota_milli": 8000, "weight": 1}, {"quota_milli": 4000, "weight": 3}),
        ("deposit", "lab", {}, {"amount_microcny": 5_000_000, "reference": "first"}),
        ("key.revoke", key["id"], {"revoked": False}, {"revoked": True}),
        ("key.create", key["id"], {}, holder),
        (
            "organisation.create",
            "lab",
            {},
            {"credit_limit_microcny": 0, "name": "Lab", "quota_milli": 8000, "weight": 1},
        ),
    ]
    assert {(e["organisation"], e["member"], e["role"]) for e in page.json()["entries"]} == {
        ("operator", "tester", "operator")
    }
    assert key["key"] not in page.text and token not in page.text

    second = client.get("/v1/audit?limit=2", auditor).json()
    rest = client.get(f"/v1/audit?cursor={second['next_cursor']}&subject=lab", auditor).json()
    assert [e["action"] for e in rest["entries"]] == ["deposit", "organisation.create"]
    assert client.get("/v1/audit?cursor=x", auditor).status_code == 422
    assert client.get("/v1/audit", as_role("lab", "customer")).status_code == 403


def test_what_a_provider_does_with_its_site_is_there_too(
    client: ApiClient, as_role: MakeKey, platform: Platform, clock: FakeClock
) -> None:
    world = World(platform, clock)
    site, provider, operator = world.site("north"), as_role("centre", "provider"), as_role("operator", "operator")
    assert client.post(f"/v1/sites/{site.id}/pause", {}, provider).status_code == 200
    terms = {"price_per_core_hour": "0.5CNY"}
    assert client.request("PUT", f"/v1/sites/{site.id}/terms", json=terms, headers=operator).status_code == 200
    stranger = as_role("stranger", "provider")
    assert client.post(f"/v1/sites/{site.id}/resume", {}, stranger).status_code == 404
    entries = client.get(f"/v1/audit?subject={site.id}", operator).json()["entries"]
    assert [(e["action"], e["organisation"]) for e in entries] == [("site.terms", "operator"), ("site.pause", "centre")]
    assert (entries[1]["before"], entries[1]["after"]) == ({"state": "active"}, {"state": "paused"})
    assert entries[0]["after"] == {"price_microcny_per_core_hour": 500_000}


# --- quotas and weights -------------------------------------------------------------------------------------------


def test_an_account_is_changed_by_operators_alone(client: ApiClient, as_role: MakeKey) -> None:
    operator = as_role("operator", "operator")
    as_role("lab", "customer")

    def patch(body: object, headers: dict[str, str], name: str = "lab") -> tuple[int, dict[str, object]]:
        answer = client.request("PATCH", f"/v1/organisations/{name}", json=body, headers=headers)
        return answer.status_code, json.loads(answer.text)

    for role in ("customer", "provider", "auditor"):
        assert patch({"weight": 5}, as_role("lab", role))[0] == 403
    assert patch({"weight": 5}, operator, "nobody")[0] == 404
    for wrong in ({"weight": 0}, {"quota_cores": -1}, {"quota_cores": "all"}, {"credit_limit": "much"}, {"id": "x"}):
        assert patch(wrong, operator)[0] == 422, wrong
    for quota in (-1, 0.0001, 1e10, "all", True):
        status, told = patch({"quota_cores": quota}, operator)
        assert (status, told["field"]) == (422, "quota_cores"), told
        assert "must be 0, a number from 0.001 to 1e+09, or 'none'" in str(told["detail"]), told
    status, lab = patch({"quota_cores": 2.5, "credit_limit": "10CNY", "name": "The lab", "weight": 7}, operator)
    assert (status, lab["quota_milli"], lab["credit_limit_microcny"], lab["name"], lab["weight"]) == (
        200,
        2500,
        10_000_000,
        "The lab",
        7,
    )
    assert patch({"quota_cores": "none"}, operator)[1]["quota_milli"] is None
    assert patch({}, operator)[1]["weight"] == 7


def test_a_quota_below_its_use_holds_and_takes_nothing_away(platform: Platform, clock: FakeClock) -> None:
    world = World(platform, clock)
    world.organisation("lab", quota_milli=2000)
    site = world.site("north", cores=8)
    running = [world.submit("lab") for _ in range(2)]
    assert world.round() == 2
    who = Principal("operator", "o", "operator", "k")

    def set_quota(milli: int | None) -> int:
        change = administration.Change(who, "lab", {"quota_milli": milli})
        return world.write(administration.change_organisations, change).used_milli

    assert set_quota(1000) == 2000
    waiting = world.submit("lab")
    assert world.round() == 0
    assert [world.order(i).state for i in running] == ["running", "running"]
    first = next(iter(site.held.values()))
    site.poll(site.started(first), site.used(first, 10, final=True), site.ended(first))
    assert world.round() == 0  # as much as the quota runs still
    site.run()
    assert world.round() == 1
    assert world.order(waiting).state == "running"
    world.submit("lab")
    assert world.round() == 0
    set_quota(None)
    assert world.round() == 1
