"""What is made of Slurm's words: without a Slurm."""

import pytest

from yunhe.core.errors import InvalidInput
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey, Phase
from yunhe.site.drivers.nodes.folder import Evidence
from yunhe.site.drivers.nodes.verdict import Act, Rules, Stage
from yunhe.site.drivers.slurm.client import AccountLine, JobLine, parse_accounts, parse_listing
from yunhe.site.drivers.slurm.states import stage
from yunhe.site.drivers.slurm.supply import Held, Node, SlurmPool, foreign, parse_nodes, pools
from yunhe.site.drivers.slurm.verdict import Memory, explained, judge
from yunhe.site.settings import DriverSettings, SlurmSettings
from yunhe.site.supervisor.far import clock_offset_ms

KEY = LeaseKey("ord_1.0", 3)
RULES = Rules(engine="Slurm", pulse=15, vanished=5, start=300, lost=60, cancel_hard=12, tries=3)

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


def line(state: str) -> JobLine:
    return JobLine("ord_1.0.3", 7, "", state)


@pytest.mark.parametrize(("names", "expected"), STATES.items(), ids=[names[0] for names in STATES])
def test_every_state_of_slurm(names: tuple[str, str], expected: Stage) -> None:
    job = line(names[1])
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
    job = line("TELEPORTED")
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
    assert judge(WAITS, memory, [line("RUNNING")], 100.0, RULES).act is Act.NOTHING
    assert judge(WAITS, memory, [line("PENDING")], 390.0, RULES).act is Act.NOTHING  # requeued: anew
    assert judge(WAITS, memory, [line("RUNNING")], 399.0, RULES).act is Act.NOTHING
    assert judge(WAITS, memory, [line("RUNNING")], 699.0, RULES).act is Act.NOTHING
    given_up = judge(WAITS, memory, [line("RUNNING")], 700.0, RULES)
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
    assert judge(RUNS, memory, [], 1000.0, RULES) == judge(RUNS, memory, [line("COMPLETED")], 1000.0, RULES)
    assert judge(RUNS, memory, [], 1000.0, RULES).phase is Phase.STARTED
    assert judge(RUNS, memory, [], 1020.0, RULES).act is Act.NOTHING
    lost = judge(RUNS, memory, [], 1060.0, RULES)
    assert (lost.act, lost.reason) == (Act.LOSE, EndReason.SUPERVISOR_LOST)


def test_a_lost_job_that_was_cancelled_ended_for_that() -> None:
    stopped = Evidence(prepared=True, claimed=True, started=True, cancel="withdrawn", pulse=(1,))
    memory = Memory(pulse=(1,), missed_since=0.0)
    assert judge(stopped, memory, [line("CANCELLED")], 100.0, RULES).reason is EndReason.WITHDRAWN


def test_a_step_that_does_not_follow_a_cancel_is_stopped_by_slurm() -> None:
    memory = Memory(pulse=(1,), pulse_at=100.0, cancelled_since=90.0)
    assert judge(RUNS, memory, [line("RUNNING")], 101.0, RULES).act is Act.NOTHING
    assert judge(RUNS, memory, [line("RUNNING")], 103.0, RULES).act is Act.STOP


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_job_is_ours_by_name_and_mark() -> None:
    other = LeaseKey("ord_1.1", 1)
    members = {"one": (KEY,), "two": (KEY, other)}
    text = """\
12|1|RUNNING|mine|yunhe:two
12|0|PENDING|mine|yunhe:two
9|N/A|COMPLETED|mine|yunhe:one
13|0|RUNNING|another|yunhe:two
14|2|RUNNING|mine|yunhe:two
15|N/A|RUNNING|mine|yunhe:three
16|N/A|COMPLETED|mine|yunhe:four
17|N/A|RUNNING|(null)|a|b|c
"""
    found = parse_listing(text, "mine", lambda name: members.get(name, ()))
    assert found.jobs == {
        KEY: (JobLine("one", 9, "", "COMPLETED"), JobLine("two", 12, "0", "PENDING")),
        other: (JobLine("two", 12, "1", "RUNNING"),),
    }
    assert [job.id for job in found.of(KEY)] == ["9", "12_0"]
    assert found.strays == {"two", "three"}  # of what is over, nothing is left to do


# --- accounts -------------------------------------------------------------------------------------------------------


def test_accounts_are_read_by_name_and_element() -> None:
    other = LeaseKey("ord_1.1", 1)
    members = {"one": (KEY,), "two": (KEY, other)}
    text = """\
12_0|TIMEOUT|61|1790000000|48213|yunhe:two
12_1|CANCELLED by 1000|0|1790000000|0|yunhe:two
12_[2-5]|CANCELLED|0|Unknown|0|yunhe:two
9|NODE_FAIL|7|1790000000||yunhe:one
7|COMPLETED|1|1790000000|0|yunhe:gone
8||1|1790000000|0|yunhe:one
10
"""
    found = parse_accounts(text, lambda name: members.get(name, ()))
    assert [job.state for job in found[KEY]] == ["NODE_FAIL", "TIMEOUT"]
    assert [job.state for job in found[other]] == ["CANCELLED"]
    assert explained(found[KEY][-1]).reason is EndReason.TIME_LIMIT
    # What ran to its end by Slurm's word and left no record is no success.
    assert explained(AccountLine("one", 9, "", "COMPLETED")).reason is EndReason.SUPERVISOR_LOST


@pytest.mark.parametrize(
    ("said", "joules"),
    [("48213", 48_213), ("0", None), ("", None), ("18446744073709551614", None), ("1.2K", None), ("-5", None)],
)
def test_energy_is_what_was_measured_or_none(said: str, joules: int | None) -> None:
    """Without an acct_gather_energy plugin a real sacct says "0" or nothing at all."""
    [job] = parse_accounts(f"9|TIMEOUT|61|1790000000|{said}|yunhe:one", lambda _: (KEY,))[KEY]
    assert (job.ran_s, job.energy_joules) == (61, joules)
    assert ("J of energy" in explained(job).detail) == (joules is not None)


@pytest.mark.parametrize(
    ("line", "started_s", "ran_ms"),
    [
        ("61|1790000061", 1790000000, 60_000),  # a second that was begun is not counted
        ("61|1790000061", 1790000040, 21_000),  # what a prolog took is not the job's time
        ("61|1790000061", 1789000000, 60_000),  # a node's clock that is slow
        ("61|1790000061", 1790009999, 0),  # or fast
        ("0|1790000061", 1790000000, 0),
        ("61|Unknown", 1790000000, 0),
        ("|", 1790000000, 0),
    ],
)
def test_the_time_of_the_accounts_is_never_more_than_what_ran(line: str, started_s: int, ran_ms: int) -> None:
    [job] = parse_accounts(f"9|TIMEOUT|{line}|0|yunhe:one", lambda _: (KEY,))[KEY]
    assert job.ran_ms(started_s * 1000) == ran_ms


def test_only_what_nothing_explains_is_looked_up() -> None:
    silent = Memory(pulse=(1,), missed_since=0.0)
    assert judge(RUNS, silent, [], 100.0, RULES).unexplained
    assert not judge(RUNS, silent, [line("TIMEOUT")], 100.0, RULES).unexplained


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


def supply(text: str, **settings: object) -> dict[str, SlurmPool]:
    found = pools(parse_nodes(text), SlurmSettings.model_validate(settings), DriverSettings())
    return {pool.report.name: pool for pool in found}


def abroad(text: str, **ours: Held) -> dict[str, tuple[int, int]]:
    """Pool -> (cores or cards, MiB) that others hold."""
    found = foreign(tuple(supply(text).values()), parse_nodes(text), ours, SlurmSettings())
    return {pool.name: (pool.foreign_milli // 1000, pool.foreign_memory_bytes >> 20) for pool in found}


PARTITIONS = (("closed", "drain"), ("open", "up"))
MIXED = """\
batch*|c1|64|0/64/0/64|256000|0|up|idle|(null)|(null)|epyc-9654|
batch*|c2|64|16/48/0/64|256000|64000|up|mixed|(null)|(null)|epyc-9654|
long|c1|64|0/64/0/64|256000|0|up|idle|(null)|(null)|epyc-9654|
long|g1|32|0/32/0/32|128000|0|up|idle|gpu:a100:4(S:0-1)|gpu:a100:0(IDX:N/A)|(null)|
GPU_Nodes_2|g2|32|0/0/32/32|128000|0|up|down*|gpu:h20:8,mps:100|gpu:h20:0(IDX:N/A)|(null)|
"""


def test_a_node_of_two_partitions_counts_once() -> None:
    found = {name: pool.report.capacity_milli for name, pool in supply(MIXED).items()}
    assert found == {
        "batch": 128_000,
        "long": 16_000,
        "long-a100": 4_000,
        "gpu-nodes-2": 16_000,
        "gpu-nodes-2-h20": 8_000,
    }
    first = supply(MIXED, partitions=("long", "batch"))
    assert list(first) == ["long", "long-a100", "batch"]
    batch = supply(MIXED)["batch"].report
    assert batch.chip == "epyc-9654"
    assert {rate.precision for rate in batch.rates} >= {"fp64", "fp32"}


def test_what_others_hold_and_what_is_away_cannot_be_had() -> None:
    assert abroad(MIXED) == {
        "batch": (16, 64_000),
        "long": (0, 0),
        "long-a100": (0, 0),
        "gpu-nodes-2": (16, 64_000),
        "gpu-nodes-2-h20": (8, 64_000),
    }
    # Of the 16 cores that are taken 12 are our own, and one of them is only rounded up.
    assert abroad(MIXED, batch=Held(11_500, 30_000 << 20))["batch"] == (4, 34_000)


def test_a_closed_partition_is_held_and_its_nodes_elsewhere_are_not() -> None:
    text = "".join(f"{name}|c1|4|0/4/0/4|1000|0|{opened}|idle|(null)|(null)|(null)|\n" for name, opened in PARTITIONS)
    assert abroad(text) == {"closed": (4, 1000)}
    other = foreign(tuple(supply(text, partitions=("open",)).values()), parse_nodes(text), {}, SlurmSettings())
    assert [pool.foreign_milli for pool in other] == [0]


def test_cards_cores_and_memory_of_a_node_hang_together() -> None:
    node = "gpu*|g1|32|{}/{}/0/32|128000|{}|up|mixed|gpu:a100:4(S:0-1)|gpu:a100:{}(IDX:0,2)|(null)|\n"
    assert abroad(node.format(8, 24, 32_000, 2)) == {"gpu": (0, 0), "gpu-a100": (2, 32_000)}
    # All cards are free, and only two of them can be used: their cores are taken.
    assert abroad(node.format(24, 8, 0, 0)) == {"gpu": (16, 0), "gpu-a100": (2, 32_000)}
    # A job that took all the memory took the node.
    assert abroad(node.format(1, 31, 128_000, 0)) == {"gpu": (16, 64_000), "gpu-a100": (4, 64_000)}


def test_a_chip_is_named_exactly_or_not_at_all() -> None:
    unknown = supply(MIXED)["long-a100"].report
    assert (unknown.chip, unknown.stack) == ("unknown", "unknown")
    known = supply(MIXED, chips=("a100=a100-sxm-80g",))["long-a100"].report
    assert (known.chip, known.stack, known.watts_per_unit) == ("a100-sxm-80g", "cuda", 400)


def test_names_of_pools_are_short_plain_and_apart() -> None:
    long = "".join(f"{'very_' * 6}{i}|n{i}|4|0/4/0/4|1000|0|up|idle|(null)|(null)|(null)|\n" for i in range(3))
    names = list(supply(long))
    assert len(set(names)) == 3 and all(len(name) <= 24 for name in names)
    assert "gpu-nodes-2-h20" in supply(MIXED)


def test_what_sinfo_says_otherwise_is_refused() -> None:
    with pytest.raises(InvalidInput, match="sinfo said"):
        parse_nodes("batch*|c1|many|0/4/0/4|x|0|up|idle|(null)|(null)|(null)|")
    with pytest.raises(InvalidInput, match="no partition 'night'"):
        supply(MIXED, partitions=("night",))


@pytest.mark.parametrize("state", ["down", "down*", "idle*", "drained", "draining", "maint", "reboot^", "powered_down"])
def test_a_node_that_takes_no_jobs_is_held_by_others(state: str) -> None:
    text = f"p|n|4|0/4/0/4|1000|0|up|{state}|(null)|(null)|(null)|"
    [node] = parse_nodes(text)
    assert isinstance(node, Node) and not node.up
    assert abroad(text) == {"p": (4, 1000)}
