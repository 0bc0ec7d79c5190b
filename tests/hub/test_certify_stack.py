"""A missing operator is caught before dispatch: an order goes only where what it needs was seen to run."""

import random

import pytest

from tests.fakes.agent import cpu_pool
from tests.hub.conftest import FakeClock
from tests.hub.world import SiteDouble, World
from yunhe.core.round import explain
from yunhe.hub.platform.context import Platform
from yunhe.wire.link import Certificate, Missing, PoolReport, StackReport

STACKS = ("cpu", "cuda", "cann", "rocm", "dtk", "musa")
OPERATORS = ("gemm", "conv2d", "softmax", "layernorm", "attention", "backward", "allreduce")
CASES = range(20)


@pytest.fixture
def world(platform: Platform, clock: FakeClock) -> World:
    made = World(platform, clock)
    made.organisation("lab")
    return made


def certify(site: SiteDouble, stack: str, lacking: frozenset[str]) -> None:
    ready = tuple(name for name in OPERATORS if name not in lacking)
    missing = tuple(Missing(operator=name, reason="ImportError: planted") for name in sorted(lacking))
    check = StackReport(versions={"torch": "2.5"}, operators=ready, missing=missing)
    changes: dict[str, object] = {"stack": stack, "stack_check": check}
    if stack != "cpu":
        changes |= {"kind_of_unit": "card", "name": "card"}
    site.poll(_certificate(cpu_pool().model_copy(update=changes)))


def _certificate(pool: PoolReport) -> Certificate:
    return Certificate(seq=0, tested_utc_ms=1, tier=2, isolation="", software="", pools=(pool,))


def order(world: World, stack: str, needs: list[str]) -> str:
    commands = {"command": ["true"]} if stack == "cpu" else {"stacks": {stack: ["true"]}}
    size: dict[str, object] = {"cores": 1} if stack == "cpu" else {"cards": 1}
    requirement = {**size, "memory": "64MiB", "operators": needs}
    return world.submit("lab", run=commands, requirement=requirement, budget="50CNY")


@pytest.mark.parametrize("seed", CASES)
def test_a_planted_missing_operator_is_caught_before_dispatch(world: World, seed: int) -> None:
    dice = random.Random(seed)
    stack, planted = STACKS[seed % len(STACKS)], dice.choice(OPERATORS)
    needs = sorted({planted, *dice.sample(OPERATORS, dice.randint(0, 3))})
    lame = world.site("lame")
    certify(lame, stack, frozenset({planted, *dice.sample(OPERATORS, dice.randint(0, 2))}))
    order_id = order(world, stack, needs)
    assert world.commit(world.plan(seed)) == 0
    view = world.view()
    shape = view.open_orders[order_id].shape
    (told,) = explain(shape, view.snapshot.supply, world.platform.settings.policy, world.clock.now_ms())
    (reason,) = told.reasons
    assert reason.code == "operators" and planted in reason.have and reason.lasting

    whole = world.site("whole")
    certify(whole, stack, frozenset())
    assert world.commit(world.plan(seed)) == 1
    lame.poll()
    whole.poll()
    assert not lame.held and len(whole.held) == 1


def test_a_pool_that_nobody_tried_is_not_ready(world: World) -> None:
    site = world.site("north")
    order(world, "cpu", ["gemm"])
    assert world.commit(world.plan()) == 0
    certify(site, "cpu", frozenset())
    assert world.commit(world.plan()) == 1
