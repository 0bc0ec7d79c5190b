"""The settlement room's table: charges, with every input, append-only."""

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from yunhe.core.errors import InvalidInput
from yunhe.hub.platform.db import metadata

charge = sa.Table(
    "charge",
    metadata,
    sa.Column("lease_id", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.Text, nullable=False, index=True),
    sa.Column("org", sa.Text, nullable=False),
    sa.Column("site_id", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("compute_microcny", sa.BigInteger, nullable=False),
    sa.Column("energy_microcny", sa.BigInteger, nullable=False),
    sa.Column("transfer_microcny", sa.BigInteger, nullable=False),
    sa.Column("line_microcny", sa.BigInteger, nullable=False),
    sa.Column("fee_microcny", sa.BigInteger, nullable=False),
    sa.Column("energy_mwh", sa.BigInteger, nullable=False),
    sa.Column("carbon_mg", sa.BigInteger, nullable=False),
    sa.Column("disputed", sa.Boolean, nullable=False),
    sa.Column("inputs", sa.Text, nullable=False),  # JSON: core.tariff.RatingInputs, measured rates, evidence
    sa.Index("ix_charge_org_at", "org", "at_ms"),
    sa.Index("ix_charge_site_at", "site_id", "at_ms"),
)

TOTAL = charge.c.compute_microcny + charge.c.energy_microcny + charge.c.transfer_microcny + charge.c.line_microcny

# --- place in a list ----------------------------------------------------------------------------------------------

KEY = sa.tuple_(charge.c.at_ms, charge.c.lease_id, charge.c.epoch)
_CURSOR = re.compile(r"(\d{1,15})\.(\d{1,9})\.(ord_[0-9a-f]{1,40}\.\d{1,9})", re.ASCII)


def cursor_of(rows: Sequence[sa.Row[Any]], limit: int) -> str | None:
    """Of what follows the first `limit` rows; None when nothing does."""
    if len(rows) <= limit:
        return None
    last = rows[limit - 1]
    return f"{last.at_ms}.{last.epoch}.{last.lease_id}"


def read_cursor(cursor: str) -> sa.Tuple:
    """To compare with KEY. Raises InvalidInput for a cursor that is not ours."""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidInput("is no cursor of this list", field="cursor", hint="leave it out to begin again")
    at_ms, epoch, lease_id = found.groups()
    return sa.tuple_(sa.literal(int(at_ms)), sa.literal(lease_id), sa.literal(int(epoch)))
