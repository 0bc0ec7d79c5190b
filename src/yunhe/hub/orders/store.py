"""Tables of the orders room. `fact` is append-only; `order_` and `task` are its projection, kept in step with it."""

import sqlalchemy as sa

from yunhe.hub.platform.db import OwnTransaction, metadata

# What was ordered, by content: orders of one shape share a row.
spec = sa.Table(
    "spec",
    metadata,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("json", sa.Text, nullable=False),  # wire.api.OrderSpec without files
    sa.Column("bundle", sa.Text),  # sha256 of `bundle.json`
)

bundle = sa.Table(
    "bundle",
    metadata,
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("json", sa.Text, nullable=False),  # {path: text}
)

order = sa.Table(
    "order_",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("org", sa.Text, nullable=False),
    sa.Column("member", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("spec_hash", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("array", sa.Integer, nullable=False),
    sa.Column("submitted_ms", sa.BigInteger, nullable=False),
    sa.Column("deadline_ms", sa.BigInteger),
    sa.Column("start_ms", sa.BigInteger),  # not before; what is ordered for later is booked
    sa.Column("ended_ms", sa.BigInteger),
    sa.Column("hold_microcny", sa.BigInteger, nullable=False),
    sa.Column("charged_microcny", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("settled", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("pending", sa.Integer, nullable=False),  # tasks that wait for a place
    # Of the pending tasks: when the first of them may be placed, and when all of them.
    sa.Column("not_before_ms", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("all_from_ms", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("version", sa.BigInteger, nullable=False, server_default="0"),  # +1 whenever a snapshot becomes stale
    sa.Column("secrets", sa.Boolean, nullable=False, server_default=sa.false()),  # there is a row of `secret`
    sa.Column("spot", sa.Boolean, nullable=False, server_default=sa.false()),
    # Units of this pool are being freed for so many of its tasks (see `rooms`).
    sa.Column("room_pool", sa.Text),
    sa.Column("room_tasks", sa.Integer, nullable=False, server_default="0"),
    sa.Column("origin", sa.Text),  # JSON of wire.origin.Origin: passed down by another hub
    sa.Column("idem_key", sa.Text),
    sa.Column("idem_sha", sa.Text),
    sa.UniqueConstraint("org", "idem_key", name="uq_order_org_idem_key"),
    sa.Index("ix_order_org_submitted", "org", "submitted_ms"),
)
sa.Index(
    "ix_order_pending",
    order.c.submitted_ms,
    sqlite_where=order.c.pending > 0,
    postgresql_where=order.c.pending > 0,
)

sa.Index("ix_order_spot", order.c.state, sqlite_where=order.c.spot, postgresql_where=order.c.spot)

# Who orders for others, and when it was last heard (see `following`).
follower = sa.Table(
    "follower",
    metadata,
    sa.Column("org", sa.Text, primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
    sa.Column("silence_ms", sa.BigInteger, nullable=False),
    sa.Column("seen_ms", sa.BigInteger, nullable=False),
)

task = sa.Table(
    "task",
    metadata,
    sa.Column("lease_id", sa.Text, primary_key=True),  # order id "." index
    sa.Column("order_id", sa.Text, nullable=False, index=True),
    sa.Column("idx", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False, server_default="0"),
    sa.Column("site_id", sa.Text),
    sa.Column("pool_id", sa.Text),
    sa.Column("milli", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("memory_bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("retries_left", sa.Integer, nullable=False),
    sa.Column("site_faults", sa.Integer, nullable=False, server_default="0"),
    sa.Column("preemptions", sa.Integer, nullable=False, server_default="0"),
    sa.Column("not_before_ms", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("stopping", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("started", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("exit_code", sa.Integer),
    sa.Column("reason", sa.Text),
    sa.Column("detail", sa.Text, nullable=False, server_default=""),
    # For which time its units are promised; while it is booked they are in use from then on only.
    sa.Column("booked_from_ms", sa.BigInteger),
    sa.Column("booked_until_ms", sa.BigInteger),
    sa.Column("placed_ms", sa.BigInteger),
    sa.Column("started_ms", sa.BigInteger),
    sa.Column("ended_ms", sa.BigInteger),
    sa.Column("limit_ms", sa.BigInteger),  # placed: from its start to when the hub should have heard of its end
    # Placed: when it should have started; started: when it should have ended; told to stop: when it should have stopped
    sa.Column("overdue_ms", sa.BigInteger),
    sa.Column("kept_ms", sa.BigInteger, nullable=False, server_default="0"),  # of all preempted attempts
    sa.Column("checkpoint", sa.Text),  # JSON of the newest wire.link.Checkpoint
    # In this epoch: from its start to the newest checkpoint, as its site saw it at the last usage record.
    sa.Column("saved_ms", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("staging", sa.Text, nullable=False, server_default=""),  # JSON of wire.api.StagingView, of this epoch
    sa.Column("delivery", sa.Text, nullable=False, server_default=""),  # of this epoch's outputs with a URL
    # When the site last said that data moves, and how fast that was since the word before; null: nothing moves.
    sa.Column("moving_ms", sa.BigInteger),
    sa.Column("moving_bps", sa.BigInteger, nullable=False, server_default="0"),
)
sa.Index(
    "ix_task_site_active",
    task.c.site_id,
    sqlite_where=task.c.state.in_(("leased", "running", "unknown")),
    postgresql_where=task.c.state.in_(("leased", "running", "unknown")),
)

sa.Index(
    "ix_task_moving",
    task.c.moving_ms,
    sqlite_where=task.c.moving_ms.is_not(None),
    postgresql_where=task.c.moving_ms.is_not(None),
)

# A literal: of a parameter neither database knows that the index has all of these rows.
BOOKED = task.c.state == sa.literal_column("'booked'")
sa.Index(
    "ix_task_booked",
    task.c.lease_id,
    sqlite_where=BOOKED,
    postgresql_where=BOOKED,
)

sa.Index(
    "ix_task_overdue",
    task.c.overdue_ms,
    sqlite_where=task.c.overdue_ms.is_not(None),
    postgresql_where=task.c.overdue_ms.is_not(None),
)

fact = sa.Table(
    "fact",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    # The number of the transaction that wrote it, by which `feed` knows what may still come before it (see there).
    sa.Column("xact", sa.BigInteger, nullable=False, server_default=OwnTransaction()),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("lease_id", sa.Text),
    sa.Column("epoch", sa.Integer),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False, server_default=""),
    sa.Index("ix_fact_xact", "xact", "id"),
    sa.Index("ix_fact_order", "order_id", "xact", "id"),
)

# Of orders that have not ended: their secrets under the hub's key (see `vault`), in base64.
secret = sa.Table(
    "secret",
    metadata,
    sa.Column("order_id", sa.Text, primary_key=True),
    sa.Column("sealed", sa.Text, nullable=False),
)

# What a lease was agreed at: the figures that its charge is computed from, frozen when it was placed.
# Kept apart from the task's row because a later epoch must not overwrite them before the earlier one is settled.
lease = sa.Table(
    "lease",
    metadata,
    sa.Column("lease_id", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("site_id", sa.Text, nullable=False),
    sa.Column("pool_id", sa.Text, nullable=False),
    sa.Column("placed_ms", sa.BigInteger, nullable=False),
    sa.Column("terms", sa.Text, nullable=False),  # JSON of LeaseTerms
    sa.Column("ended_ms", sa.BigInteger),  # by the hub's clock, as `placed_ms`; None: it has not
    sa.Column("end_reason", sa.Text),  # of this epoch
    sa.Column("kept_ms", sa.BigInteger, nullable=False, server_default="0"),  # preempted: what the customer keeps of it
    sa.Index("ix_lease_ended_ms", "ended_ms"),
)

outbox_head = sa.Table(
    "outbox_head",
    metadata,
    sa.Column("site_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
)

# Ordered per site; the number is taken by updating the site's head in the same transaction, so readers never skip.
instruction = sa.Table(
    "instruction",
    metadata,
    sa.Column("site_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),  # wire.link.SiteInstruction
)
