"""One poll of a site, applied: reports stored with their effects in one transaction, instructions out.

1. refuse an older epoch, an older poll, the same poll number with another body
2. take the reports that continue the site's sequence; skip those stored before
3. effects: usage to metering, starts and ends to orders, certificates to the catalogue
4. a full snapshot: leases that only one side knows are told to stop
5. note the contact; forget instructions that the site holds
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from yunhe.core.errors import Conflict, StaleMessage, YunheError
from yunhe.core.lifecycle import Ended, EndReason, Started
from yunhe.core.supply import SiteState
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.dispatch import store
from yunhe.hub.orders import events, outbox, views
from yunhe.hub.orders.create import ROUND
from yunhe.hub.orders.events import LeaseEvent
from yunhe.hub.platform.db import insert_ignore
from yunhe.hub.platform.writer import Tx
from yunhe.wire.link import (
    MAX_INSTRUCTIONS_PER_ANSWER,
    CancelLease,
    Certificate,
    Hello,
    LeaseEnded,
    LeaseStarted,
    Report,
    Sync,
    SyncAnswer,
    UsageReport,
)

# Metering stands beside dispatch, so the composition root hands it in: (tx, site id, [(record, evidence)]).
UsageSink = Callable[[Tx, str, Sequence[tuple[UsageReport, str]]], None]


@dataclass(frozen=True, slots=True)
class Poll:
    """A verified request."""

    sync: Sync
    body: bytes
    body_sha: str
    signed: bytes
    signature: str


def greet(tx: Tx, greetings: Sequence[Hello]) -> list[tuple[int, int] | YunheError]:
    """Writer handler: (new agent epoch, last stored report) for each hello.

    A process that says hello again gets the epoch that it has. Otherwise the epoch before must be the last one that
    polled: a spool that was restored or cloned names an older one.
    """
    answers: list[tuple[int, int] | YunheError] = []
    for hello in greetings:
        link = _lock_link(tx, hello.site_id)
        if hello.nonce and hello.nonce == link.hello_nonce:
            answers.append((link.epoch_issued, link.report_seq))
            continue
        if hello.previous_epoch != link.epoch_used:
            answers.append(
                StaleMessage(
                    f"this spool last spoke in epoch {hello.previous_epoch}, the site in epoch {link.epoch_used}",
                    field="previous_epoch",
                    hint="a restored or copied data directory cannot speak for the site: use the newest, or join anew",
                )
            )
            continue
        epoch = link.epoch_issued + 1
        tx.conn.execute(
            sa.update(store.site_link)
            .where(store.site_link.c.site_id == hello.site_id)
            .values(epoch_issued=epoch, hello_nonce=hello.nonce)
        )
        answers.append((epoch, link.report_seq))
    return answers


class SyncHandler:
    def __init__(self, usage_sink: UsageSink) -> None:
        self._usage_sink = usage_sink

    def apply(self, tx: Tx, polls: Sequence[Poll]) -> list[SyncAnswer | YunheError]:
        """Writer handler. Sites in sorted order, so that two replicas lock in the same order."""
        answers: dict[int, SyncAnswer | YunheError] = {}
        for index in sorted(range(len(polls)), key=lambda i: polls[i].sync.site_id):
            try:
                answers[index] = self._apply(tx, polls[index])
            except (StaleMessage, Conflict) as refusal:  # raised before anything was written for this poll
                answers[index] = refusal
        return [answers[index] for index in range(len(polls))]

    def _apply(self, tx: Tx, poll: Poll) -> SyncAnswer:
        sync = poll.sync
        link = _lock_link(tx, sync.site_id)
        repeat = _check_fresh(link, poll)
        site = catalogue.site(tx.conn, sync.site_id)
        if site.state is SiteState.LEFT:
            raise StaleMessage(f"site {sync.site_id} has left the network", hint="join anew")
        report_seq = link.report_seq
        if not repeat:
            fresh = _continuing(sync.reports, link.report_seq)
            report_seq += len(fresh)
            self._effects(tx, poll, fresh)
            if sync.leases is not None:
                _compare_snapshot(tx, sync)
            self._note(tx, poll, report_seq)
            if catalogue.touch(tx, sync.site_id, tx.now_ms, sync.accepting, sync.pools):
                tx.notify(ROUND)
            events.site_back(tx, sync.site_id)
        return SyncAnswer(
            epoch=sync.epoch,
            poll_no=sync.poll_no,
            report_seq=report_seq,
            instructions=outbox.after(tx.conn, sync.site_id, sync.applied_seq, MAX_INSTRUCTIONS_PER_ANSWER),
        )

    def _effects(self, tx: Tx, poll: Poll, reports: Sequence[Report]) -> None:
        sync = poll.sync
        usage = [report for report in reports if isinstance(report, UsageReport)]
        if usage:
            _keep_evidence(tx, poll)
            # Before the ends: an attempt's usage is complete when settlement is told of its end.
            self._usage_sink(tx, sync.site_id, [(report, f"{sync.epoch}/{sync.poll_no}") for report in usage])
        for report in reports:
            if isinstance(report, Certificate):
                catalogue.certify(tx, sync.site_id, report)
                _end_turn(tx, sync.site_id)
        own = views.epochs_at_site(tx.conn, sync.site_id, [_key(r) for r in reports if _is_lease(r)])
        events.apply(tx, [_event(r) for r in reports if _is_lease(r) and _key(r) in own])

    def _note(self, tx: Tx, poll: Poll, report_seq: int) -> None:
        sync = poll.sync
        tx.conn.execute(
            sa.update(store.site_link)
            .where(store.site_link.c.site_id == sync.site_id)
            .values(
                epoch_used=sync.epoch,
                poll_no=sync.poll_no,
                poll_sha=poll.body_sha,
                report_seq=report_seq,
                applied_seq=sync.applied_seq,
            )
        )
        outbox.prune(tx, {sync.site_id: sync.applied_seq})


def _lock_link(tx: Tx, site_id: str) -> sa.Row[Any]:
    insert_ignore(store.site_link).execute(tx.conn, [{"site_id": site_id}])
    return tx.conn.execute(
        sa.select(store.site_link).where(store.site_link.c.site_id == site_id).with_for_update()
    ).one()


def check_epoch(conn: sa.Connection, site_id: str, epoch: int) -> None:
    """Raises StaleMessage unless `epoch` is the agent epoch that may speak for the site."""
    issued = conn.scalar(sa.select(store.site_link.c.epoch_issued).where(store.site_link.c.site_id == site_id))
    if epoch != issued:
        raise StaleMessage(f"agent epoch {epoch} was followed by {issued}", field="epoch")


def _check_fresh(link: sa.Row[Any], poll: Poll) -> bool:
    """True for an identical repeat of the last poll. Raises StaleMessage for anything older."""
    sync = poll.sync
    if sync.epoch != link.epoch_issued:
        raise StaleMessage(f"agent epoch {sync.epoch} was followed by {link.epoch_issued}", field="epoch")
    if sync.epoch != link.epoch_used:  # first poll of this epoch
        return False
    if sync.poll_no == link.poll_no and poll.body_sha == link.poll_sha:
        return True
    if sync.poll_no <= link.poll_no:
        raise StaleMessage(f"poll {sync.poll_no} was followed by {link.poll_no}", field="poll_no")
    return False


def _continuing(reports: Sequence[Report], stored_seq: int) -> list[Report]:
    """The reports that continue the site's sequence without a hole."""
    fresh: list[Report] = []
    for report in sorted(reports, key=lambda r: r.seq):
        if report.seq == stored_seq + len(fresh) + 1:
            fresh.append(report)
    return fresh


def _is_lease(report: Report) -> bool:
    return isinstance(report, LeaseStarted | LeaseEnded)


def _key(report: Report) -> tuple[str, int]:
    assert isinstance(report, LeaseStarted | LeaseEnded)
    return report.lease_id, report.epoch


def _event(report: Report) -> LeaseEvent:
    if isinstance(report, LeaseStarted):
        return LeaseEvent(report.lease_id, Started(report.epoch))
    assert isinstance(report, LeaseEnded)
    return LeaseEvent(report.lease_id, Ended(report.epoch, report.reason, report.exit_code), report.detail)


def _keep_evidence(tx: Tx, poll: Poll) -> None:
    row = {
        "site_id": poll.sync.site_id,
        "epoch": poll.sync.epoch,
        "poll_no": poll.sync.poll_no,
        "signed": poll.signed,
        "body": poll.body,
        "signature": poll.signature,
        "at_ms": tx.now_ms,
    }
    insert_ignore(store.evidence).execute(tx.conn, [row])


def _compare_snapshot(tx: Tx, sync: Sync) -> None:
    """The site's own list of leases against ours, as of the instructions that it has applied."""
    held = {(lease.lease_id, lease.epoch) for lease in sync.leases or ()}
    ours = views.placed_at_site(tx.conn, sync.site_id)
    # A start still in the outbox is not missing: the site has not seen it yet.
    on_its_way = {
        (item.lease_id, item.epoch)
        for item in outbox.after(tx.conn, sync.site_id, sync.applied_seq, limit=None)
        if item.kind == "start"
    }
    # What the site no longer knows it is told to stop: it makes sure that nothing of it runs, and reports the end.
    # What the hub no longer counts on is fenced the same way.
    strays = sorted((ours - held - on_its_way) | (held - ours))
    outbox.append(
        tx,
        sync.site_id,
        [CancelLease(seq=0, lease_id=lease_id, epoch=epoch, reason=EndReason.LOST) for lease_id, epoch in strays],
    )


def _end_turn(tx: Tx, site_id: str) -> None:
    tx.conn.execute(sa.delete(store.certify_turn).where(store.certify_turn.c.site_id == site_id))
    tx.notify("certify")
