"""The settlement room's table: charges, with every input, append-only."""

import sqlalchemy as sa

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
