"""Who may call, and within which quota.

An API key is `yk_` + 43 characters (256 random bits, base64url).  Only its SHA-256 is stored: the key has full
entropy, so a slow hash would add nothing but latency.
"""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, cast

from fastapi import Header, Request
from sqlalchemy import Connection

from yunhe.core.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated, YunheError
from yunhe.core.round import AccountShare
from yunhe.hub.accounts import store
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.writer import Tx

Role = Literal["customer", "provider", "operator", "auditor"]
OPERATOR_ORGANISATION = "operator"
KEY_PREFIX = "yk_"
KEY_LENGTH = len(KEY_PREFIX) + 43
READING = frozenset({"GET", "HEAD", "OPTIONS"})
# A revoked key may still work for this long at a replica that saw it just before; it saves one query per call.
CACHE_TTL_MS = 2_000
CACHE_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, by which key."""

    organisation: str
    member: str
    role: Role
    key_id: str

    @property
    def sees_all(self) -> bool:
        """Operators and auditors read every organisation's things."""
        return self.role in ("operator", "auditor")

    def sees(self, organisation: str) -> bool:
        return self.sees_all or organisation == self.organisation

    def check_sees(self, organisation: str, what: str) -> None:
        """Raises NotFound, not Forbidden: what belongs to others is not even confirmed to exist."""
        if not self.sees(organisation):
            raise NotFound(f"{what} is not known")

    def check_owns(self, organisation: str, what: str) -> None:
        """For changes. An operator may change everyone's things; an auditor nobody's.

        Raises NotFound for a stranger, Forbidden for an auditor.
        """
        self.check_sees(organisation, what)
        if self.role == "auditor":
            raise Forbidden("an auditor reads and changes nothing")


@dataclass(frozen=True, slots=True)
class Organisation:
    """A party of the network. Money in micro-CNY, quota in 1/1000 of a core or card leased at the same time."""

    id: str
    name: str
    credit_limit_microcny: int = 0
    quota_milli: int | None = None
    weight: int = 1
    used_milli: int = 0  # of the quota, now


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret."""

    id: str
    organisation: str
    member: str
    role: Role
    created_ms: int
    revoked_ms: int | None
    expires_ms: int | None = None  # of a session


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is asked for, and, as an answer, the only copy of its secret. A session ends by itself."""

    organisation: str
    member: str
    role: Role
    id: str = ""
    secret: str = ""
    expires_ms: int | None = None
    identity: str | None = None  # of a session: who signed in

    def __repr__(self) -> str:  # so that no log line ever carries the secret
        return f"NewKey({self.organisation!r}, {self.member!r}, {self.role!r}, id={self.id!r})"


def digest(key: str) -> str:
    """The hexadecimal SHA-256 under which a key is stored."""
    return hashlib.sha256(key.encode()).hexdigest()


# --- organisations and keys ---------------------------------------------------------------------------------------


def create_organisations(tx: Tx, wanted: Sequence[Organisation]) -> list[Organisation | YunheError]:
    """One result per item; Conflict where the id is taken."""
    results: list[Organisation | YunheError] = []
    for item in wanted:
        row = store.OrganisationRow(
            item.id, item.name, item.credit_limit_microcny, item.quota_milli, 0, item.weight, tx.now_ms
        )
        fresh = store.add_organisation(tx.conn, row)
        results.append(item if fresh else Conflict(f"organisation {item.id} exists", field="id"))
    return results


def organisations(conn: Connection, only: str | None = None) -> tuple[Organisation, ...]:
    rows = store.list_organisations(conn, only)
    return tuple(
        Organisation(r.id, r.name, r.credit_limit_microcny, r.quota_milli, r.weight, r.used_milli) for r in rows
    )


def check_exists(conn: Connection, organisation_id: str, field: str = "organisation") -> None:
    """Raises InvalidInput when there is no such organisation."""
    if store.find_organisation(conn, organisation_id) is None:
        raise InvalidInput(f"there is no organisation {organisation_id}", field=field)


def credit_limits(conn: Connection, organisation_ids: Sequence[str]) -> dict[str, int]:
    """Micro-CNY by organisation; one that does not exist is absent."""
    return store.credit_limits(conn, organisation_ids)


def create_keys(tx: Tx, wanted: Sequence[NewKey]) -> list[NewKey | YunheError]:
    """One result per item, with its secret; InvalidInput where the organisation does not exist."""
    results: list[NewKey | YunheError] = []
    for item in wanted:
        if store.find_organisation(tx.conn, item.organisation) is None:
            results.append(InvalidInput(f"there is no organisation {item.organisation}", field="organisation"))
        else:
            results.append(create_key(tx, item))
    return results


def create_key(tx: Tx, wanted: NewKey) -> NewKey:
    """With its secret; the organisation is known to exist."""
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    key_id = "key-" + secrets.token_hex(8)
    store.add_member(tx.conn, wanted.organisation, wanted.member, tx.now_ms)
    row = store.KeyRow(
        key_id,
        wanted.organisation,
        wanted.member,
        wanted.role,
        digest(secret),
        tx.now_ms,
        expires_ms=wanted.expires_ms,
        identity=wanted.identity,
    )
    store.add_key(tx.conn, row)
    return replace(wanted, id=key_id, secret=secret)


def keys(conn: Connection, now_ms: int, only: str | None = None) -> tuple[Key, ...]:
    """Revoked ones too; of sessions those that have not run out."""
    return tuple(_key(row) for row in store.list_keys(conn, only, now_ms))


def _key(row: store.KeyRow) -> Key:
    role = cast(Role, row.role)
    return Key(row.id, row.organisation, row.member, role, row.created_ms, row.revoked_ms, row.expires_ms)


def revoke_keys(tx: Tx, wanted: Sequence[tuple[Principal, str]]) -> list[Key | YunheError]:
    """`wanted` pairs the caller with a key id. NotFound for a key that is unknown or another organisation's."""
    results: list[Key | YunheError] = []
    for principal, key_id in wanted:
        row = store.find_key(tx.conn, key_id)
        if row is None or not principal.sees(row.organisation):
            results.append(NotFound(f"key {key_id} is not known"))
            continue
        store.revoke_key(tx.conn, key_id, tx.now_ms)
        results.append(replace(_key(row), revoked_ms=row.revoked_ms if row.revoked_ms is not None else tx.now_ms))
    return results


def bootstrap(tx: Tx) -> str | None:
    """Create the organisation `operator` and its first operator key; None when the organisation is there already.

    Returns the key, this once: the caller keeps it in a file of mode 0600.
    """
    row = store.OrganisationRow(OPERATOR_ORGANISATION, "Operator", 0, None, 0, 1, tx.now_ms)
    if not store.add_organisation(tx.conn, row):
        return None
    return create_key(tx, NewKey(OPERATOR_ORGANISATION, "first operator", "operator")).secret


# --- quota and fair share -----------------------------------------------------------------------------------------


def reserve_quota(tx: Tx, amounts: Mapping[str, int]) -> set[str]:
    """Take 1/1000 units from each organisation's quota, guards in sorted order; returns the refused, who take none."""
    return {org for org, milli in sorted(amounts.items()) if not store.reserve_quota(tx.conn, org, milli)}


def release_quota(tx: Tx, amounts: Mapping[str, int]) -> None:
    """Give 1/1000 units back."""
    store.release_quota(tx.conn, amounts)


def shares(conn: Connection) -> tuple[AccountShare, ...]:
    """Every organisation's standing in the fair share, sorted by id."""
    return tuple(
        AccountShare(row.id, row.weight, row.used_milli, row.quota_milli)
        for row in store.list_organisations(conn, None)
    )


# --- authentication -----------------------------------------------------------------------------------------------


def authenticate(conn: Connection, key: str, now_ms: int) -> tuple[Principal, int | None]:
    """Who calls, and when the session ends by which they do (None: it is a key, which does not).

    Raises Unauthenticated when the key is malformed, unknown, revoked or over; the message never repeats the key.
    """
    row = store.find_key_by_hash(conn, digest(key)) if _well_formed(key) else None
    if row is None:
        raise Unauthenticated("the API key is not known")
    if row.revoked_ms is not None:
        raise Unauthenticated(f"the API key {row.id} was revoked")
    if row.expires_ms is not None and now_ms >= row.expires_ms:
        raise Unauthenticated("the session has ended", hint="sign in again")
    return Principal(row.organisation, row.member, cast(Role, row.role), row.id), row.expires_ms


def _well_formed(key: str) -> bool:
    return len(key) == KEY_LENGTH and key.startswith(KEY_PREFIX) and key.isascii()


class Accounts:
    """Authentication for routes, with a short cache. One per process."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        # By digest, never by key: since when, until when.
        self._cache: dict[str, tuple[int, int, Principal]] = {}

    async def principal(self, authorization: str | None) -> Principal:
        """The caller behind an `Authorization` header. Raises Unauthenticated."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthenticated("this call needs the header 'Authorization: Bearer yk_...'")
        hashed = digest(key)
        now = self._platform.clock.now_ms()
        known = self._cache.get(hashed)
        if known is not None and known[0] <= now < known[1]:
            return known[2]
        self._cache.pop(hashed, None)
        principal, expires_ms = await self._platform.read(lambda conn: authenticate(conn, key, now))
        if len(self._cache) >= CACHE_SIZE:
            self._cache.clear()
        until = now + CACHE_TTL_MS
        self._cache[hashed] = (now, until if expires_ms is None else min(until, expires_ms), principal)
        return principal

    async def anybody(self, authorization: Annotated[str | None, Header(include_in_schema=False)] = None) -> Principal:
        """A FastAPI dependency for what everybody who calls may do to themselves."""
        return await self.principal(authorization)

    def forget(self, key_id: str) -> None:
        """Drop a key from the cache, at its revocation."""
        self._cache = {h: entry for h, entry in self._cache.items() if entry[2].key_id != key_id}

    def require(self, *roles: Role) -> Callable[..., Awaitable[Principal]]:
        """A FastAPI dependency that admits the given roles, operators always, and auditors to every read.

        An operator is admitted as itself: nothing here lets it speak in another organisation's name.
        Raises Unauthenticated or Forbidden.
        """

        async def dependency(
            request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
        ) -> Principal:
            principal = await self.principal(authorization)
            check_role(principal, roles, request.method)
            return principal

        return dependency


def check_role(principal: Principal, roles: Sequence[Role], method: str) -> None:
    """Raises Forbidden unless the role is admitted; an auditor is admitted to reads only, and to all of them."""
    if principal.role == "operator":
        return
    if principal.role == "auditor":
        if method in READING:
            return
        raise Forbidden("an auditor reads and changes nothing")
    if principal.role not in roles:
        admitted = " or ".join(dict.fromkeys((*roles, "operator")))
        raise Forbidden(f"this needs the role {admitted}; the key is a {principal.role}'s")
