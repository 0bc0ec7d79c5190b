"""What must hold when all is calm again, whatever happened before. Every finding is one line of text.

The database is read as rows, past the rooms' own code: what that code believes is what is judged here.
"""

import hashlib
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.faults.customers import ENDED, SECRET_MARK, Customers, Delivered, Placed
from tests.faults.network import CUSTOMER, DEPOSIT_CNY, FaultNetwork
from tests.faults.plan import Summary
from tests.faults.witness import Run, Witness
from yunhe.core.lifecycle import SITE_FAULTS
from yunhe.hub.dispatch.retention import RETENTION

FAULTS = {reason.value for reason in SITE_FAULTS}
TERMINAL_TASK = {"succeeded", "failed", "cancelled", "withdrawn"}
# The supervisor starts its clock before the job's first line and stops it after the last one.
CLOCK_MS = 2
Key = tuple[str, int]


class Books:
    """All rows that are looked at, read at once."""

    def __init__(self, database_url: str) -> None:
        engine = sa.create_engine(database_url)
        with engine.connect() as conn:
            self.orders = self._rows(conn, "SELECT * FROM order_ ORDER BY id")
            self.tasks = self._rows(conn, "SELECT * FROM task ORDER BY lease_id")
            self.leases = self._rows(conn, "SELECT * FROM lease ORDER BY lease_id, epoch")
            self.usage = self._rows(conn, 'SELECT * FROM "usage" ORDER BY lease_id, epoch, n')
            self.charges = self._rows(conn, "SELECT * FROM charge ORDER BY lease_id, epoch")
            self.postings = self._rows(conn, "SELECT * FROM posting ORDER BY set_ref, n")
            self.balances = self._rows(conn, "SELECT * FROM balance")
            self.holds = self._rows(conn, "SELECT * FROM hold")
            self.pools = self._rows(conn, "SELECT * FROM pool")
            self.organisations = self._rows(conn, "SELECT * FROM organisation")
            self.facts = self._rows(conn, "SELECT * FROM fact ORDER BY id")
            self.work = self._rows(conn, "SELECT * FROM work")
            self.links = self._rows(conn, "SELECT * FROM site_link")
            self.heads = self._rows(conn, "SELECT * FROM outbox_head")
            self.secrets = self._rows(conn, "SELECT order_id FROM secret")
        engine.dispose()

    @staticmethod
    def _rows(conn: sa.Connection, text: str) -> Sequence[sa.Row[Any]]:
        return conn.execute(sa.text(text)).all()


def judge(
    network: FaultNetwork,
    customers: Customers,
    delivered: Mapping[str, Delivered],
    witness: Witness,
    summary: Summary,
) -> None:
    """Fill the summary's figures and its violations."""
    books = Books(network.database_url)
    found = [
        *customers.refused,
        *_orders(books, customers),
        *_ends(books, customers),
        *_runs(books, witness),
        *_delivered(books, delivered, witness),
        *_usage(books, witness),
        *_money(books),
        *_guards(books),
        *_sites(network, books),
        *_secrets(network, books),
    ]
    summary.violations += found
    summary.orders, summary.tasks = len(books.orders), len(books.tasks)
    summary.states.update(row.state for row in books.orders)
    summary.attempts = len(books.leases)
    summary.repeated = sum(row.epoch > 1 for row in books.leases)
    summary.ends.update(row.end_reason or "open" for row in books.leases)
    summary.runs_seen = len(witness.runs)
    summary.postings = len(books.postings)
    for row in books.charges:
        wall_ms = json.loads(row.inputs)["wall_ms"]
        if row.disputed:
            summary.disputed_ms += wall_ms
        else:
            summary.charged_ms += wall_ms


# --- orders -------------------------------------------------------------------------------------------------------


def _orders(books: Books, customers: Customers) -> Iterator[str]:
    """Each acknowledged submission is one order, and there are no others."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for row in books.orders:
        by_key[row.idem_key].append(row.id)
    for placed in customers.orders:
        ids = by_key.pop(placed.key, [])
        if placed.order_id and ids != [placed.order_id]:
            yield f"{placed.key} was acknowledged as {placed.order_id}, the hub has {ids}"
    for key, ids in by_key.items():
        yield f"orders {ids} of key {key} were never submitted"
    for row in books.orders:
        if row.state not in ENDED or not row.settled or row.pending:
            yield f"order {row.id} is {row.state}, settled {bool(row.settled)}, {row.pending} pending"


def _ends(books: Books, customers: Customers) -> Iterator[str]:
    """Each task ended exactly once, each order as its tasks, and as its kind may end."""
    ends = Counter(row.lease_id for row in books.facts if row.kind in TERMINAL_TASK)
    tasks: dict[str, list[sa.Row[Any]]] = defaultdict(list)
    for task in books.tasks:
        tasks[task.order_id].append(task)
        if task.state not in TERMINAL_TASK or ends[task.lease_id] != 1:
            yield f"task {task.lease_id} is {task.state} and ended {ends[task.lease_id]} times"
    state = {row.id: row.state for row in books.orders}
    for placed in customers.orders:
        own = tasks[placed.order_id]
        if len(own) != placed.kind.array:
            yield f"order {placed.order_id} has {len(own)} tasks, {placed.kind.array} were ordered"
        given_up = any(task.state == "failed" and task.reason in FAULTS for task in own)
        if state.get(placed.order_id) not in placed.kind.expected and not given_up:
            told = ", ".join(f"{t.state} {t.reason} {t.exit_code} {t.detail}" for t in own)
            yield f"order {placed.order_id} ({placed.kind.name}) is {state.get(placed.order_id)}: {told}"
        yield from _reasons(placed, own)


def _reasons(placed: Placed, tasks: Sequence[sa.Row[Any]]) -> Iterator[str]:
    for task in tasks:
        if task.state == "failed" and task.reason not in FAULTS:
            wanted = ("time_limit", None) if placed.kind.name == "too long" else ("exited", placed.kind.status)
            if task.reason != wanted[0] or (wanted[1] is not None and task.exit_code != wanted[1]):
                yield f"task {task.lease_id} ({placed.kind.name}) failed with {task.reason} {task.exit_code}"


# --- what ran -----------------------------------------------------------------------------------------------------


def _runs(books: Books, witness: Witness) -> Iterator[str]:
    """No attempt ran twice, no two attempts at once, and what succeeded ran to its end in its last attempt."""
    epochs = {(row.lease_id, row.epoch) for row in books.leases}
    known = witness.of_tasks()
    for (task, rank), runs in known.items():
        for before, after in zip(runs, runs[1:], strict=False):
            if before.epoch == after.epoch:
                yield f"{task}.{before.epoch} rank {rank} was started twice"
            if after.start_us <= before.last_us:
                early_ms = (before.last_us - after.start_us) / 1000
                yield f"{task}: attempt {after.epoch} began {early_ms:.0f} ms before {before.epoch} was over"
        for run in runs:
            if (run.task, run.epoch) not in epochs:
                yield f"{run.task}.{run.epoch} ran and the hub knows no such attempt"
    for row in books.tasks:
        if row.state == "succeeded":
            last = [run for run in known.get((row.lease_id, 0), []) if run.epoch == row.epoch]
            if [run.ended for run in last] != [True]:
                yield f"{row.lease_id} succeeded in attempt {row.epoch}, seen: {last}"


def _delivered(books: Books, delivered: Mapping[str, Delivered], witness: Witness) -> Iterator[str]:
    """Log and result of what succeeded are those of the attempt that did, whole and once."""
    tasks = {row.lease_id: row for row in books.tasks}
    runs = {(run.task, run.epoch): run.nonce for run in witness.runs.values()}
    for lease_id, got in delivered.items():
        task = tasks[lease_id]
        nonce = runs.get((lease_id, task.epoch), "")
        # A site that could not reach the hub for its flush limit says in the detail what it gave up to send.
        if task.state == "succeeded" and "not delivered" not in task.detail:
            if got.log != f"begin {nonce}\nend {nonce}\n":
                yield f"the log of {lease_id}.{task.epoch} ({nonce}) is {got.log!r}; {task.detail}"
            if got.result != nonce:
                yield f"the result of {lease_id}.{task.epoch} ({nonce}) is {got.result!r}; {task.detail}"


def _usage(books: Books, witness: Witness) -> Iterator[str]:
    """Every attempt that ran was measured once, and billed once or told as disputed."""
    records: dict[Key, list[sa.Row[Any]]] = defaultdict(list)
    for row in books.usage:
        records[row.lease_id, row.epoch].append(row)
    charges = {(row.lease_id, row.epoch): row for row in books.charges}
    runs: dict[Key, list[Run]] = defaultdict(list)
    for run in witness.runs.values():
        runs[run.task, run.epoch].append(run)
    for lease in books.leases:
        key = (lease.lease_id, lease.epoch)
        name = f"{lease.lease_id}.{lease.epoch}"
        yield from _prefix(name, records[key])
        if lease.end_reason is None:
            yield f"{name} never ended"
            continue
        fault = lease.end_reason in FAULTS
        yield from _measured(name, fault, lease.end_reason, records[key], runs[key])
        charge = charges.pop(key, None)
        if bool(records[key]) != (charge is not None):
            yield f"{name} ended by {lease.end_reason} with {len(records[key])} usage records, charge: {charge}"
        elif charge is not None:
            yield from _charged(name, fault, records[key], charge)
    for key in charges:
        yield f"a charge of {key}, which is no attempt"


def _prefix(name: str, records: list[sa.Row[Any]]) -> Iterator[str]:
    to_ms = 0
    for n, row in enumerate(records):
        if row.n != n or row.from_ms != to_ms or row.final != (n == len(records) - 1):
            yield f"{name}: usage record {row.n} [{row.from_ms}, {row.to_ms}) final {row.final} of {len(records)}"
        to_ms = row.to_ms


def _measured(name: str, fault: bool, reason: str, records: list[sa.Row[Any]], runs: list[Run]) -> Iterator[str]:
    if runs and not records:
        yield f"{name} ran for {max(run.wall_ms for run in runs)} ms, ended by {reason}, and was not measured"
    if not runs or not records:
        return
    seen_ms = (max(run.last_us for run in runs) - min(run.start_us for run in runs)) // 1000
    # Of a supervisor that was killed the last totals count; its attempt is disputed.
    if records[-1].wall_ms + CLOCK_MS < seen_ms and not fault:
        yield f"{name} ran for {seen_ms} ms and was measured with {records[-1].wall_ms} ms"


def _charged(name: str, fault: bool, records: list[sa.Row[Any]], charge: sa.Row[Any]) -> Iterator[str]:
    inputs = json.loads(charge.inputs)
    if bool(charge.disputed) != fault:
        yield f"{name}: disputed {bool(charge.disputed)}, by the site's doing {fault}"
    if fault and charge.compute_microcny + charge.energy_microcny:
        yield f"{name} is disputed and was charged"
    if not fault and inputs["wall_ms"] != records[-1].wall_ms:
        yield f"{name}: {records[-1].wall_ms} ms measured, {inputs['wall_ms']} ms charged"


# --- money and guards ---------------------------------------------------------------------------------------------


def _money(books: Books) -> Iterator[str]:
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for row in books.postings:
        sums[row.source, row.unit] -= row.amount
        sums[row.destination, row.unit] += row.amount
    balances = {(row.account, row.unit): row.amount for row in books.balances}
    for account in sorted(set(sums) | set(balances)):
        if sums.get(account, 0) != balances.get(account, 0):
            yield f"balance of {account}: {balances.get(account, 0)}, its postings: {sums.get(account, 0)}"
    if sum(balances.values()):
        yield f"the balances sum to {sum(balances.values())}"
    for row in books.holds:
        if row.left_amount:
            yield f"{row.left_amount} micro-CNY of order {row.order_id} are still held"
    total: dict[str, int] = defaultdict(int)
    for row in books.charges:
        total[row.order_id] += row.compute_microcny + row.energy_microcny + row.transfer_microcny + row.line_microcny
    for row in books.orders:
        if row.charged_microcny != total[row.id]:
            yield f"order {row.id} says {row.charged_microcny} micro-CNY, its charges {total[row.id]}"
        if row.charged_microcny > row.hold_microcny:
            yield f"order {row.id} was charged {row.charged_microcny} of a hold of {row.hold_microcny}"
    own = sum(amount for (account, _), amount in balances.items() if account.startswith(f"org:{CUSTOMER}:"))
    if own != DEPOSIT_CNY * 1_000_000 - sum(total.values()):
        yield f"the customer has {own} micro-CNY after charges of {sum(total.values())}"


def _guards(books: Books) -> Iterator[str]:
    for row in books.pools:
        if row.used_milli or row.used_memory:
            yield f"pool {row.id} still has {row.used_milli} milli and {row.used_memory} bytes in use"
    for row in books.organisations:
        if row.used_milli:
            yield f"organisation {row.id} still has {row.used_milli} milli in use"
    for row in books.work:
        if row.room == RETENTION:  # what it looks through again tomorrow
            continue
        yield f"work left: {row.room} {row.key}"


# --- sites --------------------------------------------------------------------------------------------------------


def _sites(network: FaultNetwork, books: Books) -> Iterator[str]:
    links = {row.site_id: row for row in books.links}
    heads = {row.site_id: row.seq for row in books.heads}
    for site in network.sites:
        spool = sqlite3.connect(f"file:{site.home}/spool.sqlite?mode=ro", uri=True)
        marks = dict(spool.execute("SELECT name, value FROM mark"))
        reports = spool.execute("SELECT count(*) FROM report").fetchone()[0]
        leases = spool.execute("SELECT lease_id, epoch, state FROM lease").fetchall()
        spool.close()
        if reports or leases:
            yield f"site {site.name} still holds {reports} reports and the leases {leases}"
        link = links[site.site_id]
        if link.report_seq != marks.get("report_seq"):
            yield f"site {site.name} made {marks.get('report_seq')} reports, the hub stored {link.report_seq}"
        if heads.get(site.site_id, 0) != marks.get("applied_seq", 0):
            yield f"site {site.name} applied {marks.get('applied_seq')} of {heads.get(site.site_id)} instructions"
        left = sorted(path.name for path in (site.home / "leases").iterdir())
        if left:
            yield f"site {site.name} keeps the folders {left}"


def _secrets(network: FaultNetwork, books: Books) -> Iterator[str]:
    """All orders are over: nothing is kept of their secrets, and no file of any part has ever had one."""
    for row in books.secrets:
        yield f"the hub keeps the secrets of {row.order_id}"
    for path in network.plan.folder.rglob("*"):
        try:
            found = path.is_file() and SECRET_MARK.encode() in path.read_bytes()
        except OSError:  # a database that lives removes files of its own
            continue
        if found:
            yield f"{path} has a secret"
    for site in network.sites:
        tag = hashlib.sha256(str(site.home).encode()).hexdigest()[:16]  # as the driver names its folders
        for folder in Path("/dev/shm").glob(f"yunhe-{tag}-*"):
            yield f"{folder} is left"


def logs(network: FaultNetwork) -> Iterator[str]:
    """What no bad luck explains."""
    for part in network.parts:
        text = part.log.read_text(errors="replace")
        for mark in ("Traceback (most recent call last)", " ERROR "):
            if mark in text:
                line = text[text.index(mark) :].splitlines()[0][:200]
                yield f"{part.log} has {text.count(mark)} times {line!r}"


def leftovers(folder: Path, network: FaultNetwork) -> Iterator[str]:
    """Processes and control groups that nobody needs any more; to be asked after everything was stopped."""
    mark = str(folder).encode()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            words = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if mark in words or b"YUNHE_LEASE=" in environment and mark in environment:
            yield f"process {process.name} is left: {words.replace(bytes(1), b' ').decode(errors='replace')[:200]}"
    for site in network.sites:
        tag = hashlib.sha256(str(site.home).encode()).hexdigest()[:6]  # as the driver names its groups
        for group in Path("/sys/fs/cgroup").glob(f"**/yunhe-{site.site_id}-{tag}/*/"):
            yield f"control group {group} is left"
