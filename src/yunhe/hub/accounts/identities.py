"""People as providers know them: linked to an account by the operator, or let in by a rule, and their sessions.

A person is (issuer, subject), which no provider gives to anybody else; names and addresses of mail only label.
"""

import hashlib
import logging
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from sqlalchemy import Connection

from yunhe.core.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated, YunheError
from yunhe.hub.accounts import audit, service, store
from yunhe.hub.accounts.service import NewKey, Organisation, Principal, Role
from yunhe.hub.platform.writer import Tx

log = logging.getLogger(__name__)

# By the operator's word, by a claim of the provider (looked at in each sign-in), or by themselves at their first one.
Source = Literal["operator", "claim", "created"]
_NO_NAME = re.compile(r"[^\w .:-]")
MAX_NAME_CHARS = 80


@dataclass(frozen=True, slots=True)
class Identity:
    """Who acts for which organisation. Times in ms UTC."""

    id: str
    issuer: str
    subject: str
    organisation: str
    member: str
    role: Role
    source: Source
    since_ms: int
    seen_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """For whom a person acts."""

    organisation: str
    role: Role


@dataclass(frozen=True, slots=True)
class Entry:
    """A person whom a provider has just named, and what the provider's settings say of them."""

    issuer: str
    subject: str
    label: str  # a name for people
    admitted: bool  # False: only whom the operator linked
    granted: Account | None  # by a claim
    may_create: bool
    session_ms: int
    sessions_each: int


# --- signing in ---------------------------------------------------------------------------------------------------


def add_sign_ins(tx: Tx, wanted: Sequence[tuple[store.SignInRow, int]]) -> list[None]:
    """Each with how many may be begun at one time."""
    for row, most in wanted:
        store.add_sign_in(tx.conn, row, most, tx.now_ms)
    return [None] * len(wanted)


def take_sign_ins(tx: Tx, states: Sequence[str]) -> list[store.SignInRow | YunheError]:
    """Once each, by its state; Unauthenticated for one that was never begun, is used already, or has run out."""
    results: list[store.SignInRow | YunheError] = []
    for state in states:
        row = store.take_sign_in(tx.conn, service.digest(state))
        if row is None or row.expires_ms <= tx.now_ms:
            results.append(Unauthenticated("this sign-in is over, or was never begun", hint="sign in again"))
        else:
            results.append(row)
    return results


def enter(tx: Tx, entries: Sequence[Entry]) -> list[NewKey | YunheError]:
    """A session for each, or Forbidden."""
    return [_enter(tx, entry) for entry in entries]


def _enter(tx: Tx, entry: Entry) -> NewKey | YunheError:
    known = store.find_identity(tx.conn, entry.issuer, entry.subject)
    found = _account(tx, entry, known)
    if isinstance(found, YunheError):
        if known is not None:
            store.revoke_sessions(tx.conn, known.id, tx.now_ms)
        log.warning("a sign-in was refused: %s", found.message)
        return found
    if known is None:
        store.add_identity(tx.conn, found)
    else:
        if (known.organisation, known.role) != (found.organisation, found.role):
            store.revoke_sessions(tx.conn, known.id, tx.now_ms)  # they are of an account that is theirs no more
        store.change_identity(tx.conn, found)
    store.revoke_sessions(tx.conn, found.id, tx.now_ms, keep=entry.sessions_each - 1)
    expires_ms = tx.now_ms + entry.session_ms
    role = cast(Role, found.role)
    wanted = NewKey(found.organisation, found.member, role, expires_ms=expires_ms, identity=found.id)
    made = service.create_key(tx, wanted)
    who = Principal(made.organisation, made.member, made.role, made.id)
    audit.record(tx, who, "session.create", found.id, {}, _values(found))
    return made


def _account(tx: Tx, entry: Entry, known: store.IdentityRow | None) -> store.IdentityRow | YunheError:
    """What the identity's row becomes by this sign-in."""
    if known is not None and known.source == "operator":
        return replace(known, seen_ms=tx.now_ms)
    if not entry.admitted:
        return _stranger(entry)
    identity_id = known.id if known is not None else "id-" + secrets.token_hex(8)
    since_ms = known.since_ms if known is not None else tx.now_ms
    granted = entry.granted
    if granted is not None:
        if store.find_organisation(tx.conn, granted.organisation) is None:
            hint = "tell the operator this sentence"
            return Forbidden(f"a grant names the organisation {granted.organisation}, which does not exist", hint=hint)
        source = "claim"
    elif known is not None and known.source == "created":
        return replace(known, seen_ms=tx.now_ms)
    elif entry.may_create:
        granted, source = Account(_own_organisation(tx, entry, identity_id), "customer"), "created"
    else:
        return _stranger(entry)
    return store.IdentityRow(
        id=identity_id,
        issuer=entry.issuer,
        subject=entry.subject,
        organisation=granted.organisation,
        member=_name(entry.label),
        role=granted.role,
        source=source,
        since_ms=since_ms,
        seen_ms=tx.now_ms,
    )


def _stranger(entry: Entry) -> Forbidden:
    hint = "ask the operator to link you, with these words"
    return Forbidden(f"nobody here knows you yet: you are {entry.subject} of {entry.issuer}", hint=hint)


def _own_organisation(tx: Tx, entry: Entry, identity_id: str) -> str:
    """One of their own, without credit. The same person gets the same one, also after they were unlinked."""
    name = "p-" + hashlib.sha256(f"{entry.issuer}\0{entry.subject}".encode()).hexdigest()[:24]
    made = service.create_organisations(tx, [Organisation(name, _name(entry.label))])[0]
    if not isinstance(made, YunheError):
        who = Principal(name, _name(entry.label), "customer", identity_id)
        audit.record(tx, who, "organisation.create", name, {}, {"name": made.name})
    return name


def _name(label: str) -> str:
    """What the names of members are made of."""
    plain = _NO_NAME.sub(".", label).lstrip(" .:-")[:MAX_NAME_CHARS]
    return plain or "somebody"


def sign_out(tx: Tx, callers: Sequence[Principal]) -> list[None | YunheError]:
    """Ends the session that asks; Conflict for a key, which stays until it is revoked."""
    results: list[None | YunheError] = []
    for who in callers:
        row = store.find_key(tx.conn, who.key_id)
        if row is None or row.identity is None:
            results.append(Conflict("this is a key and no session", hint="yunhe key revoke ends a key"))
            continue
        if row.revoked_ms is None:
            store.revoke_key(tx.conn, who.key_id, tx.now_ms)
            audit.record(tx, who, "session.end", row.identity, {"session": who.key_id}, {})
        results.append(None)
    return results


# --- whom the operator links --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """`by`: the operator who says so."""

    issuer: str
    subject: str
    organisation: str
    member: str
    role: Role
    by: Principal


def link(tx: Tx, wanted: Sequence[Link]) -> list[Identity | YunheError]:
    """The same link again changes nothing; Conflict for a person who has another account."""
    return [_link(tx, item) for item in wanted]


def _link(tx: Tx, item: Link) -> Identity | YunheError:
    if store.find_organisation(tx.conn, item.organisation) is None:
        return InvalidInput(f"there is no organisation {item.organisation}", field="organisation")
    known = store.find_identity(tx.conn, item.issuer, item.subject)
    if known is not None:
        same = (known.organisation, known.member, known.role) == (item.organisation, item.member, item.role)
        if same and known.source == "operator":
            return _identity(known)
        what = f"{item.subject} acts for {known.organisation} as {known.role} already, by {known.source}"
        return Conflict(what, field="subject", hint=f"yunhe account unlink {known.id}, then link again")
    row = store.IdentityRow(
        id="id-" + secrets.token_hex(8),
        issuer=item.issuer,
        subject=item.subject,
        organisation=item.organisation,
        member=item.member,
        role=item.role,
        source="operator",
        since_ms=tx.now_ms,
    )
    store.add_identity(tx.conn, row)
    audit.record(tx, item.by, "identity.link", row.id, {}, _values(row))
    return _identity(row)


def unlink(tx: Tx, wanted: Sequence[tuple[Principal, str]]) -> list[Identity | YunheError]:
    """`wanted` pairs who asks with an identity. Its sessions end; NotFound for one that is not known."""
    results: list[Identity | YunheError] = []
    for who, identity_id in wanted:
        row = store.find_identity_by_id(tx.conn, identity_id)
        if row is None:
            results.append(NotFound(f"identity {identity_id} is not known"))
            continue
        store.revoke_sessions(tx.conn, row.id, tx.now_ms)
        store.remove_identity(tx.conn, row.id)
        audit.record(tx, who, "identity.unlink", row.id, _values(row), {})
        results.append(_identity(row))
    return results


def identities(conn: Connection, after: str, limit: int) -> tuple[Identity, ...]:
    """By id, those behind `after`."""
    return tuple(_identity(row) for row in store.list_identities(conn, after, limit))


def _values(row: store.IdentityRow) -> dict[str, str | int | bool | None]:
    """What the audit trail says of a person."""
    names = ("issuer", "subject", "organisation", "member", "role", "source")
    return {name: getattr(row, name) for name in names}


def _identity(row: store.IdentityRow) -> Identity:
    return Identity(
        row.id,
        row.issuer,
        row.subject,
        row.organisation,
        row.member,
        cast(Role, row.role),
        cast(Source, row.source),
        row.since_ms,
        row.seen_ms,
    )
