"""The first lines of a step: `python -I -S start.py BATCH_DIR NEWS_DIR`. All else is a module, and comes compiled."""

import sys

if __name__ == "__main__":
    sys.path.append(__file__.removesuffix("/yunhe/site/drivers/slurm/start.py"))
    from yunhe.site.drivers.slurm.step import main

    sys.exit(main())
