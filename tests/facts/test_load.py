"""The shipped facts: complete, typed, plausible, and honest about what is assumed."""

import dataclasses
import json

import pytest

from yunhe.core.demand import Precision
from yunhe.core.errors import InvalidInput, NotFound
from yunhe.core.supply import STACKS
from yunhe.facts import load, sites

CHINA_LAT, CHINA_LON = (18.0, 54.0), (73.0, 135.5)


def test_sizes_of_the_tables() -> None:
    assert len(load.clusters()) == 10
    assert len(load.hubs()) == 8
    assert len(load.chips()) >= 40
    assert len(load.places()) >= 40
    assert {cluster.hub_id for cluster in load.clusters()} == {hub.id for hub in load.hubs()}
    assert {c for hub in load.hubs() for c in hub.clusters} == {cluster.id for cluster in load.clusters()}


def test_ids_are_unique_and_plain() -> None:
    for rows in (load.chips(), load.clusters(), load.hubs(), load.places()):
        ids = [row.id for row in rows]
        assert len(set(ids)) == len(ids)
        assert all(i == i.lower() and i.isascii() for i in ids)


def test_an_order_can_have_a_command_for_every_chip() -> None:
    assert {chip.stack for chip in load.chips()} == STACKS


def test_every_row_says_where_it_is_from() -> None:
    for name in load.TABLES:
        for row in load.table(name):
            assert row["source"], (name, row)
            assert row["confidence"], (name, row)


def test_weak_rows_are_marked() -> None:
    for chip in load.chips():
        if "low" in chip.confidence:
            assert chip.assumed or not chip.flops, chip.id
    factors = {row["name_en"]: row for row in load.table("carbon_factors")}
    assert factors["China"]["assumed"] == ["kgco2_per_kwh_2022"]
    assert factors["Shanghai"]["assumed"] == []
    by_id = {cluster.id: cluster for cluster in load.clusters()}
    assert "pue_milli" in by_id["zhangjiakou"].assumed
    assert "power_price_microcny_per_kwh" in by_id["horinger"].assumed
    assert by_id["qingyang"].assumed == ()


def test_figures_known_from_their_sources() -> None:
    h100 = next(chip for chip in load.chips() if chip.id == "h100-sxm")
    assert h100.rate(Precision.BF16) == 989_500_000_000_000
    assert h100.rate(Precision.FP8) == 1_979 * 10**12
    assert (h100.memory_bytes, h100.watts, h100.stack) == (80 * 10**9, 700, "cuda")
    v100 = next(chip for chip in load.chips() if chip.id == "v100-sxm2-32g")
    assert v100.rate(Precision.BF16) is None
    assert v100.rate(Precision.FP16) == 125 * 10**12
    factors = {factor.name_en: factor for factor in load.carbon_factors()}
    assert factors["Shanghai"].mg_per_kwh == 584_900
    assert factors["Shanghai"].g_per_kwh == 585
    assert factors["Inner Mongolia"].g_per_kwh == 685


def test_figures_are_plausible() -> None:
    for chip in load.chips():
        assert all(10**11 <= flops <= 10**16 for _, flops in chip.flops), chip.id
        assert chip.watts is None or 50 <= chip.watts <= 1_500
        assert (chip.cores is not None) == (chip.kind == "cpu")
    for cluster in load.clusters():
        assert 1_000 <= cluster.pue_milli <= 1_500
        assert 100_000 <= cluster.carbon_mg_per_kwh <= 900_000
    for factor in load.carbon_factors():
        assert 50_000 <= factor.mg_per_kwh <= 900_000
    for place in load.places():
        assert CHINA_LAT[0] <= place.lat <= CHINA_LAT[1]
        assert CHINA_LON[0] <= place.lon <= CHINA_LON[1]


def test_clusters_lie_at_their_places_and_in_their_regions() -> None:
    coordinates = load.place_coordinates()
    for cluster in load.clusters():
        lat, lon = coordinates[cluster.place_id]
        assert abs(lat - cluster.lat) < 1
        assert abs(lon - cluster.lon) < 1
        assert cluster.region in sites.regions()


@pytest.mark.parametrize("cluster", load.clusters(), ids=lambda cluster: cluster.id)
def test_every_cluster_makes_a_site(cluster: load.Cluster) -> None:
    facts = sites.cluster_facts(cluster.id)
    fields = {field.name for field in dataclasses.fields(facts)}
    assert set(facts.assumed) <= fields
    assert facts.carbon_g_per_kwh * 1000 >= cluster.carbon_mg_per_kwh
    assert 200_000 <= facts.power_price_microcny_per_kwh <= 1_000_000
    if cluster.power_price_microcny_per_kwh is None:
        assert "power_price_microcny_per_kwh" in facts.assumed
    assert "price_microcny_per_core_hour" in facts.assumed, "a price is the operator's to state"


def test_an_unknown_cluster_is_told_the_near_one() -> None:
    with pytest.raises(InvalidInput) as caught:
        sites.cluster_facts("zhangjiakuo")
    assert (caught.value.field, caught.value.hint) == ("cluster", "did you mean 'zhangjiakou'?")


def test_a_site_outside_the_clusters() -> None:
    known = sites.located_facts("Hubei", 30.5, 114.3)
    assert (known.carbon_g_per_kwh, "carbon_g_per_kwh" in known.assumed) == (437, False)
    assert sites.located_facts("湖北", 30.5, 114.3).region == "Hubei"
    abroad = sites.located_facts("Elsewhere", 50.0, 8.0)
    assert "carbon_g_per_kwh" in abroad.assumed
    with pytest.raises(InvalidInput) as caught:
        sites.located_facts("Guandong", 23.0, 113.0)
    assert caught.value.hint == "did you mean 'Guangdong'?"


@pytest.mark.parametrize("region", ["Hong Kong", "Macao", "Taiwan", "Xizang"])
def test_a_region_without_a_published_factor_is_no_slip(region: str) -> None:
    found = sites.located_facts(region, 22.3, 114.2)
    assert found.region == region and "carbon_g_per_kwh" in found.assumed


def test_watts_come_with_their_reason() -> None:
    assert sites.card_watts("h100-sxm")[0] == 700
    watts, reason = sites.card_watts("no-such-card")
    assert (watts, reason.startswith("assumed: ")) == (400, True)
    assert sites.card_watts("ascend-910b4")[1].startswith("assumed: ")
    assert sites.core_watts()[1].startswith("assumed: ")


def test_defaults_say_why() -> None:
    assert all(default.reason and default.unit for default in load.defaults().values())


@pytest.mark.parametrize("name", load.TABLES)
def test_tables_are_plain_json(name: str) -> None:
    rows = load.table(name)
    assert json.loads(json.dumps(rows)) == list(rows)
    for row in rows:
        assert isinstance(row["assumed"], list)
        assert set(row["assumed"]) <= row.keys(), "what is assumed is a column of the row"


def test_cells_are_numbers_where_they_are_numbers() -> None:
    row = next(row for row in load.table("chips") if row["chip_id"] == "h100-sxm")
    assert (row["bf16_tflops"], row["tdp_w"], row["cores"]) == (989.5, 700, None)
    assert load.table("tariffs")[0]["valid_from"] == "2021-10"


def test_a_table_that_does_not_exist() -> None:
    with pytest.raises(NotFound) as caught:
        load.table("cluster")
    assert caught.value.hint == "did you mean 'clusters'?"
