"""Whose turn it is: open orders in the sequence in which a round looks at them."""

from operator import gt

import numpy as np
import numpy.typing as npt

from yunhe.core.placement.columns import Bools, Floats, Ints
from yunhe.core.placement.values import AccountShare, Queue

# An array order takes its turns in parts, so that it cannot pass everybody in one turn. Few enough parts to sort.
MAX_PARTS = 4096

Rows = npt.NDArray[np.int64]


def by_arrival(queue: Queue, rows: Rows) -> Rows:
    """`rows` in the order of (submitted_ms, id). Cheapest where they already come so, as they do from a hub."""
    ids = queue.ids
    found = rows[np.argsort(queue.submitted_ms[rows], kind="stable")]
    times = queue.submitted_ms[found]
    tied = np.flatnonzero(times[1:] == times[:-1])
    first, second = map(ids.__getitem__, found[tied].tolist()), map(ids.__getitem__, found[tied + 1].tolist())
    if any(map(gt, first, second)):
        place = np.union1d(tied, tied + 1)
        by_id = np.array(sorted(found[place].tolist(), key=ids.__getitem__), dtype=np.int64)
        found[place] = by_id[np.argsort(queue.submitted_ms[by_id], kind="stable")]
    return found


def split(rows: Rows, tasks: Ints) -> tuple[Rows, Ints]:
    """Rows repeated once per turn, and the tasks of each turn; single orders pass as they are."""
    total = int(tasks.sum())
    if total == len(rows):
        return rows, tasks
    part = max(1, total // MAX_PARTS)
    turns = -(-tasks // part)
    repeated = np.repeat(np.arange(len(rows)), turns)
    sizes = np.full(len(repeated), part, dtype=np.int64)
    last = np.cumsum(turns) - 1
    sizes[last] = tasks - (turns - 1) * part
    return rows[repeated], sizes


def fair(account: Ints, milli: Ints, used: Floats, weight: Floats) -> Ints:
    """Positions of turns (given by arrival) in weighted fair order.

    Serving again and again the account with the lowest (used + served) / weight gives each turn the place of the
    share that its account has when the turn comes: used, plus what its earlier turns take, over the weight.  So one
    sort over all turns is the same sequence.  Equal shares go by arrival.
    """
    # 16-bit keys are sorted by radix, several times as fast.
    by_account = np.argsort(account.astype(np.int16) if len(weight) < 2**15 else account, kind="stable")
    grouped, taken = account[by_account], milli[by_account].astype(np.float64)
    before = np.cumsum(taken) - taken
    first = np.flatnonzero(np.concatenate(([True], grouped[1:] != grouped[:-1])))
    start = np.repeat(before[first], np.diff(np.append(first, len(grouped))))
    share = np.empty(len(account), dtype=np.float64)
    share[by_account] = (used[grouped] + before - start) / weight[grouped]
    return np.argsort(share, kind="stable")


def weights(accounts: tuple[AccountShare, ...]) -> Floats:
    return np.array([max(account.weight, 1) for account in accounts], dtype=np.float64)


def not_over_share(used: Floats, weight: Floats, waiting: Bools, limit_percent: int) -> Bools:
    """Accounts whose use per weight is at most `limit_percent` of the average over the accounts that wait."""
    average = float(used[waiting].sum() / weight[waiting].sum())
    within: Bools = used / weight <= average * limit_percent / 100
    return within
