"""A charge can be followed back to the site's own signed words."""

import base64
import hashlib
from pathlib import Path

import pytest

from tests.fakes.agent import order_json, ran
from tests.hub.running import running_hub
from yunhe.core.errors import Unauthenticated
from yunhe.core.tariff import RatingInputs, rate
from yunhe.wire.link import Sync, UsageReport
from yunhe.wire.signing import load_public, verify


def _raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_an_auditor_recomputes_a_charge_from_signed_usage(tmp_path: Path) -> None:
    with running_hub(f"sqlite:///{tmp_path}/hub.db", tmp_path / "hub", poll_hold_ms=2_000) as hub:
        site, customer = hub.site(), hub.customer()
        headers = {"Content-Type": "application/json"}
        order = customer.post("/v1/orders", content=order_json(), headers=headers).json()
        [start] = site.wait_starts()
        site.poll(ran(start, wall_ms=4_000))
        customer.get(f"/v1/orders/{order['id']}/wait", params={"timeout_ms": 10_000})
        found = customer.get(f"/v1/orders/{order['id']}/usage").json()
        [usage], [charge] = found["usage"], found["charges"]

        assert customer.get(f"/v1/evidence/{usage['evidence']}").status_code == 403
        proof = hub.operator.get(f"/v1/evidence/{usage['evidence']}").json()
        key, signed, body = load_public(proof["public_key"]), _raw(proof["signed"]), _raw(proof["body"])
        verify(key, signed, proof["signature"])
        with pytest.raises(Unauthenticated):
            verify(key, signed + b"0", proof["signature"])
        assert signed.decode().endswith(hashlib.sha256(body).hexdigest())
        [said] = [r for r in Sync.model_validate_json(body).reports if isinstance(r, UsageReport)]
        assert (said.totals.wall_ms, said.totals.cpu_ms) == (usage["wall_ms"], usage["cpu_ms"])

        names = set(RatingInputs.__dataclass_fields__)
        again = rate(RatingInputs(**{name: value for name, value in charge["inputs"].items() if name in names}))
        assert again.price.total == charge["price"]["total_microcny"] > 0
        assert charge["inputs"]["wall_ms"] == said.totals.wall_ms
