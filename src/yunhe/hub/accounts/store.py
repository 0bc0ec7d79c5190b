"""The tables of the accounts room and the statements on them. Only `accounts.service` imports this module."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    Row,
    Select,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    update,
)

from yunhe.hub.platform.bulk import any_of
from yunhe.hub.platform.db import insert_ignore, metadata

SESSIONS_KEPT_MS = 30 * 86_400_000  # after they ended, so that one can see who was there

organisation = Table(
    "organisation",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("credit_limit_microcny", BigInteger, nullable=False),
    Column("quota_milli", BigInteger),  # units leased at the same time; null: no limit
    Column("used_milli", BigInteger, nullable=False),  # guard of the quota
    Column("weight", Integer, nullable=False),  # of the fair share
    Column("created_ms", BigInteger, nullable=False),
)
member = Table(
    "member",
    metadata,
    Column("organisation", Text, ForeignKey("organisation.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("created_ms", BigInteger, nullable=False),
)
api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organisation", Text, ForeignKey("organisation.id"), nullable=False),
    Column("member", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("sha256", Text, nullable=False, unique=True),  # of the key; the key itself is kept nowhere
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
    Column("expires_ms", BigInteger),  # of a session; null: never
    Column("identity", Text),  # of a session: who signed in
    Index("ix_api_key_organisation", "organisation"),
    Index("ix_api_key_identity", "identity"),
)
# A person as a provider knows them, and for whom they act. Never by an address of mail: those change hands.
identity = Table(
    "identity",
    metadata,
    Column("id", Text, primary_key=True),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("organisation", Text, ForeignKey("organisation.id"), nullable=False),
    Column("member", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("source", Text, nullable=False),  # service.Source
    Column("since_ms", BigInteger, nullable=False),
    Column("seen_ms", BigInteger),  # the latest sign-in
    UniqueConstraint("issuer", "subject"),
)
# Sign-ins that are begun: taken out by the one answer that may come.
sign_in = Table(
    "sign_in",
    metadata,
    Column("state_sha256", Text, primary_key=True),
    Column("browser_sha256", Text, nullable=False),  # of what only the browser that began knows
    Column("provider", Text, nullable=False),
    Column("redirect_uri", Text, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("verifier", Text, nullable=False),  # of PKCE
    Column("expires_ms", BigInteger, nullable=False, index=True),
)


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One row of `api_key`."""

    id: str
    organisation: str
    member: str
    role: str
    sha256: str
    created_ms: int
    revoked_ms: int | None = None
    expires_ms: int | None = None
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class IdentityRow:
    """One row of `identity`."""

    id: str
    issuer: str
    subject: str
    organisation: str
    member: str
    role: str
    source: str
    since_ms: int
    seen_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SignInRow:
    """One row of `sign_in`."""

    state_sha256: str
    browser_sha256: str
    provider: str
    redirect_uri: str
    nonce: str
    verifier: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class OrganisationRow:
    """One row of `organisation`."""

    id: str
    name: str
    credit_limit_microcny: int
    quota_milli: int | None
    used_milli: int
    weight: int
    created_ms: int


def add_organisation(conn: Connection, row: OrganisationRow) -> bool:
    """False when the id is taken."""
    values = {
        "id": row.id,
        "name": row.name,
        "credit_limit_microcny": row.credit_limit_microcny,
        "quota_milli": row.quota_milli,
        "used_milli": row.used_milli,
        "weight": row.weight,
        "created_ms": row.created_ms,
    }
    return int(insert_ignore(organisation).execute(conn, [values])) == 1


def find_organisation(conn: Connection, organisation_id: str) -> OrganisationRow | None:
    row = conn.execute(select(organisation).where(organisation.c.id == organisation_id)).one_or_none()
    return None if row is None else OrganisationRow(**row._mapping)


def list_organisations(conn: Connection, only: str | None) -> list[OrganisationRow]:
    query: Select[tuple[object, ...]] = select(organisation).order_by(organisation.c.id)
    if only is not None:
        query = query.where(organisation.c.id == only)
    return [OrganisationRow(**row._mapping) for row in conn.execute(query)]


def add_member(conn: Connection, organisation_id: str, name: str, now_ms: int) -> None:
    insert_ignore(member).execute(conn, [{"organisation": organisation_id, "name": name, "created_ms": now_ms}])


def add_key(conn: Connection, row: KeyRow) -> None:
    conn.execute(
        api_key.insert().values(
            id=row.id,
            organisation=row.organisation,
            member=row.member,
            role=row.role,
            sha256=row.sha256,
            created_ms=row.created_ms,
            revoked_ms=row.revoked_ms,
            expires_ms=row.expires_ms,
            identity=row.identity,
        )
    )


def find_key_by_hash(conn: Connection, sha256: str) -> KeyRow | None:
    return _key(conn.execute(select(api_key).where(api_key.c.sha256 == sha256)).one_or_none())


def find_key(conn: Connection, key_id: str) -> KeyRow | None:
    return _key(conn.execute(select(api_key).where(api_key.c.id == key_id)).one_or_none())


def _key(row: Row[tuple[object, ...]] | None) -> KeyRow | None:
    return None if row is None else KeyRow(**row._mapping)


def list_keys(conn: Connection, only: str | None, now_ms: int) -> list[KeyRow]:
    """Without sessions that have run out."""
    lasting = or_(api_key.c.expires_ms.is_(None), api_key.c.expires_ms > now_ms)
    query: Select[tuple[object, ...]] = select(api_key).where(lasting).order_by(api_key.c.created_ms, api_key.c.id)
    if only is not None:
        query = query.where(api_key.c.organisation == only)
    return [KeyRow(**row._mapping) for row in conn.execute(query)]


def revoke_key(conn: Connection, key_id: str, now_ms: int) -> None:
    """A second revocation keeps the time of the first."""
    conn.execute(
        update(api_key).where(api_key.c.id == key_id, api_key.c.revoked_ms.is_(None)).values(revoked_ms=now_ms)
    )


# --- people who sign in through providers -------------------------------------------------------------------------


def find_identity(conn: Connection, issuer: str, subject: str) -> IdentityRow | None:
    """Locked until the transaction ends."""
    query = select(identity).where(identity.c.issuer == issuer, identity.c.subject == subject).with_for_update()
    return _identity(conn.execute(query).one_or_none())


def find_identity_by_id(conn: Connection, identity_id: str) -> IdentityRow | None:
    """Locked until the transaction ends."""
    return _identity(conn.execute(select(identity).where(identity.c.id == identity_id).with_for_update()).one_or_none())


def _identity(row: Row[tuple[object, ...]] | None) -> IdentityRow | None:
    return None if row is None else IdentityRow(**row._mapping)


def list_identities(conn: Connection, after: str, limit: int) -> list[IdentityRow]:
    query = select(identity).where(identity.c.id > after).order_by(identity.c.id).limit(limit)
    return [IdentityRow(**row._mapping) for row in conn.execute(query)]


def add_identity(conn: Connection, row: IdentityRow) -> None:
    conn.execute(identity.insert().values(asdict(row)))


def change_identity(conn: Connection, row: IdentityRow) -> None:
    conn.execute(update(identity).where(identity.c.id == row.id).values(asdict(row)))


def remove_identity(conn: Connection, identity_id: str) -> None:
    conn.execute(delete(identity).where(identity.c.id == identity_id))


def revoke_sessions(conn: Connection, identity_id: str, now_ms: int, keep: int = 0) -> None:
    """All of a person but the `keep` newest that last; those that ended long ago are forgotten."""
    mine = api_key.c.identity == identity_id
    lasting = (mine, api_key.c.revoked_ms.is_(None), api_key.c.expires_ms > now_ms)
    newest = select(api_key.c.id).where(*lasting).order_by(api_key.c.created_ms.desc(), api_key.c.id).limit(keep)
    kept = list(conn.scalars(newest)) if keep else []
    conn.execute(update(api_key).where(*lasting, api_key.c.id.not_in(kept)).values(revoked_ms=now_ms))
    conn.execute(delete(api_key).where(mine, api_key.c.expires_ms < now_ms - SESSIONS_KEPT_MS))


def add_sign_in(conn: Connection, row: SignInRow, most: int, now_ms: int) -> None:
    """What has run out goes, and beyond `most` the oldest."""
    conn.execute(delete(sign_in).where(sign_in.c.expires_ms <= now_ms))
    beyond = (conn.scalar(select(func.count()).select_from(sign_in)) or 0) + 1 - most
    if beyond > 0:
        oldest = select(sign_in.c.state_sha256).order_by(sign_in.c.expires_ms, sign_in.c.state_sha256).limit(beyond)
        conn.execute(delete(sign_in).where(sign_in.c.state_sha256.in_(list(conn.scalars(oldest)))))
    conn.execute(sign_in.insert().values(asdict(row)))


def take_sign_in(conn: Connection, state_sha256: str) -> SignInRow | None:
    """Once: the second who asks finds nothing."""
    taken = delete(sign_in).where(sign_in.c.state_sha256 == state_sha256).returning(sign_in)
    row = conn.execute(taken).one_or_none()
    return None if row is None else SignInRow(**row._mapping)


# --- quotas -------------------------------------------------------------------------------------------------------

# Run with every round and every report, so they are made once.
_ID, _MILLI = bindparam("org", type_=Text), bindparam("milli", type_=BigInteger)
_USED, _QUOTA = organisation.c.used_milli, organisation.c.quota_milli
_RESERVE = (
    update(organisation)
    .where(organisation.c.id == _ID, or_(_QUOTA.is_(None), _USED + _MILLI <= _QUOTA))
    .values(used_milli=_USED + _MILLI)
)
_RELEASE = (
    update(organisation)
    .where(organisation.c.id == _ID)
    .values(used_milli=case((_USED > _MILLI, _USED - _MILLI), else_=0))
)
_CREDIT_LIMITS = select(organisation.c.id, organisation.c.credit_limit_microcny).where(any_of(organisation.c.id))


def reserve_quota(conn: Connection, organisation_id: str, milli: int) -> bool:
    """Conditional update of the guard; False when the quota does not allow it or there is no such organisation."""
    return conn.execute(_RESERVE, {"org": organisation_id, "milli": milli}).rowcount == 1


def release_quota(conn: Connection, amounts: Mapping[str, int]) -> None:
    """In sorted order; never under zero."""
    for organisation_id, milli in sorted(amounts.items()):
        conn.execute(_RELEASE, {"org": organisation_id, "milli": milli})


def credit_limits(conn: Connection, ids: Sequence[str]) -> dict[str, int]:
    """Credit limit in micro-CNY of each organisation that exists."""
    rows = conn.execute(_CREDIT_LIMITS, {"ids": list(ids)})
    return {row.id: row.credit_limit_microcny for row in rows}
