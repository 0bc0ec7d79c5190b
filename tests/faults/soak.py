"""A fault run by hand: `python -m tests.faults.soak [--orders N] [--seed S] [--minutes M] [--postgresql]`.

Prints seeds and summaries. Status 1 when anything was lost, doubled or left; the data folder is kept then.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.plan import FaultPlan
from tests.faults.postgresql import programs
from tests.faults.run import fault_run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--orders", type=int, default=500, help="per run")
    parser.add_argument("--seed", type=int, help="of the first run; drawn when not given")
    parser.add_argument("--minutes", type=float, default=0.0, help="run after run, until so long has passed")
    parser.add_argument("--postgresql", action="store_true", help="two hub replicas, and the database is killed too")
    parser.add_argument("--cut", type=float, default=60.0, help="longest cut of a link, seconds")
    parser.add_argument("--pace", type=float, default=6.0, help="orders per second")
    parser.add_argument("--keep", action="store_true", help="keep the data folder of good runs too")
    args = parser.parse_args()
    if args.postgresql and programs() is None:
        print("PostgreSQL is not installed; see tools/with-postgresql.sh", file=sys.stderr)
        return 2
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1_000_000)
    until = time.monotonic() + args.minutes * 60
    bad = False
    while True:
        folder = Path(tempfile.mkdtemp(prefix="yunhe-soak-", dir="/var/tmp"))
        print(f"seed {seed}, {args.orders} orders, data in {folder}", flush=True)
        plan = FaultPlan(
            seed, args.orders, folder, postgresql=args.postgresql, cut_max_s=args.cut, orders_per_s=args.pace
        )
        summary = fault_run(plan)
        print(summary.text(), flush=True)
        if summary.violations or args.keep:
            bad = bad or bool(summary.violations)
            print(f"  kept: {folder}", flush=True)
        else:
            shutil.rmtree(folder)
        seed += 1
        if time.monotonic() >= until:
            return int(bad)


if __name__ == "__main__":
    sys.exit(main())
