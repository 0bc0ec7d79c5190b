"""What is made of Slurm's words: without a Slurm."""

import pytest

from yunhe.core.errors import InvalidInput
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey, Phase
from yunhe.site.drivers.slurm.client import JobLine, key_of, name_of, parse_listing
from yunhe.site.drivers.slurm.folder import Evidence
from yunhe.site.drivers.slurm.states import Stage, stage
from yunhe.site.drivers.slurm.step import clock_offset_ms
from yunhe.site.drivers.slurm.supply import Node, offered, parse_nodes, pools
from yunhe.site.drivers.slurm.verdict import Act, Memory, Rules, judge
from yunhe.site.settings import DriverSettings, SlurmSettings

KEY = LeaseKey("ord_1.0", 3)
RULES = Rules(pulse=15, vanished=5, start=300, lost=60, end_word=20, cancel_hard=12, tries=3)

# Every state of `man squeue` of 22.05: compact and full name, and where such a job stands.
STATES = {
    ("BF", "BOOT_FAIL"): Stage.OVER,
    ("CA", "CANCELLED"): Stage.OVER,
    ("CD", "COMPLETED"): Stage.OVER,
    ("CF", "CONFIGURING"): Stage.WAITING,
    ("CG", "COMPLETING"): Stage.RUNNING,
    ("DL", "DEADLINE"): Stage.OVER,
    ("F", "FAILED"): Stage.OVER,
    ("NF", "NODE_FAIL"): Stage.OVER,
    ("OOM", "OUT_OF_MEMORY"): Stage.OVER,
    ("PD", "PENDING"): Stage.WAITING,
    ("PR", "PREEMPTED"): Stage.OVER,
    ("R", "RUNNING"): Stage.RUNNING,
    ("RD", "RESV_DEL_HOLD"): Stage.WAITING,
    ("RF", "REQUEUE_FED"): Stage.WAITING,
    ("RH", "REQUEUE_HOLD"): Stage.WAITING,
    ("RQ", "REQUEUED"): Stage.WAITING,
    ("RS", "RESIZING"): Stage.RUNNING,
    ("RV", "REVOKED"): Stage.OVER,
    ("S", "SUSPENDED"): Stage.RUNNING,
    ("SE", "SPECIAL_EXIT"): Stage.WAITING,
    ("SI", "SIGNALING"): Stage.RUNNING,
    ("SO", "STAGE_OUT"): Stage.RUNNING,
    ("ST", "STOPPED"): Stage.RUNNING,
    ("TO", "TIMEOUT"): Stage.OVER,
}
WAITS = Evidence(prepared=True)
RUNS = Evidence(prepared=True, claimed=True, started=True, pulse=(1,))


@pytest.mark.parametrize(("names", "expected"), STATES.items(), ids=[names[0] for names in STATES])
def test_every_state_of_slurm(names: tuple[str, str], expected: Stage) -> None:
    job = JobLine(7, names[1])
    assert job.stage is expected
    unclaimed = judge(WAITS, Memory(), [job], 100.0, RULES)
    silent = judge(RUNS, Memory(pulse=(1,), missed_since=10.0), [job], 100.0, RULES)
    if expected is Stage.OVER:
        # No record of an end: it never counts as one that went well.
        assert (unclaimed.act, unclaimed.reason) == (Act.SEAL, EndReason.SPAWN_FAILED)
        assert silent.act is Act.LOSE and silent.reason is not EndReason.EXITED
        assert names[1] in silent.detail and names[1] in unclaimed.detail
    else:
        assert (unclaimed.phase, unclaimed.act) == (Phase.ACCEPTED, Act.NOTHING)
        assert silent.phase is (Phase.STARTED if expected is Stage.RUNNING else Phase.UNKNOWN)


def test_a_state_that_nobody_knows_is_unknown() -> None:
    job = JobLine(7, "TELEPORTED")
    assert stage(job.state) is Stage.UNCLEAR
    assert judge(WAITS, Memory(), [job], 100.0, RULES).phase is Phase.UNKNOWN
    assert judge(WAITS, Memory(), [job], 100.0, RULES).act is Act.NOTHING


def test_a_slurm_that_cannot_be_asked_proves_nothing() -> None:
    waits = judge(WAITS, Memory(missed_since=0.0), None, 1e6, RULES)
    silent = judge(RUNS, Memory(pulse=(1,), missed_since=0.0), None, 1e6, RULES)
    alive = judge(RUNS, Memory(pulse=(1,), pulse_at=1e6 - 1), None, 1e6, RULES)
    assert (waits.phase, waits.act) == (silent.phase, silent.act) == (Phase.UNKNOWN, Act.NOTHING)
    assert alive.phase is Phase.STARTED


def test_a_job_that_runs_in_slurm_alone_is_given_up() -> None:
    memory = Memory()
    assert judge(WAITS, memory, [JobLine(1, "RUNNING")], 100.0, RULES).act is Act.NOTHING
    assert judge(WAITS, memory, [JobLine(1, "PENDING")], 390.0, RULES).act is Act.NOTHING  # requeued: anew
    assert judge(WAITS, memory, [JobLine(1, "RUNNING")], 399.0, RULES).act is Act.NOTHING
    assert judge(WAITS, memory, [JobLine(1, "RUNNING")], 699.0, RULES).act is Act.NOTHING
    given_up = judge(WAITS, memory, [JobLine(1, "RUNNING")], 700.0, RULES)
    assert (given_up.act, given_up.reason) == (Act.SEAL, EndReason.SPAWN_FAILED)


def test_a_job_that_slurm_lost_is_looked_for_then_submitted_again_then_given_up() -> None:
    memory = Memory(tries=1)
    assert judge(WAITS, memory, [], 100.0, RULES).act is Act.NOTHING
    assert judge(WAITS, memory, None, 200.0, RULES).act is Act.NOTHING  # the time begins anew
    assert judge(WAITS, memory, [], 201.0, RULES).act is Act.NOTHING
    assert judge(WAITS, memory, [], 207.0, RULES).act is Act.PLACE
    memory.tries = 3
    assert judge(WAITS, memory, [], 207.0, RULES).act is Act.SEAL


def test_signs_of_life_count_more_than_slurms_list() -> None:
    memory = Memory(missed_since=0.0)
    memory.see(RUNS, 995.0)
    assert judge(RUNS, memory, [], 1000.0, RULES) == judge(RUNS, memory, [JobLine(1, "COMPLETED")], 1000.0, RULES)
    assert judge(RUNS, memory, [], 1000.0, RULES).phase is Phase.STARTED
    assert judge(RUNS, memory, [], 1020.0, RULES).act is Act.NOTHING
    lost = judge(RUNS, memory, [], 1060.0, RULES)
    assert (lost.act, lost.reason) == (Act.LOSE, EndReason.SUPERVISOR_LOST)


def test_a_lost_job_that_was_cancelled_ended_for_that() -> None:
    stopped = Evidence(prepared=True, claimed=True, started=True, cancel="withdrawn", pulse=(1,))
    memory = Memory(pulse=(1,), missed_since=0.0)
    assert judge(stopped, memory, [JobLine(1, "CANCELLED")], 100.0, RULES).reason is EndReason.WITHDRAWN


def test_a_step_that_does_not_follow_a_cancel_is_stopped_by_slurm() -> None:
    memory = Memory(pulse=(1,), pulse_at=100.0, cancelled_since=90.0)
    assert judge(RUNS, memory, [JobLine(1, "RUNNING")], 101.0, RULES).act is Act.NOTHING
    assert judge(RUNS, memory, [JobLine(1, "RUNNING")], 103.0, RULES).act is Act.STOP


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_job_is_ours_by_name_and_mark() -> None:
    assert key_of(name_of(KEY)) == KEY
    text = "\n".join(
        [
            f"12|RUNNING|mine|{name_of(KEY)}",
            f"9|COMPLETED|mine|{name_of(KEY)}",
            f"13|RUNNING|another|{name_of(KEY)}",
            "14|RUNNING|mine|yunhe:no-epoch",
            "15|RUNNING|(null)|a|b|c",
            "",
        ]
    )
    assert parse_listing(text, "mine") == {KEY: (JobLine(9, "COMPLETED"), JobLine(12, "RUNNING"))}


# --- clocks of two hosts --------------------------------------------------------------------------------------------


def test_clocks_of_different_hosts_are_told_apart_by_the_disk() -> None:
    assert clock_offset_ms("boot-a 5000 0", 300, "boot-a", 9_000_000) == 0
    # Their clock was 5,000 and 300 ms have passed since: it is 5,300 now, and ours is 9,000,000.
    assert clock_offset_ms("boot-a 5000 0", 300, "boot-b", 9_000_000) == 9_000_000 - 5_300
    # A disk whose clock went back: as if no time had passed.
    assert clock_offset_ms("boot-a 5000 0", -50, "boot-b", 1_000) == 1_000 - 5_000
    with pytest.raises(ValueError, match="unpack"):
        clock_offset_ms("", 0, "boot-b", 1_000)


# --- supply ---------------------------------------------------------------------------------------------------------


def supply(text: str, **settings: object) -> dict[str, object]:
    found = pools(parse_nodes(text), SlurmSettings.model_validate(settings), DriverSettings())
    return {pool.report.name: pool for pool in found}


MIXED = """\
batch*|c1|64|256000|idle|(null)|epyc-9654
batch*|c2|64|256000|mixed|(null)|epyc-9654
long|c1|64|256000|idle|(null)|epyc-9654
long|g1|32|128000|idle|gpu:a100:4(S:0-1)|(null)
GPU_Nodes_2|g2|32|128000|down*|gpu:h20:8,mps:100|(null)
"""


def test_a_node_of_two_partitions_counts_once() -> None:
    reports = {pool.name: pool for pool in offered(parse_nodes(MIXED), SlurmSettings(), DriverSettings())}
    assert {name: report.capacity_milli for name, report in reports.items()} == {
        "batch": 128_000,
        "long": 16_000,
        "long-a100": 4_000,
    }
    first = supply(MIXED, partitions=("long", "batch"))
    assert list(first) == ["long", "long-a100", "batch"]
    assert reports["batch"].chip == "epyc-9654"
    assert {rate.precision for rate in reports["batch"].rates} >= {"fp64", "fp32"}


def test_a_chip_is_named_exactly_or_not_at_all() -> None:
    unknown = {pool.name: pool for pool in offered(parse_nodes(MIXED), SlurmSettings(), DriverSettings())}["long-a100"]
    assert (unknown.chip, unknown.stack) == ("unknown", "unknown")
    stated = SlurmSettings(chips=("a100=a100-sxm-80g",))
    known = {pool.name: pool for pool in offered(parse_nodes(MIXED), stated, DriverSettings())}["long-a100"]
    assert (known.chip, known.stack, known.watts_per_unit) == ("a100-sxm-80g", "cuda", 400)


def test_names_of_pools_are_short_plain_and_apart() -> None:
    long = "".join(f"{'very_' * 6}{i}|n{i}|4|1000|idle|(null)|(null)\n" for i in range(3))
    names = list(supply(long))
    assert len(set(names)) == 3 and all(len(name) <= 24 for name in names)
    assert "gpu-nodes-2-h20" in supply(MIXED)


def test_what_sinfo_says_otherwise_is_refused() -> None:
    with pytest.raises(InvalidInput, match="sinfo said"):
        parse_nodes("batch*|c1|many|x|idle|(null)|(null)")
    with pytest.raises(InvalidInput, match="no partition 'night'"):
        supply(MIXED, partitions=("night",))


@pytest.mark.parametrize("state", ["down", "down*", "idle*", "drained", "draining", "maint", "reboot^", "powered_down"])
def test_a_node_that_takes_no_jobs_is_not_offered(state: str) -> None:
    [node] = parse_nodes(f"p|n|4|1000|{state}|(null)|(null)")
    assert isinstance(node, Node) and not node.up
