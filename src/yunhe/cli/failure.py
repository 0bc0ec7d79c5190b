"""Exit codes, and how an error is told. The table is in docs/cli.md."""

import os
import sys

from yunhe.core import errors

OK = 0
FAILED = 1  # the order, or the work that a command waited for, did not succeed
USAGE = 2  # bad options, bad input
REFUSED = 3  # understood and not done: budget, funds, quota, a state that does not allow it
NOT_YOURS = 4  # no such thing, no key, or a key that may not
UNAVAILABLE = 5  # no hub answers, or it cannot do so now
TIMED_OUT = 124  # --timeout passed, the order goes on (as timeout(1) has it)
INTERRUPTED = 130  # Ctrl-C

_CODES: tuple[tuple[type[errors.YunheError], int], ...] = (
    (errors.InvalidInput, USAGE),
    (errors.Refused, REFUSED),
    (errors.NotFound, NOT_YOURS),
    (errors.Forbidden, NOT_YOURS),
    (errors.Unauthenticated, NOT_YOURS),
    (errors.Unavailable, UNAVAILABLE),
)


def exit_code(error: errors.YunheError) -> int:
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def complain(message: str, field: str | None = None, hint: str = "") -> None:
    """Tell an error on stderr: `error: field: message`, and the way out below it."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    where = f"{field}: " if field else ""
    print(f"{_painted('error:', '1;31', colour)} {where}{message}", file=sys.stderr)
    if hint:
        print(f"{_painted('hint:', '36', colour)} {hint}", file=sys.stderr)


def remark(message: str) -> None:
    """A line for people, beside the result: on stderr, so that stdout stays clean."""
    print(message, file=sys.stderr)


def _painted(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text
