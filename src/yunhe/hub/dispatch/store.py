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

# Which site measures now; one row. One at a time, so that sites on one machine do not disturb each other.
certify_turn = sa.Table(
    "certify_turn",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("site_id", sa.Text, nullable=False),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
)
