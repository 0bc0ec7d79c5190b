"""For all tests."""

import os
import signal

# Two cores: threads of a matrix product would only wait for those of the hubs and agents that run beside it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_configure() -> None:
    # A run in the background of a shell ignores Ctrl-C, and so would every process that a test starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
