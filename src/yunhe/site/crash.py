"""Where the agent can be told to die, for the fault tests; see `yunhe.apps.crash_points`."""

from collections.abc import Callable

CrashPoint = Callable[[str], None]


def no_crash(_name: str) -> None:
    """The crash point of a healthy agent."""
