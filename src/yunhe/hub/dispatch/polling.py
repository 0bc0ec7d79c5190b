"""Signed requests of agents, and the poll: checked, applied, held until there is something to say."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import Request
from pydantic import ValidationError

from yunhe.core.errors import Conflict, NotFound, Unauthenticated
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.dispatch.outbox_reader import OutboxReader
from yunhe.hub.dispatch.sync import Poll, SyncHandler
from yunhe.hub.orders import outbox
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.express import Handlers, Parcel, Reply
from yunhe.wire.invalid import from_validation_error
from yunhe.wire.link import MAX_INSTRUCTIONS_PER_ANSWER, Sync
from yunhe.wire.signing import EPOCH_HEADER, SIGNATURE_HEADER, SITE_HEADER, load_public, signed_bytes, verify

SYNC = "/v1/agent/sync"


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request whose signature was verified against the site's registered key."""

    site_id: str
    epoch: int
    body: bytes
    signed: bytes
    signature: str


class Gate:
    """Verifies signatures. Keys never change, so they are kept once they were read."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._keys: dict[str, Ed25519PublicKey] = {}

    async def __call__(self, request: Request) -> SignedRequest:
        """The dependency of signed routes."""
        # As it came over the wire: what was signed is not what a decoded path looks like.
        query = request.scope["query_string"].decode("latin-1")
        target = request.scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
        headers = {name: request.headers.get(name, "") for name in _SIGNING}
        return await self.check(request.method, target, headers, await request.body())

    async def check(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> SignedRequest:
        """Raises Unauthenticated. `headers` by lower-case name."""
        site_id, epoch_text, signature = (headers.get(name, "") for name in _SIGNING)
        if not site_id or not signature or not epoch_text.isascii() or not epoch_text.isdigit() or len(epoch_text) > 15:
            raise Unauthenticated("a site's request must be signed", field=SIGNATURE_HEADER, hint="")
        key = self._keys.get(site_id)
        if key is None:
            try:
                text = await self._platform.read(lambda conn: catalogue.public_key(conn, site_id))
            except NotFound:
                raise Unauthenticated(f"site {site_id[:80]} is not known here", field=SITE_HEADER, hint="") from None
            key = self._keys[site_id] = load_public(text)
        signed = signed_bytes(method, target, site_id, int(epoch_text), body)
        verify(key, signed, signature)
        return SignedRequest(site_id, int(epoch_text), body, signed, signature)


_SIGNING = (SITE_HEADER.lower(), EPOCH_HEADER.lower(), SIGNATURE_HEADER.lower())


def same_site(signed: SignedRequest, site_id: str) -> None:
    """Raises Unauthenticated when a message speaks for another site."""
    if signed.site_id != site_id:
        raise Unauthenticated("the message speaks for another site than its signature", field="site_id", hint="")


@dataclass(frozen=True)
class Polling:
    """What a poll does."""

    platform: Platform
    reader: OutboxReader
    handler: SyncHandler

    async def poll(self, signed: SignedRequest) -> bytes:
        """Reports in, instructions out; held while there is nothing to say. The answer is a SyncAnswer as JSON."""
        platform = self.platform
        try:
            message = Sync.model_validate_json(signed.body)
        except ValidationError as error:
            raise from_validation_error(error) from error
        same_site(signed, message.site_id)
        if message.epoch != signed.epoch:
            raise Conflict("the header's epoch is not the body's", field=EPOCH_HEADER)
        digest = hashlib.sha256(signed.body).hexdigest()
        item = Poll(message, signed.body, digest, signed.signed, signed.signature)
        answer = await platform.write(self.handler.apply, item)
        self.reader.supersede(message.site_id)  # not before this poll was found to be the newest
        wait_ms = min(message.wait_ms, platform.settings.poll_hold_ms)
        if not wait_ms or answer.texts or message.reports:
            return answer.to_json()
        site_id, applied_seq = message.site_id, message.applied_seq
        del message, item  # a thousand held polls need not keep what they have said
        if await self.reader.hold(site_id, applied_seq, wait_ms / 1000):
            news = await platform.read(
                lambda conn: outbox.texts_after(conn, {site_id: applied_seq}, MAX_INSTRUCTIONS_PER_ANSWER)
            )
            answer = answer.with_texts(news.get(site_id, ()))
        return answer.to_json()


def express(polling: Polling, gate: Gate) -> Handlers:
    """POST /v1/agent/sync, the hub's commonest request."""

    async def poll(parcel: Parcel) -> Reply:
        signed = await gate.check(parcel.method, parcel.target, parcel.headers, parcel.body)
        return Reply(HTTPStatus.OK, await polling.poll(signed))

    return {("POST", SYNC): poll}
