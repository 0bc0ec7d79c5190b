"""Nodes, accelerators and requests of a Ray cluster of several nodes, as Ray lists them."""

from typing import Any

import pytest

from tests.fakes.fake_hub import start_lease
from yunhe.core.errors import InvalidInput
from yunhe.site.drivers.contract import Job, SpawnFailed
from yunhe.site.drivers.ray.client import STAGES, Listing, RayJob
from yunhe.site.drivers.ray.plan import size_of
from yunhe.site.drivers.ray.supply import RayPool, altered, foreign, missing, parse_nodes, pools
from yunhe.site.settings import DriverSettings, RaySettings

GIB = 1 << 30


def node(name: str, state: str = "ALIVE", **resources: float) -> dict[str, Any]:
    named = {key.replace("__", ":"): value for key, value in resources.items()}
    return {"node_id": name, "state": state, "resources_total": {"memory": 64.0 * GIB, **named}}


CLUSTER = [
    node("a", CPU=64),
    node("b", CPU=32, GPU=4, accelerator_type__H20=1, lent=1),
    node("c", CPU=32, GPU=4, accelerator_type__A100=1, lent=1),
    node("d", CPU=32, GPU=4),  # Ray does not know of which type
    node("e", CPU=48, NPU=8, accelerator_type__Ascend910B=1),
    node("f", state="DEAD", CPU=64),
]


def found(ray: RaySettings | None = None, listed: list[dict[str, Any]] | None = None) -> dict[str, RayPool]:
    ray = ray or RaySettings()
    nodes = parse_nodes(CLUSTER if listed is None else listed, ray.lent)
    return {pool.report.name: pool for pool in pools(nodes, ray, DriverSettings())}


def job(**changes: Any) -> Job:
    return Job(start_lease("a", ("true",), **changes), 0)


def test_each_core_and_card_counts_once_and_dead_nodes_not_at_all() -> None:
    there = found()
    assert set(there) == {"cpu", "h20", "a100", "ascend910b"}  # no pool for cards that Ray cannot be asked for
    cores = there["cpu"].report
    assert cores.capacity_milli == (64 + 16 + 16 + 16 + 24) * 1000
    assert cores.max_slot_milli == 64_000
    assert sum(pool.report.memory_bytes for pool in there.values()) <= 5 * 64 * GIB


def test_a_chip_is_named_only_where_its_name_is_exact() -> None:
    there = found()
    assert there["h20"].report.chip == "h20"
    assert (there["a100"].report.chip, there["a100"].report.stack) == ("unknown", "unknown")  # 40 or 80 GB?
    assert there["ascend910b"].report.chip == "unknown"
    stated = found(RaySettings(chips=("A100=a100-sxm-80g", "Ascend910B=ascend-910b1")))
    assert (stated["a100"].report.chip, stated["ascend910b"].report.stack) == ("a100-sxm-80g", "cann")


def test_a_resource_that_the_site_names_is_cards() -> None:
    listed = [node("a", CPU=8, my_npu=2)]
    assert set(found(listed=listed)) == {"cpu"}
    there = found(RaySettings(chips=("my_npu=mlu590",)), listed)
    assert (there["my-npu"].report.chip, there["my-npu"].card, there["my-npu"].kind) == ("mlu590", "my_npu", "")


def test_only_lent_nodes_are_offered() -> None:
    there = found(RaySettings(lent="lent"))
    assert set(there) == {"cpu", "h20", "a100"}
    asked = size_of(job(pool="h20", slot_milli=500), there["h20"]).resources(there["h20"], "lent")
    assert asked == {"CPU": 2.0, "memory": 64 << 20, "GPU": 0.5, "accelerator_type:H20": 0.001, "lent": 0.001}


def test_two_kinds_that_read_the_same_are_said() -> None:
    listed = [node("a", CPU=8, GPU=1, accelerator_type__A_1=1), node("b", CPU=8, GPU=1, **{"accelerator_type__A-1": 1})]
    with pytest.raises(InvalidInput, match="read the same"):
        found(listed=listed)


def test_a_gang_that_no_node_can_hold_is_refused() -> None:
    there = found()
    assert size_of(job(slots=4, slot_milli=16_000), there["cpu"]).cores == 64
    with pytest.raises(SpawnFailed, match="one node"):
        size_of(job(slots=5, slot_milli=16_000), there["cpu"])
    with pytest.raises(SpawnFailed, match="one node"):
        size_of(
            job(pool="h20", slots=2, slot_milli=4_000), found(listed=[*CLUSTER, CLUSTER[1] | {"node_id": "g"}])["h20"]
        )


def test_what_others_hold_is_all_that_is_used_less_our_own() -> None:
    there = tuple(found().values())
    usage = {
        "a": {"CPU": 10.0, "memory": 4.0 * GIB},
        "b": {"CPU": 4.0, "GPU": 3.0},
        "e": {"NPU": 1.0},
        "x": {"CPU": 99.0},
    }
    ours = {"CPU": 6.0, "memory": 1.0 * GIB, "GPU": 1.0, "accelerator_type:H20": 0.001}
    running, just_ended = RayJob("RUNNING", "", 0, ours), RayJob("SUCCEEDED", "", 99_000, {"CPU": 2.0})
    long_ended = RayJob("SUCCEEDED", "", 1, {"CPU": 50.0})
    jobs = {("l", n): entry for n, entry in enumerate((running, just_ended, long_ended))}
    told = {d.name: d for d in foreign(there, usage, 100_000, Listing(0.0, jobs))}  # type: ignore[arg-type]
    assert (told["cpu"].foreign_milli, told["cpu"].foreign_memory_bytes) == (6_000, 3 * GIB)
    assert (told["h20"].foreign_milli, told["ascend910b"].foreign_milli, told["a100"].foreign_milli) == (
        2_000,
        1_000,
        0,
    )


def test_what_is_gone_is_nobodys_to_have() -> None:
    whole = [pool.report for pool in found().values()]
    left = tuple(found(listed=[CLUSTER[0], CLUSTER[1]]).values())
    told = {digest.name: digest.foreign_milli for digest in missing(whole, (), left)}
    assert told == {"cpu": 56_000, "h20": 0, "a100": 4_000, "ascend910b": 8_000}


def test_the_dashboard_alters_names() -> None:
    assert (altered("GPU"), altered("site_a"), altered("neuron_cores")) == ("GPU", "siteA", "neuronCores")


def test_every_state_of_ray_has_its_stage() -> None:
    ray = pytest.importorskip("ray.dashboard.modules.job.common", reason="ray[default] is not installed")
    assert set(STAGES) == {state.value for state in ray.JobStatus}


def test_what_is_no_node_is_said() -> None:
    with pytest.raises(InvalidInput):
        parse_nodes([{"node": 1}], None)
