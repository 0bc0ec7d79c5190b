"""What the pages about orders compute, without a browser: the form's order, its command line, a charge, a chart."""

import math
import shlex
from pathlib import Path

import pytest

from yunhe.cli.main import main
from yunhe.console.moments import moment, zone_of
from yunhe.console.orders import chart
from yunhe.console.orders.charges import recomputed
from yunhe.console.orders.entry import Entry, Program, entry_of, values
from yunhe.console.orders.log import plain
from yunhe.console.orders.spoken import command_line
from yunhe.core.errors import InvalidInput
from yunhe.core.tariff import RatingInputs, rate
from yunhe.sdk.orderfile import load_order, parse_order
from yunhe.wire.api import ChargeView, OrderSpec, PriceView, UsageView

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "orders").glob("[0-9]*.yaml"))

FULL = {
    "name": "all of it",
    "run": {"command": ["sh", "-c", 'echo "a b" $HOME'], "env": {"SEED": "7 8"}, "outputs": ["a.txt", "b/c.txt"]},
    "requirement": {
        "compute": "0.05TFLOPS@fp64",
        "memory": "64MiB",
        "slots": 2,
        "latency": ["9ms:shanghai:one-way"],
        "bandwidth": "1Gbps",
        "data": {"at": "beijing", "size": "3GB"},
        "residency": ["Hebei", "Inner Mongolia"],
        "tier": 1,
        "max_carbon": "700g/kWh",
        "sites": ["guian", "qingpu"],
    },
    "duration": "20m",
    "deadline": "6h",
    "budget": "2CNY",
    "preference": "carbon",
    "array": 3,
    "priority": 2,
    "retries": 1,
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_order_comes_out_of_the_form_as_it_went_in(path: Path) -> None:
    order = load_order(path)
    assert OrderSpec.model_validate(values(entry_of(order))) == order


def test_stacks_images_and_what_the_form_has_no_field_for() -> None:
    order = OrderSpec.model_validate(
        {
            "run": {
                "command": ["./cpu"],
                "stacks": {"cuda": ["./gpu", "--fast"], "cann": ["./npu"]},
                "images": {"cpu": "job:1", "cuda": "job:1-cuda"},
                "checkpoint": {"folder": "kept"},
                "inputs": [{"url": "https://data.example/a.csv", "path": "a.csv"}],
            },
            "requirement": {"cards": 8, "chip": "910b", "latency": ["20ms:beijing", "30ms:shanghai"]},
        }
    )
    entry = entry_of(order)
    assert [program.stack for program in entry.programs] == ["cpu", "cuda", "cann"]
    assert OrderSpec.model_validate(values(entry)) == order


def test_secrets_are_left_out_and_said_to_be() -> None:
    order = OrderSpec.model_validate({"run": {"command": ["true"], "secrets": {"TOKEN": "hush"}}})
    entry = entry_of(order)
    assert entry.left_out
    assert "secrets" not in values(entry)["run"]


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (Entry(programs=[Program("cpu", "echo 'open")]), "run.command"),
        (Entry(programs=[Program("cuda", 'echo "open')]), "run.stacks.cuda"),
        (Entry(texts={"env": "NOTHING"}, programs=[Program("cpu", "true")]), "run.env"),
    ],
)
def test_what_is_no_command_is_refused_at_its_field(entry: Entry, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        values(entry)
    assert refused.value.field == field


def test_the_command_line_means_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the real command reads it."""
    monkeypatch.chdir(tmp_path)
    order = OrderSpec.model_validate(FULL)
    program, *words = shlex.split(command_line(order))
    assert program == "yunhe"
    cut = words.index("--")
    assert main((*words[:cut], "--dry-run", *words[cut:])) == 0
    assert parse_order(capsys.readouterr().out, tmp_path) == order


def test_what_no_option_says_goes_into_a_file(tmp_path: Path) -> None:
    order = OrderSpec.model_validate({"run": {"stacks": {"cuda": ["./gpu"]}, "files": {"a.sh": "echo 1\n"}}})
    text = command_line(order)
    begin, _, rest = text.partition("\n")
    body, _, end = rest.partition("EOF\n")
    assert begin == "cat > order.yaml <<'EOF'"
    assert end == "yunhe submit order.yaml"
    assert parse_order(body, tmp_path) == order


# --- charges and use ------------------------------------------------------------------------------------------------

INPUTS = RatingInputs(
    milli=500,
    wall_ms=60_000,
    cpu_ms=20_000,
    price_microcny_per_unit_hour=100_000,
    power_price_microcny_per_kwh=350_000,
    transfer_microcny_per_gib=0,
    data_bytes=0,
    pue_milli=1_200,
    watts_per_unit=8,
    carbon_g_per_kwh=499,
    fee_bps=500,
    hold_microcny=100_000,
    disputed=False,
)


def charge(extra_microcny: int = 0, **inputs: object) -> ChargeView:
    rated = rate(INPUTS)
    compute = rated.price.compute + extra_microcny
    price = PriceView(
        compute_microcny=compute,
        energy_microcny=rated.price.energy,
        transfer_microcny=0,
        line_microcny=0,
        total_microcny=compute + rated.price.energy,
    )
    known = {name: getattr(INPUTS, name) for name in RatingInputs.__dataclass_fields__}
    return ChargeView(
        lease_id="o.0",
        epoch=1,
        site_id="guian",
        price=price,
        operator_fee_microcny=rated.fee,
        disputed=False,
        energy_mwh=rated.energy_mwh,
        carbon_mg=rated.carbon_mg,
        compute_delivered={},
        inputs={**known, "reported_wall_ms": 60_000, **inputs},
    )


def test_a_charge_is_computed_again_and_a_false_one_is_seen() -> None:
    assert recomputed(charge()) is True
    assert recomputed(charge(extra_microcny=1)) is False
    assert recomputed(charge(milli=None)) is None


def usage(from_ms: int, to_ms: int, cpu_ms: int) -> UsageView:
    return UsageView(
        lease_id="o.0",
        epoch=1,
        n=0,
        from_ms=from_ms,
        to_ms=to_ms,
        wall_ms=to_ms,
        cpu_ms=cpu_ms,
        peak_memory_bytes=1 << 20,
        sampled=False,
        final=False,
        disputed=False,
    )


def test_use_is_drawn_by_interval_and_a_missing_one_is_a_gap() -> None:
    points = chart.busy([usage(4_000, 6_000, 5_000), usage(0, 2_000, 1_000)])
    assert points[:2] == [(0.0, 0.5), (2.0, 0.5)]
    assert points[2][0] == 2.0
    assert math.isnan(points[2][1])
    assert [x for x, _ in points[3:]] == [4.0, 6.0]


def test_times_are_of_the_viewers_clock() -> None:
    assert moment(0, zone_of("Asia/Shanghai")) == "1970-01-01 08:00:00 +08:00"
    assert moment(0, zone_of("Asia%2FShanghai")) == "1970-01-01 08:00:00 +08:00"
    for strange in (None, "", "../../etc/passwd", "Nowhere/Here", "x" * 10_000, "\0"):
        assert moment(0, zone_of(strange)) == "1970-01-01 00:00:00 +00:00"


def test_a_log_cannot_steer_the_page() -> None:
    assert plain("\x1b[31mred\x1b[0m\r\n10%\r20%\x07\tok") == "red\n10%\n20%\tok"
