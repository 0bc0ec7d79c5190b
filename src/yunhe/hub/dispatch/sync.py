"""One poll of a site, applied: reports stored with their effects in one transaction, instructions out.

1. refuse an older epoch, an older poll, the same poll number with another body
2. take the reports that continue the site's sequence; skip those stored before
3. effects: usage to metering, starts and ends to orders, certificates to the catalogue, proofs to their check
4. a full snapshot: leases that only one side knows are told to stop
5. note the contact; forget instructions that the site holds
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from yunhe.core.errors import Conflict, StaleMessage, YunheError
from yunhe.core.lifecycle import Ended, EndReason, Started
from yunhe.core.supply import SiteState
from yunhe.core.usage import most_wall_ms
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.dispatch import outputs, store, turns
from yunhe.hub.orders import events, outbox, rooms, transfers, views
from yunhe.hub.orders.create import ROUND
from yunhe.hub.orders.events import LeaseEvent
from yunhe.hub.orders.model import Placement
from yunhe.hub.platform import bulk
from yunhe.hub.platform.db import insert_ignore
from yunhe.hub.platform.settings import HubSettings
from yunhe.hub.platform.writer import Tx
from yunhe.wire.link import (
    MAX_INSTRUCTIONS_PER_ANSWER,
    CancelLease,
    Certificate,
    Hello,
    LeaseEnded,
    LeaseMoved,
    LeaseStaging,
    LeaseStarted,
    Proof,
    Report,
    Sync,
    UsageReport,
)

# Metering stands beside dispatch, so the composition root hands it in: (tx, [(site id, record, evidence)], placements).
UsageSink = Callable[[Tx, Sequence[tuple[str, UsageReport, str]], Mapping[tuple[str, int], Placement]], None]


_LINKS = (
    sa.select(store.site_link)
    .where(bulk.any_of(store.site_link.c.site_id))
    .order_by(store.site_link.c.site_id)
    .with_for_update()
)


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
    polled: a spool that was restored or cloned names an older one. And the process must be the newest on its spool: the
    hello of one that was killed can come after its successor's.
    """
    answers: list[tuple[int, int] | YunheError] = []
    for hello in greetings:
        link = _lock_link(tx, hello.site_id)
        if hello.nonce and hello.nonce == link.hello_nonce:
            answers.append((link.epoch_issued, link.report_seq))
            continue
        if hello.start_no < link.hello_start_no:
            answers.append(
                StaleMessage(f"agent start {hello.start_no} was followed by {link.hello_start_no}", field="start_no")
            )
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
            .values(epoch_issued=epoch, hello_nonce=hello.nonce, hello_start_no=hello.start_no)
        )
        answers.append((epoch, link.report_seq))
    return answers


@dataclass(frozen=True, slots=True)
class Answered:
    """What a poll is answered: `texts` are the instructions as JSON."""

    epoch: int
    poll_no: int
    report_seq: int
    texts: tuple[str, ...] = ()

    def with_texts(self, texts: tuple[str, ...]) -> "Answered":
        return replace(self, texts=texts)

    def to_json(self) -> bytes:
        """A `wire.link.SyncAnswer`. Instructions were valid when they were stored, so they are not read again."""
        head = f'{{"epoch":{self.epoch},"poll_no":{self.poll_no},"report_seq":{self.report_seq},"want_snapshot":false'
        return f'{head},"instructions":[{",".join(self.texts)}]}}'.encode()


@dataclass(frozen=True, slots=True)
class _Taken:
    """A poll that is fresh: the reports that continue its site's sequence."""

    poll: Poll
    link: sa.Row[Any]
    fresh: list[Report]


class SyncHandler:
    def __init__(self, usage_sink: UsageSink, settings: HubSettings) -> None:
        self._usage_sink = usage_sink
        self._settings = settings

    def apply(self, tx: Tx, polls: Sequence[Poll]) -> list[Answered | YunheError]:
        """Writer handler. All sites at once; a site's second poll of a group comes after its first."""
        answers: dict[int, Answered | YunheError] = {}
        left = list(range(len(polls)))
        while left:
            turn: dict[str, int] = {}
            for index in left:
                turn.setdefault(polls[index].sync.site_id, index)
            self._apply(tx, {index: polls[index] for _, index in sorted(turn.items())}, answers)
            left = [index for index in left if index not in answers]
        return [answers[index] for index in range(len(polls))]

    def _apply(self, tx: Tx, polls: dict[int, Poll], answers: dict[int, Answered | YunheError]) -> None:
        """Polls of different sites, sorted by site, so that two replicas lock in the same order."""
        ids = [poll.sync.site_id for poll in polls.values()]
        links, sites = _lock_links(tx, ids), catalogue.states(tx.conn, ids)
        said = outbox.heads(tx.conn, ids)
        answered: dict[int, int] = {}
        taken: list[_Taken] = []
        for index, poll in polls.items():
            link = links[poll.sync.site_id]
            try:
                repeat = _check_fresh(link, poll)
                _check_applied(poll.sync, said.get(poll.sync.site_id, 0))
                if sites[poll.sync.site_id] is SiteState.LEFT:
                    check_leaving(tx.conn, poll.sync.site_id)
            except (StaleMessage, Conflict) as refusal:  # nothing was written for this poll yet
                answers[index] = refusal
                continue
            fresh = [] if repeat else _continuing(poll.sync.reports, link.report_seq)
            answered[index] = link.report_seq + len(fresh)
            if not repeat:
                taken.append(_Taken(poll, link, fresh))
        self._effects(tx, taken)
        _note(tx, taken)
        texts = outbox.texts_after(
            tx.conn,
            {polls[index].sync.site_id: polls[index].sync.applied_seq for index in answered},
            MAX_INSTRUCTIONS_PER_ANSWER,
        )
        for index, report_seq in answered.items():
            sync = polls[index].sync
            answers[index] = Answered(sync.epoch, sync.poll_no, report_seq, texts.get(sync.site_id, ()))

    def _effects(self, tx: Tx, taken: Sequence[_Taken]) -> None:
        reports = [(item.poll.sync, report) for item in taken for report in item.fresh]
        if reports:
            about = [report for _, report in reports if not isinstance(report, Certificate | Proof)]
            placed = views.placements(tx.conn, (report.lease_id for report in about))
            _keep_evidence(tx, taken)
            # Before the ends: an attempt's usage is complete when settlement is told of its end.
            usage = [
                (sync.site_id, report, f"{sync.epoch}/{sync.poll_no}")
                for sync, report in reports
                if isinstance(report, UsageReport)
            ]
            self._usage_sink(tx, usage, placed)
            for sync, report in reports:
                if isinstance(report, Certificate):
                    catalogue.certify(tx, sync.site_id, report)
                    turns.measured(tx, sync.site_id, self._settings)
                elif isinstance(report, Proof):
                    turns.answered(tx, sync.site_id, report)
            moving = [r for sync, r in reports if isinstance(r, LeaseStaging | LeaseMoved) and _placed(sync, r, placed)]
            touched = {report.lease_id for report in about}
            transfers.note(tx, moving, touched, self._settings)
            saved = [r for sync, r in reports if isinstance(r, UsageReport) and r.saved_ms and _placed(sync, r, placed)]
            rooms.note_saved(tx, saved, touched)
            outputs.delivered(tx, [report for report in moving if isinstance(report, LeaseMoved)])
            ends = [report for _, report in reports if isinstance(report, LeaseEnded)]
            known = _Known(placed, outputs.saved(tx.conn, ends), _too_early(tx, ends))
            said = [event for sync, report in reports for event in _events(sync.site_id, report, known)]
            events.apply(tx, said)
        for item in taken:
            if item.poll.sync.leases is not None:
                _compare_snapshot(tx, item.poll.sync)


def _placed(
    sync: Sync, report: LeaseStaging | LeaseMoved | UsageReport, placed: Mapping[tuple[str, int], Placement]
) -> bool:
    """Whether the site was given the lease that it speaks of."""
    place = placed.get((report.lease_id, report.epoch))
    return place is not None and place.site_id == sync.site_id


def _note(tx: Tx, taken: Sequence[_Taken]) -> None:
    """Where the links stand now, that the sites were here, and that what they hold can be forgotten."""
    rows = [
        {
            "site_id": item.poll.sync.site_id,
            "epoch_used": item.poll.sync.epoch,
            "poll_no": item.poll.sync.poll_no,
            "poll_sha": item.poll.body_sha,
            "report_seq": item.link.report_seq + len(item.fresh),
            "applied_seq": item.poll.sync.applied_seq,
        }
        for item in taken
    ]
    bulk.update(tx.conn, store.site_link, ("site_id",), rows)
    syncs = [item.poll.sync for item in taken]
    moved = {i.poll.sync.site_id: i.poll.sync.applied_seq for i in taken if _holds_more(i)}
    outbox.prune(tx, moved)
    if syncs:
        if catalogue.touch_many(tx, {sync.site_id: (sync.accepting, sync.pools) for sync in syncs}):
            tx.notify(ROUND)
        events.site_back(tx, [sync.site_id for sync in syncs])


def _holds_more(item: _Taken) -> bool:
    """Also with a new epoch: nobody knows what an older one has left."""
    return bool(item.poll.sync.applied_seq != item.link.applied_seq or item.poll.sync.epoch != item.link.epoch_used)


def _lock_links(tx: Tx, site_ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    """Links in sorted order, locked; those that are missing are made."""
    ids = {"ids": list(site_ids)}
    rows = {row.site_id: row for row in tx.conn.execute(_LINKS, ids)}
    missing = sorted(set(site_ids) - rows.keys())
    if missing:
        bulk.insert(tx.conn, store.site_link, [{"site_id": site_id} for site_id in missing], ignore=True)
        rows = {row.site_id: row for row in tx.conn.execute(_LINKS, ids)}
    return rows


def _lock_link(tx: Tx, site_id: str) -> sa.Row[Any]:
    return _lock_links(tx, [site_id])[site_id]


def check_epoch(conn: sa.Connection, site_id: str, epoch: int) -> None:
    """Raises StaleMessage unless `epoch` is the agent epoch that may speak for the site."""
    issued = conn.scalar(sa.select(store.site_link.c.epoch_issued).where(store.site_link.c.site_id == site_id))
    if epoch != issued:
        raise StaleMessage(f"agent epoch {epoch} was followed by {issued}", field="epoch")


def check_leaving(conn: sa.Connection, site_id: str) -> None:
    """A site that left still reports what runs there, to its end. Raises StaleMessage when nothing does."""
    if not views.placed_at_site(conn, site_id):
        raise StaleMessage(f"site {site_id} has left the network", hint="join anew")


def _check_applied(sync: Sync, said: int) -> None:
    """Raises Conflict for instructions that were never given: such a site would be deaf to the next ones."""
    if sync.applied_seq > said:
        raise Conflict(
            f"the site has applied instruction {sync.applied_seq}, the hub's last is {said}",
            field="applied_seq",
            hint="one of them was restored from an older copy: enrol the site anew",
        )


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


def _too_early(tx: Tx, ends: Sequence[LeaseEnded]) -> set[tuple[str, int]]:
    """(lease id, epoch) of those that ran out of time, as their sites say, before it had passed here."""
    late = [(end.lease_id, end.epoch) for end in ends if end.reason is EndReason.TIME_LIMIT]
    leases = views.leases(tx.conn, late) if late else {}
    return {key for key, at in leases.items() if at.terms.run_limit_ms > most_wall_ms(at.placed_ms, tx.now_ms)}


@dataclass(frozen=True, slots=True)
class _Known:
    """What the hub knows of attempts: where they are, whose checkpoint it has, which cannot have run out of time."""

    placed: Mapping[tuple[str, int], Placement]
    saved: Set[tuple[str, int]]
    too_early: Set[tuple[str, int]]


def _events(site_id: str, report: Report, known: _Known) -> list[LeaseEvent]:
    """None for a lease that this site was not given."""
    if not isinstance(report, LeaseStarted | LeaseEnded):
        return []
    key = report.lease_id, report.epoch
    place = known.placed.get(key)
    if place is None or place.site_id != site_id:
        return []
    if isinstance(report, LeaseStarted):
        return [LeaseEvent(report.lease_id, Started(report.epoch))]
    if key in known.too_early:
        said = f"the site says {report.reason.value} before that time had passed: {report.detail}"
        return [LeaseEvent(report.lease_id, Ended(report.epoch, EndReason.SUPERVISOR_LOST, None), said[:500])]
    kept = report.checkpoint if key in known.saved and report.reason is EndReason.PREEMPTED else None
    ended = Ended(report.epoch, report.reason, report.exit_code, kept.kept_ms if kept else 0)
    return [LeaseEvent(report.lease_id, ended, report.detail, kept)]


def _keep_evidence(tx: Tx, taken: Sequence[_Taken]) -> None:
    """The signed words of every poll that brought usage, a certificate or a proof."""
    rows = [
        {
            "site_id": item.poll.sync.site_id,
            "epoch": item.poll.sync.epoch,
            "poll_no": item.poll.sync.poll_no,
            "signed": item.poll.signed,
            "body": item.poll.body,
            "signature": item.poll.signature,
            "at_ms": tx.now_ms,
        }
        for item in taken
        if any(isinstance(report, UsageReport | Certificate | Proof) for report in item.fresh)
    ]
    if rows:
        insert_ignore(store.evidence).execute(tx.conn, rows)


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
