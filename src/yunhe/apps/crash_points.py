"""Places where a process can be told to die, for the fault tests: `YUNHE_CRASH_POINTS=name=probability,...`.

Unset, as it always is outside those tests, a point costs one function call.
"""

import os
import random
import signal
from collections.abc import Callable

VARIABLE = "YUNHE_CRASH_POINTS"


def from_environment() -> Callable[[str], None]:
    """Kills this process with SIGKILL at a named point, with the stated probability; `*` names all others."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return lambda _name: None
    odds = {name: float(value) for name, _, value in (item.partition("=") for item in text.split(","))}
    # Seeded by the process: the same schedule of kills would come again after every restart otherwise.
    dice = random.Random(os.getpid())

    def point(name: str) -> None:
        if dice.random() < odds.get(name, odds.get("*", 0.0)):
            os.kill(os.getpid(), signal.SIGKILL)

    return point
