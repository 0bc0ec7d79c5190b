"""One hub process: `python -m tests.replicas.hub_process SETTINGS_JSON [SECONDS]`; SECONDS: how wrong its clock is."""

import sys
import time

if len(sys.argv) > 2 and __name__ == "__main__":
    # Before anything of the hub is imported: this is what a machine with a wrong clock looks like.
    ahead_s = int(sys.argv[2])
    right_ns, right_s = time.time_ns, time.time
    time.time_ns = lambda: right_ns() + ahead_s * 1_000_000_000
    time.time = lambda: right_s() + ahead_s

from yunhe.apps.hub import serve
from yunhe.hub.platform.settings import HubSettings

if __name__ == "__main__":
    serve(HubSettings.model_validate_json(sys.argv[1]))
