"""A network that does not begin empty, and figures that begin after a while."""

from pathlib import Path

import orjson
import pytest

from tests.simulator.scenes import finished, scenario
from yunhe.core.errors import InvalidInput
from yunhe.simulator.run import Run
from yunhe.simulator.scenario import changed
from yunhe.simulator.what_if import Edit
from yunhe.simulator.workloads.fitted import generate, shipped


def test_what_would_still_run_is_there_at_the_start_with_the_rest_of_its_run() -> None:
    fit = shipped("venus")
    plain, warm = generate(fit, 2_000, 5, 0), generate(fit, 2_000, 5, 0, 48)
    rest = []
    for job in warm:
        if job.at_ms > 0:
            # From the start on the same jobs come as without.
            assert job == next(plain)
            break
        rest.append(job)
    # As many as came in a mean run's time; what is left is at most the longest run.
    assert 50 < len(rest) < 1_000
    assert all(0 < job.run_ms <= 172_800_000 for job in rest)


def test_figures_begin_after_the_warm_up() -> None:
    cold = orjson.loads(finished(Run.fresh(scenario(), Path())))
    found = scenario(("length: 6h", "length: 6h\nwarm_up: 2h"), ("jobs_per_day: 800", "jobs_per_day: 800, before: 48h"))
    warm = orjson.loads(finished(Run.fresh(found, Path())))
    assert warm["measured_from_ms"] == found.start + 2 * 3_600_000
    assert len(warm["hours"]["utilisation"]) == 4 and len(cold["hours"]["utilisation"]) == 6
    assert warm["utilisation"] == pytest.approx(sum(warm["hours"]["utilisation"]) / 4, rel=1e-6)
    assert warm["hours"]["utilisation"][0] > cold["hours"]["utilisation"][0]
    assert warm["money"]["sum_microcny"] == 0


def test_work_of_two_halves_is_that_of_the_whole() -> None:
    def work(found: dict[str, dict[str, str]]) -> int:
        return sum(int(flop) for kind in ("useful_flop", "under_way_flop") for flop in found[kind].values())

    whole = orjson.loads(finished(Run.fresh(scenario(), Path())))
    first = orjson.loads(finished(Run.fresh(scenario(("length: 6h", "length: 3h")), Path())))
    second = orjson.loads(finished(Run.fresh(scenario(("length: 6h", "length: 6h\nwarm_up: 3h")), Path())))
    assert work(first) + work(second) == pytest.approx(work(whole), rel=1e-9)


def test_a_warm_up_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        scenario(("length: 6h", "length: 6h\nwarm_up: 6h"))
    assert refused.value.field == "warm_up"
    with pytest.raises(InvalidInput):
        changed(scenario(), (Edit.model_validate({"set": {"warm_up": "7h"}}),))
