"""Accept orders: hold and rows in one transaction."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from yunhe.core.errors import Refused, YunheError
from yunhe.hub.accounts.service import Principal
from yunhe.hub.intake.pricing import Canonical, Priced
from yunhe.hub.ledger import service as ledger
from yunhe.hub.ledger.service import NewHold
from yunhe.hub.orders import create
from yunhe.hub.orders.model import NewOrder
from yunhe.hub.platform.writer import Tx
from yunhe.wire.api import OrderSpec
from yunhe.wire.origin import MAX_HUBS, Origin


@dataclass(frozen=True, slots=True)
class Submission:
    """Orders of one call: all are accepted or none."""

    orders: tuple[NewOrder, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """`fresh` False: the Idempotency-Key was known, and these are the orders that it made then."""

    ids: tuple[str, ...]
    fresh: bool


def new_order(
    who: Principal, spec: OrderSpec, text: Canonical, priced: Priced, now_ms: int, idem: tuple[str, str] | None
) -> NewOrder:
    """`idem` is (idempotency key, sha of the body)."""
    return NewOrder(
        id=f"ord_{now_ms:011x}{secrets.token_hex(5)}",
        org=who.organisation,
        member=who.member,
        spec=spec,
        spec_hash=text.hash,
        spec_json=text.json,
        bundle_sha256=text.bundle_sha256,
        bundle_json=text.bundle_json,
        submitted_ms=now_ms,
        deadline_ms=priced.shape.terms.deadline_ms,
        start_ms=priced.shape.terms.start_ms,
        hold_microcny=priced.hold_microcny,
        idem_key=idem[0] if idem else None,
        idem_sha=idem[1] if idem else None,
        origin_json=text.origin_json,
    )


def check_way(origin: Origin, hub_id: str) -> None:
    """Raises Refused for an order that has been at this hub before, or that went through too many hubs."""
    if hub_id in origin.hubs:
        raise Refused(
            f"the order has been at this hub before: it was passed down in a circle from {origin.lease_id}",
            field="origin.hubs",
            hint="of two hubs that are sites of each other, each must offer only what it does not have from the other",
        )
    if len(origin.hubs) >= MAX_HUBS:
        raise Refused(
            f"the order came through {len(origin.hubs)} hubs, and goes through at most {MAX_HUBS}",
            field="origin.hubs",
            hint="join the hub that has the sites, not one that stands on it",
        )


def accept(tx: Tx, submissions: Sequence[Submission]) -> list[Accepted | YunheError]:
    """Writer handler: one answer per submission."""
    answers: list[Accepted | YunheError | None] = [None] * len(submissions)
    fresh = _without_repeats(tx, submissions, answers)
    orders = [order for index in fresh for order in submissions[index].orders]
    refusals = ledger.hold_many(tx, [NewHold(o.id, o.org, o.hold_microcny) for o in orders])
    refused = {order.id: refusal for order, refusal in zip(orders, refusals, strict=True) if refusal is not None}
    kept: list[NewOrder] = []
    for index in fresh:
        item = submissions[index]
        refusal = next((refused[o.id] for o in item.orders if o.id in refused), None)
        if refusal is None:
            kept += item.orders
            answers[index] = Accepted(tuple(o.id for o in item.orders), fresh=True)
        elif len(item.orders) == 1:
            answers[index] = refusal
        else:
            # Some holds of this batch were taken: only a rollback undoes them. The others are rerun without it.
            raise refusal
    create.insert(tx, kept)
    return [answer for answer in answers if answer is not None]


def _without_repeats(
    tx: Tx, submissions: Sequence[Submission], answers: list[Accepted | YunheError | None]
) -> list[int]:
    """Indices of submissions to be written; repeats of an idempotency key get their answer."""
    keys = {
        (o.org, o.idem_key): (o.org, o.idem_key, o.idem_sha or "")
        for item in submissions
        for o in item.orders[:1]
        if o.idem_key is not None
    }
    known = create.known_keys(tx, list(keys.values()))
    first: dict[tuple[str, str], int] = {}
    fresh: list[int] = []
    for index, item in enumerate(submissions):
        order = item.orders[0]
        if order.idem_key is None:
            fresh.append(index)
            continue
        key = (order.org, order.idem_key)
        if key in known:
            found = known[key]
            answers[index] = found if isinstance(found, YunheError) else _repeat(tx, found, item)
        elif key in first:
            twin = submissions[first[key]]
            answers[index] = create.same_body(twin.orders[0], order) or Accepted(
                tuple(o.id for o in twin.orders), fresh=False
            )
        else:
            first[key] = index
            fresh.append(index)
    return fresh


def _repeat(tx: Tx, first_id: str, item: Submission) -> Accepted:
    if len(item.orders) == 1:
        return Accepted((first_id,), fresh=False)
    keys = [o.idem_key or "" for o in item.orders]
    return Accepted(create.ids_of_keys(tx, item.orders[0].org, keys), fresh=False)
