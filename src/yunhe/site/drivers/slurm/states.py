"""What each state of a Slurm job means here (`man squeue`, JOB STATE CODES; 20.11 to 24.05).

A state says where the job stands in Slurm. How it ended says the record that its step wrote, never the state alone:
COMPLETED without a record is a job whose end nobody saw.
"""

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.nodes.verdict import Stage

WAITING = (
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
    "POWER_UP_NODE",
)
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING", "UPDATE_DB")
# Over, and the reason for a job that had started and left no record.
OVER = {
    "COMPLETED": EndReason.SUPERVISOR_LOST,
    "FAILED": EndReason.SUPERVISOR_LOST,
    "CANCELLED": EndReason.SUPERVISOR_LOST,
    "NODE_FAIL": EndReason.SUPERVISOR_LOST,
    "PREEMPTED": EndReason.PREEMPTED,
    "BOOT_FAIL": EndReason.SUPERVISOR_LOST,
    "LAUNCH_FAILED": EndReason.SUPERVISOR_LOST,
    "RECONFIG_FAIL": EndReason.SUPERVISOR_LOST,
    "REVOKED": EndReason.SUPERVISOR_LOST,
    "DEADLINE": EndReason.TIME_LIMIT,
    "TIMEOUT": EndReason.TIME_LIMIT,
    "OUT_OF_MEMORY": EndReason.MEMORY_LIMIT,
}
STAGES = {
    **dict.fromkeys(WAITING, Stage.WAITING),
    **dict.fromkeys(RUNNING, Stage.RUNNING),
    **dict.fromkeys(OVER, Stage.OVER),
}


def stage(state: str) -> Stage:
    return STAGES.get(state, Stage.UNCLEAR)
