"""The scenario language: what is wrong is refused with its field and line, and what-if edits do what they say."""

import pytest

from tests.simulator.scenes import TEXT, scenario
from yunhe.core.errors import InvalidInput, YunheError
from yunhe.simulator.build import build
from yunhe.simulator.scenario import changed, load, load_edits, located

WRONG = [
    ("length: 6h", "length: 6", "length: needs a unit", 4),
    ("length: 6h", "length: 6 parsecs", "length: unknown unit", 4),
    ("operator_fee: 5%", "operator_fee: 0.05", "rules.operator_fee: needs a unit", 5),
    ("operator_fee: 5%", "operator_fees: 5%", "rules.operator_fees: unknown field", 5),
    ("power_price: 0.40CNY/kWh", "power_price: 0.40CNY", "power_price: '0.40CNY' is not a price per kWh", 9),
    ("power_price: 0.40CNY/kWh", "power_price: 0.4", r"centres\[0\].power_price: needs a unit", 9),
    ("carbon: 500g/kWh", "carbon: 500", r"centres\[2\].carbon: needs a unit", 18),
    ("price: 4CNY/h", "price: -4CNY/h", r"centres\[1\].pools\[0\].price: .* is negative", 15),
    ("cards: 64", "cards: 1000000000", r"centres\[2\].pools\[0\].cards: must be less than or equal to", 20),
    ("cards: 64", "cores: 64", r"centres\[2\].pools\[0\]", 20),
    ("cluster: guian", "cluster: guiann", r"centres\[2\].cluster: no cluster", 17),
    ("place: shanghai", "place: atlantis", r"centres\[1\].place: no place", 13),
    ("chip: ascend-910b3", "chip: ascend-910x", r"centres\[2\].pools\[0\].chip: no chip", 20),
    ("place: shanghai\n", "place: shanghai\n    cluster: wuhu\n", r"centres\[1\]: needs exactly one of", 12),
    ("home: east", "home: eest", r"customers\[1\].home: no centre is called 'eest'", 23),
    ("like: venus", "like: mars", r"workloads\[0\].fitted.like: must be", 26),
    ("jobs_per_day: 800", "jobs_per_day: -1", r"workloads\[0\].fitted.jobs_per_day", 26),
    ("ask: compute", "ask: nicely", r"workloads\[0\].ask", 27),
    ("ask: compute", "customers: {nobody: 1}", r"workloads\[0\].customers: no customer is called 'nobody'", 27),
    ("start: 2026-01-05T00:00+08:00", "start: 2026-01-05", "start: has no offset from UTC", 3),
    ("seed: 7", "seed: 7\nseed: 8", "'seed' is given twice", 3),
    ("name: west", "name: north", "centres: two have one name: north", 6),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said", "line"), WRONG, ids=[new.strip()[:30] for _, new, _, _ in WRONG])
def test_what_is_wrong_is_refused_with_field_and_line(old: str, new: str, said: str, line: int) -> None:
    assert old in TEXT
    text = TEXT.replace(old, new, 1)
    with pytest.raises(InvalidInput, match=said) as caught:
        try:
            build(load(text))
        except YunheError as error:
            raise (error if "(line" in str(error) else located(error, text)) from error
    assert f"(line {line})" in str(caught.value)


def test_the_same_words_are_the_same_scenario() -> None:
    assert load(TEXT).digest() == load(TEXT + "# a remark\n").digest()
    assert load(TEXT).digest() == load(TEXT.replace("seed: 7", "seed: 8")).digest()
    assert load(TEXT).digest() != load(TEXT.replace("cards: 64", "cards: 63")).digest()


def test_edits_stand_in_the_scenario_or_beside_it() -> None:
    edit = "price: {centre: west, compute: 3CNY/h, power: 0.20CNY/kWh}"
    within, beside = load(f"{TEXT}what_if:\n  - {edit}\n"), changed(load(TEXT), load_edits(edit))
    assert within.digest() == beside.digest()
    west = beside.centres[2]
    assert (west.pools[0].price, west.power_price) == (3_000_000, 200_000)


def test_every_edit_does_what_it_says() -> None:
    edits = load_edits(
        """
what_if:
  - add_centre: {name: hami, region: Xinjiang, lat: 42.8, lon: 93.5, pools: [{chip: h20, cards: 8, price: 6CNY/h}]}
  - line: {centre: hami, to: shanghai, one_way: 17ms, bandwidth: 400Gbps}
  - rule: {max_carbon: 600g/kWh, backfill: false}
  - load: {workload: train, jobs_per_day: 9}
  - remove_centre: west
  - add_customer: {name: far, place: urumqi}
  - set: {network: on, length: 2h}
"""
    )
    after = changed(scenario(), edits)
    assert [centre.name for centre in after.centres] == ["north", "east", "hami"]
    assert (after.length, after.workloads[0].fitted and after.workloads[0].fitted.jobs_per_day) == (7_200_000, 9)
    assert (after.rules.max_carbon, after.rules.backfill, after.rules.operator_fee) == (600, False, 500)
    network = build(after)
    assert network.supply.measured_latency_us["hami", "shanghai"] == 17_000
    assert network.supply.sites[2].bandwidth_bps == 400 * 10**9
    assert [customer.id for customer in network.customers] == ["lab", "mill", "far"]
    assert network.policy.operator_fee_bps == 500 and not network.policy.backfill


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("price: {centre: wset, compute: 3CNY/h}", r"what_if\[0\].price.centre: no centre is called 'wset'"),
        ("price: {centre: west, compute: 3}", r"what_if\[0\].price.compute: needs a unit"),
        ("price: {centre: west}", r"what_if\[0\].price: needs `compute` or `power`"),
        ("remove_centre: north", r"customers\[0\].home: no centre is called 'north'"),
        ("{}", r"what_if\[0\]: needs exactly one of"),
        ("load: {workload: train, jobs_per_day: 0}", r"what_if\[0\].load.jobs_per_day"),
        ("rule: {max_carbonn: 1g/kWh}", "unknown field"),
    ],
)
def test_an_edit_that_is_wrong_is_refused(edit: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        changed(scenario(), load_edits(edit))


@pytest.mark.parametrize("rule", ["operator_fee: 101%", "nominal_derate: 100.01%"])
def test_a_share_of_more_than_all_is_refused(rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule.partition(":")[0]):
        load_edits(f"rule: {{{rule}}}")


@pytest.mark.parametrize("start", ["1969-12-31T00:00+00:00", "0001-01-01T00:00+00:00"])
def test_a_time_that_no_clock_had_is_refused(start: str) -> None:
    with pytest.raises(InvalidInput, match="start: is before 1970"):
        scenario(("start: 2026-01-05T00:00+08:00", f"start: {start}"))
