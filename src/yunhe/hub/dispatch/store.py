"""Tables of the dispatch room: where each site's link stands, the signed batches kept as evidence, outputs."""

import sqlalchemy as sa

from yunhe.hub.platform.db import metadata

site_link = sa.Table(
    "site_link",
    metadata,
    sa.Column("site_id", sa.Text, primary_key=True),
    sa.Column("epoch_issued", sa.BigInteger, nullable=False, server_default="0"),  # the only one that may poll
    sa.Column("hello_nonce", sa.Text, nullable=False, server_default=""),  # of the process that `epoch_issued` is for
    sa.Column("hello_start_no", sa.BigInteger, nullable=False, server_default="0"),  # and its place among its spool's
    sa.Column("epoch_used", sa.BigInteger, nullable=False, server_default="0"),  # the last one that did poll
    sa.Column("poll_no", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("poll_sha", sa.Text, nullable=False, server_default=""),
    sa.Column("report_seq", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("applied_seq", sa.BigInteger, nullable=False, server_default="0"),
)

# The site's own words about usage, with its signature: what a charge can be checked against.
evidence = sa.Table(
    "evidence",
    metadata,
    sa.Column("site_id", sa.Text, primary_key=True),
    sa.Column("epoch", sa.BigInteger, primary_key=True),
    sa.Column("poll_no", sa.BigInteger, primary_key=True),
    sa.Column("signed", sa.LargeBinary, nullable=False),  # wire.signing.signed_bytes
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Index("ix_evidence_at_ms", "at_ms"),
)

output = sa.Table(
    "output",
    metadata,
    sa.Column("lease_id", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
)

# What became of the outputs that a site was to send to a URL.
delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("lease_id", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("problem", sa.Text, nullable=False),  # why it is not there; empty: it is
)

# Which site measures now, or shows a rate (then with its challenge); one row. One at a time, so that sites on one
# machine do not disturb each other.
certify_turn = sa.Table(
    "certify_turn",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("site_id", sa.Text, nullable=False),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("challenge", sa.Text, nullable=False, server_default=""),  # 64 hexadecimal digits
    sa.Column("held", sa.Boolean, nullable=False, server_default=sa.false()),  # the site gets ready: no time counts yet
    sa.Column("pool", sa.Text, nullable=False, server_default=""),  # its name in the site
    sa.Column("precision", sa.Text, nullable=False, server_default=""),
    sa.Column("n", sa.Integer, nullable=False, server_default="0"),
    sa.Column("width", sa.Integer, nullable=False, server_default="0"),
    sa.Column("steps", sa.Integer, nullable=False, server_default="0"),
)

# What a site says that one unit of a pool does, and what became of it when the hub looked (see `claims`).
rate_claim = sa.Table(
    "rate_claim",
    metadata,
    sa.Column("pool_id", sa.Text, primary_key=True),
    sa.Column("precision", sa.Text, primary_key=True),
    sa.Column("site_id", sa.Text, nullable=False),
    sa.Column("claimed_flops", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("seen_flops", sa.BigInteger, nullable=False, server_default="0"),  # most that the hub saw
    sa.Column("drop_milli", sa.Integer, nullable=False, server_default="1000"),  # against the test before
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_ms", sa.BigInteger),  # when it is to be shown; None: nothing is to be done
    sa.Column("at_ms", sa.BigInteger, nullable=False),  # of the last change
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Index("ix_rate_claim_due_ms", "due_ms"),
)

# Answers to challenges that are to be checked, with the time that passed by the hub's clock; gone afterwards.
proof = sa.Table(
    "proof",
    metadata,
    sa.Column("challenge", sa.Text, primary_key=True),
    sa.Column("site_id", sa.Text, nullable=False),
    sa.Column("pool", sa.Text, nullable=False),
    sa.Column("precision", sa.Text, nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("steps", sa.Integer, nullable=False),
    sa.Column("elapsed_ms", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # wire.link.Proof
)
