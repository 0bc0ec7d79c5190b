"""What operators do to organisations and keys, each with its line in the audit trail."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from yunhe.core import units
from yunhe.core.errors import NotFound, YunheError
from yunhe.hub.accounts import audit, service, store
from yunhe.hub.accounts.service import Key, NewKey, Organisation, Principal
from yunhe.hub.platform.writer import Tx
from yunhe.wire.api import OrganisationChange

ORGANISATIONS = store.organisation


@dataclass(frozen=True, slots=True)
class Change:
    """What is to change of an organisation; what is not named stays."""

    who: Principal
    organisation: str
    values: dict[str, str | int | None]


def values_of(wanted: OrganisationChange) -> dict[str, str | int | None]:
    """Columns and their new values. Raises InvalidInput for what is no amount of money."""
    found: dict[str, str | int | None] = {}
    if wanted.name is not None:
        found["name"] = wanted.name
    if wanted.credit_limit is not None:
        found["credit_limit_microcny"] = units.parse_money(wanted.credit_limit, "credit_limit")
    if wanted.quota_cores is not None:
        found["quota_milli"] = None if wanted.quota_cores == "none" else round(wanted.quota_cores * 1000)
    if wanted.weight is not None:
        found["weight"] = wanted.weight
    return found


def change_organisations(tx: Tx, wanted: Sequence[Change]) -> list[Organisation | YunheError]:
    """Writer handler. A quota below what is used takes nothing away: nothing new is placed until enough has ended."""
    return [_changed(tx, item) for item in wanted]


def _changed(tx: Tx, item: Change) -> Organisation | YunheError:
    table = ORGANISATIONS
    row = tx.conn.execute(sa.select(table).where(table.c.id == item.organisation).with_for_update()).one_or_none()
    if row is None:
        return NotFound(f"organisation {item.organisation} is not known")
    before = {name: getattr(row, name) for name in item.values}
    if before != item.values:
        tx.conn.execute(sa.update(table).where(table.c.id == item.organisation).values(item.values))
        audit.record(tx, item.who, "organisation.change", item.organisation, before, item.values)
    (after,) = service.organisations(tx.conn, item.organisation)
    return after


def create_organisations(tx: Tx, wanted: Sequence[tuple[Principal, Organisation]]) -> list[Organisation | YunheError]:
    """Writer handler of `service.create_organisations`, for whoever asked."""
    made = service.create_organisations(tx, [item for _, item in wanted])
    for (who, item), result in zip(wanted, made, strict=True):
        if not isinstance(result, YunheError):
            values: audit.Values = {
                "name": item.name,
                "credit_limit_microcny": item.credit_limit_microcny,
                "quota_milli": item.quota_milli,
                "weight": item.weight,
            }
            audit.record(tx, who, "organisation.create", item.id, {}, values)
    return made


def create_keys(tx: Tx, wanted: Sequence[tuple[Principal, NewKey]]) -> list[NewKey | YunheError]:
    """Writer handler of `service.create_keys`, for whoever asked."""
    made = service.create_keys(tx, [item for _, item in wanted])
    for (who, _), result in zip(wanted, made, strict=True):
        if not isinstance(result, YunheError):
            holder = {"organisation": result.organisation, "member": result.member, "role": result.role}
            audit.record(tx, who, "key.create", result.id, {}, holder)
    return made


def revoke_keys(tx: Tx, wanted: Sequence[tuple[Principal, str]]) -> list[Key | YunheError]:
    """Writer handler of `service.revoke_keys`; a key that is revoked again leaves no second line."""
    earlier = {row.id for _, key_id in wanted if (row := store.find_key(tx.conn, key_id)) and row.revoked_ms}
    revoked = service.revoke_keys(tx, wanted)
    for (who, key_id), result in zip(wanted, revoked, strict=True):
        if not isinstance(result, YunheError) and key_id not in earlier:
            earlier.add(key_id)
            holder = {"organisation": result.organisation, "member": result.member, "role": result.role}
            audit.record(tx, who, "key.revoke", key_id, {**holder, "revoked": False}, {**holder, "revoked": True})
    return revoked
