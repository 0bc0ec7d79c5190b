"""Submitting orders, for the routes and for their express way."""

import hashlib
from dataclasses import dataclass, replace
from http import HTTPStatus

import orjson
from pydantic import ValidationError

from yunhe.core.errors import InvalidInput
from yunhe.core.lifecycle import OrderState
from yunhe.hub.accounts.service import Accounts, Principal, check_role
from yunhe.hub.intake import service
from yunhe.hub.intake.pricing import Canonical, Pricer, Reader
from yunhe.hub.intake.service import Submission
from yunhe.hub.orders import views
from yunhe.hub.orders.model import NewOrder
from yunhe.hub.orders.vault import Vault
from yunhe.hub.platform import identity
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.disk import DiskGuard
from yunhe.hub.platform.express import Handlers, Parcel, Reply
from yunhe.wire.api import MAX_BATCH_ORDERS, BatchAccepted, OrderSpec, OrderView
from yunhe.wire.api.orders import MASK
from yunhe.wire.convert import check_secrets
from yunhe.wire.data import check_named_secrets
from yunhe.wire.invalid import field_path

MAX_KEY = 100  # characters of an Idempotency-Key, all of them printable ASCII without the blank

Read = tuple[OrderSpec, Canonical]


@dataclass(frozen=True)
class Submitting:
    """Checks, prices and accepts orders of one caller."""

    platform: Platform
    pricer: Pricer
    disk: DiskGuard
    vault: Vault

    async def one(self, who: Principal, read: Read, key: str | None) -> tuple[OrderView, bool]:
        """(the order, whether it is new). Raises what intake refuses, and IdempotencyConflict."""
        self.disk.check()
        order = await self._prepare(who, read, (key, read[1].body_sha) if key else None)
        accepted = await self.platform.write(service.accept, Submission((order,)))
        if accepted.fresh:
            return _fresh_view(order), True
        return (await self.platform.read(lambda conn: views.order_views(conn, accepted.ids)))[0], False

    async def batch(self, who: Principal, read: list[Read], key: str | None, body: bytes) -> BatchAccepted:
        """All are accepted or none. Raises as `one`."""
        self.disk.check()
        sha = hashlib.sha256(body).hexdigest() if key else ""
        if key and any(spec.run.secrets for spec, _ in read):
            sha = self.vault.digest(sha, {})
        orders = [
            await self._prepare(who, item, (f"{key}#{index}", sha) if key else None) for index, item in enumerate(read)
        ]
        accepted = await self.platform.write(service.accept, Submission(tuple(orders)))
        return BatchAccepted(ids=accepted.ids)

    async def _prepare(self, who: Principal, read: Read, idem: tuple[str, str] | None) -> NewOrder:
        spec, text = read
        if spec.origin is not None:
            service.check_way(spec.origin, await self.platform.read(identity.hub_id))
        priced = self.pricer.known(text.hash)
        if priced is None:
            priced = await self.platform.read(lambda conn: self.pricer.price(conn, spec, text.hash))
        secrets = _secrets(spec)
        if secrets and idem is not None:
            idem = (idem[0], self.vault.digest(idem[1], secrets))
        order = service.new_order(who, spec, text, priced, self.platform.clock.now_ms(), idem)
        return replace(order, sealed=self.vault.seal(order.id, secrets)) if secrets else order


def _secrets(spec: OrderSpec) -> dict[str, str]:
    """Raises InvalidInput for a value that only stands for one: an order as it is shown, submitted again.

    What is known of an order's text says nothing about its secrets, so these are checked with every order.
    """
    check_named_secrets(spec.run)
    check_secrets(spec.run)
    secrets = {name: value.get_secret_value() for name, value in spec.run.secrets.items()}
    for name, text in secrets.items():
        if text == MASK:
            raise InvalidInput("is masked", field=field_path("run.secrets", name), hint="give the secret itself")
    return secrets


def express(submitting: Submitting, accounts: Accounts) -> Handlers:
    """POST /v1/orders and /v1/orders:batch for requests without anything unusual."""
    reader = Reader()

    async def caller(parcel: Parcel) -> Principal:
        who = await accounts.principal(parcel.headers.get("authorization"))
        check_role(who, ("customer",), parcel.method)
        return who

    async def order(parcel: Parcel) -> Reply | None:
        key = parcel.headers.get("idempotency-key")
        if not _plain(key):
            return None
        who = await caller(parcel)
        try:
            read = reader.read(parcel.body)
        except ValidationError:
            return None
        view, fresh = await submitting.one(who, read, key)
        return Reply(HTTPStatus.CREATED if fresh else HTTPStatus.OK, view.model_dump_json().encode())

    async def batch(parcel: Parcel) -> Reply | None:
        key = parcel.headers.get("idempotency-key")
        if not _plain(key):
            return None
        who = await caller(parcel)
        try:
            read = _read_batch(reader, parcel.body)
        except (ValidationError, orjson.JSONDecodeError, orjson.JSONEncodeError):
            return None
        if read is None:
            return None
        accepted = await submitting.batch(who, read, key, parcel.body)
        return Reply(HTTPStatus.CREATED, accepted.model_dump_json().encode())

    return {("POST", "/v1/orders"): order, ("POST", "/v1/orders:batch"): batch}


def _plain(key: str | None) -> bool:
    return key is None or (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable() and " " not in key)


def _read_batch(reader: Reader, body: bytes) -> list[Read] | None:
    """None for what is not a batch of orders. Each order is read by its own text, so equal ones are read once."""
    message = orjson.loads(body)
    orders = message.get("orders") if isinstance(message, dict) and len(message) == 1 else None
    if not isinstance(orders, list) or not 0 < len(orders) <= MAX_BATCH_ORDERS:
        return None
    return [reader.read(orjson.dumps(item)) for item in orders]


def _fresh_view(order: NewOrder) -> OrderView:
    """What was just written, without asking the database for it."""
    return OrderView(
        id=order.id,
        name=order.spec.name,
        account=order.org,
        state=OrderState.OPEN,
        submitted_utc_ms=order.submitted_ms,
        ended_utc_ms=None,
        array=order.spec.array,
        tasks={"pending": order.spec.array},
        hold_microcny=order.hold_microcny,
        charged_microcny=0,
        settled=False,
    )
