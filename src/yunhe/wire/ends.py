"""How an attempt ended, in words: the hub and the command line say the same."""

from yunhe.core.lifecycle import EndReason

_ENDS: dict[str, str] = {
    EndReason.MEMORY_LIMIT: "killed at its memory limit",
    EndReason.TIME_LIMIT: "stopped at its time limit",
    EndReason.CANCELLED: "cancelled",
    EndReason.WITHDRAWN: "withdrawn before it was placed",
    EndReason.DEADLINE_MISSED: "no place was free before its deadline",
    EndReason.SPAWN_FAILED: "the site could not start it",
    EndReason.DISK_FULL: "the site's disk was full",
    EndReason.DATA_IN_FAILED: "an input could not be had",
    EndReason.DATA_UNREACHABLE: "the site could not reach an input",
    EndReason.SITE_REFUSED: "the site refused it",
    EndReason.DISCONNECTED: "stopped by a site that had lost its hub",
    EndReason.SUPERVISOR_LOST: "lost with its host",
    EndReason.LOST: "lost with its site",
    EndReason.PREEMPTED: "given back to the site's own users",
}


def end_words(reason: str, exit_code: int | None, detail: str = "") -> str:
    """A newer hub may know reasons that this version does not."""
    words = f"exit code {exit_code}" if reason == EndReason.EXITED else _ENDS.get(reason, reason)
    return f"{words}: {detail}" if detail else words
