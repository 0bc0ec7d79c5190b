"""Orders written as options or as files: what is sent, what is refused before anything is sent."""

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Run
from tests.sdk.answers import order
from tests.sdk.scripted import Script
from yunhe.core import errors
from yunhe.core.lifecycle import OrderState
from yunhe.wire.api import OfferView, PoolList, PoolView, PriceView, QuoteView, ReasonView, SiteList, SiteReasonsView

PRICE = PriceView(
    compute_microcny=40_000, energy_microcny=10_000, transfer_microcny=0, line_microcny=0, total_microcny=50_000
)
OFFER = OfferView(
    site_id="s-1",
    site_name="zhangjiakou",
    pool_id="s-1:cpu",
    chip="unknown",
    units_milli=1500,
    memory_bytes=2**30,
    run_ms=61_000,
    start_utc_ms=1_790_000_000_000,
    finish_utc_ms=1_790_000_061_000,
    price=PRICE,
    hold=PRICE,
    carbon_mg=1234,
)
TOO_FAR = SiteReasonsView(
    site_id="s-2",
    site_name="qingyang",
    pool_id="s-2:cpu",
    reasons=(ReasonView(code="latency", need="<= 20ms rtt to shanghai", have="27.1ms", lasting=True),),
)
QUOTE = QuoteView(offers=(OFFER,), refused=(TOO_FAR,))


def dry(yunhe: Run, *arguments: str) -> dict[str, object]:
    shown = yunhe("submit", "--dry-run", *arguments)
    assert (shown.code, shown.err) == (0, "")
    loaded = yaml.safe_load(shown.out)
    assert isinstance(loaded, dict)
    return loaded


def test_every_option_reaches_the_order(yunhe: Run, folder: Path) -> None:
    (folder / "extra.txt").write_text("extra")
    loaded = dry(
        yunhe,
        *("--compute", "0.05TFLOPS@fp64", "--chip", "kunpeng-920", "--slots", "2", "--memory", "1GiB"),
        *("--card-memory", "32GiB", "--latency", "20ms:shanghai", "--latency", "9ms:beijing:one-way"),
        *("--bandwidth", "10Gbps", "--data", "500GB:beijing", "--residency", "Hebei", "--residency", "Inner Mongolia"),
        *("--tier", "1", "--max-carbon", "400g/kWh", "--site", "s-1", "--name", "my job", "--duration", "1h30m"),
        *("--deadline", "6h", "--budget", "2CNY", "--prefer", "carbon", "--array", "20", "--priority", "3"),
        *("--retries", "1", "--env", "A=1", "--env", "B=x=y", "--file", "extra.txt", "--output", "out.json"),
        *("--", "python3", "-c", "print(1)"),
    )
    assert loaded == {
        "name": "my job",
        "run": {
            "command": ["python3", "-c", "print(1)"],
            "env": {"A": "1", "B": "x=y"},
            "files": {"extra.txt": "extra"},
            "outputs": ["out.json"],
        },
        "requirement": {
            "compute": "0.05TFLOPS@fp64",
            "chip": "kunpeng-920",
            "slots": 2,
            "memory": "1GiB",
            "card_memory": "32GiB",
            "latency": ["20ms:shanghai", "9ms:beijing:one-way"],
            "bandwidth": "10Gbps",
            "data": {"at": "beijing", "size": "500GB"},
            "residency": ["Hebei", "Inner Mongolia"],
            "tier": 1,
            "max_carbon": "400g/kWh",
            "sites": ["s-1"],
        },
        "duration": "1h30m",
        "deadline": "6h",
        "budget": "2CNY",
        "preference": "carbon",
        "array": 20,
        "priority": 3,
        "retries": 1,
    }


def files_of(loaded: dict[str, object]) -> dict[str, str]:
    run = loaded["run"]
    assert isinstance(run, dict)
    files: dict[str, str] = run.get("files", {})
    return files


def test_files_that_the_command_names_are_sent_along(yunhe: Run, folder: Path) -> None:
    (folder / "job.py").write_text("print('é')\n", encoding="utf-8")
    (folder / "conf").mkdir()
    (folder / "conf" / "a.toml").write_text("x = 1\n")
    (folder.parent / "outside.txt").write_text("secret")
    command = ("python3", "./job.py", "--config=conf/a.toml", "../outside.txt", str(folder / "job.py"), "absent.py")
    assert files_of(dry(yunhe, "--", *command)) == {"job.py": "print('é')\n", "conf/a.toml": "x = 1\n"}
    assert files_of(dry(yunhe, "--no-attach", "--", *command)) == {}


def test_a_link_out_of_the_folder_is_not_sent(yunhe: Run, folder: Path) -> None:
    (folder.parent / "outside.txt").write_text("secret")
    (folder / "link.txt").symlink_to(folder.parent / "outside.txt")
    shown = yunhe("submit", "--dry-run", "--", "cat", "link.txt")
    assert shown.code == 2
    assert "secret" not in shown.out + shown.err


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [("model.bin", b"\x00\xff", "model.bin is not text"), ("big.txt", b"x" * (2**20 + 1), "more than 1 MiB")],
)
def test_what_cannot_be_sent_along_is_refused_with_the_way_out(
    name: str, content: bytes, says: str, yunhe: Run, folder: Path
) -> None:
    (folder / name).write_bytes(content)
    shown = yunhe("submit", "--dry-run", "--", "cat", name)
    assert shown.code == 2
    assert says in shown.err
    assert "--no-attach" in shown.err


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("--cores", "many", "--", "ls"), "requirement.cores"),
        (("--cores", "nan", "--", "ls"), "requirement.cores"),
        (("--array", "-1", "--", "ls"), "array"),
        (("--data", "500GB", "--", "ls"), "--data"),
        (("--env", "A", "--", "ls"), "--env"),
        (("--env", "1A=x", "--", "ls"), "run.env"),
        (("--output", "/etc/passwd", "--", "ls"), "run.outputs"),
        (("a.yaml", "--cores", "1"), "--cores"),
        (("a.yaml", "--", "ls"), "FILE"),
    ],
)
def test_a_wrong_option_is_one_line_with_its_field(arguments: tuple[str, ...], field: str, yunhe: Run) -> None:
    shown = yunhe("submit", "--dry-run", *arguments)
    assert shown.code == 2
    assert shown.err.startswith(f"error: {field}")
    assert "Traceback" not in shown.err
    assert len(shown.err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("python3", "job.py", "--x"), "python3 job.py"),
        (("/usr/bin/env", "python3", "-c", "print(1)"), "env python3"),
        (("!", "x"), None),
    ],
)
def test_an_order_is_named_after_its_command(command: tuple[str, ...], name: str | None, yunhe: Run) -> None:
    assert dry(yunhe, "--", *command).get("name") == name
    assert dry(yunhe, "--name", "mine", "--", *command)["name"] == "mine"


def test_nothing_to_submit_says_what_to_write(yunhe: Run) -> None:
    shown = yunhe("submit", "--cores", "1")
    assert shown.code == 2
    assert "-- COMMAND" in shown.err


def test_a_placed_order_is_told_with_its_best_offer_and_its_hold(yunhe: Run, script: Script) -> None:
    script.say(QUOTE, order())
    shown = yunhe("submit", "--cores", "1", "--", "ls", "-l")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines() == [
        "o-1 order open, at most 0.05CNY (held)",
        "  best offer: zhangjiakou (s-1:cpu), expected 0.05CNY (compute 0.04CNY, energy 0.01CNY)",
    ]
    assert json.loads(script.seen[1].body)["run"]["command"] == ["ls", "-l"]


def test_several_files_are_all_checked_before_the_first_is_sent(yunhe: Run, script: Script, folder: Path) -> None:
    (folder / "good.yaml").write_text("run: {command: [ls]}\n")
    (folder / "bad.yaml").write_text("run: {comand: [ls]}\n")
    shown = yunhe("submit", "good.yaml", "bad.yaml")
    assert shown.code == 2
    assert "bad.yaml: run.comand" in shown.err
    assert script.seen == []


def test_a_refused_order_does_not_keep_back_the_next(yunhe: Run, script: Script, folder: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (folder / name).write_text("run: {command: [ls]}\n")
    script.say(QUOTE, errors.OverBudget("the best offer is 3CNY", field="budget"), QUOTE, order(order_id="o-2"))
    shown = yunhe("submit", "a.yaml", "b.yaml")
    assert shown.code == 3
    assert "error: budget: a.yaml: the best offer is 3CNY" in shown.err
    assert "o-2" in shown.out


def test_waiting_ends_with_the_orders_own_status(yunhe: Run, script: Script) -> None:
    script.say(QUOTE, order(), order(OrderState.RUNNING), order(OrderState.SUCCEEDED, settled=True))
    shown = yunhe("submit", "--wait", "--", "ls")
    assert shown.code == 0
    assert "o-1 succeeded after 3.2 s, charged 0.012CNY" in shown.out
    assert shown.err.splitlines() == ["o-1 running"]
    script.say(order(), order(OrderState.CANCELLED, settled=True))
    shown = yunhe("submit", "--wait", "--json", "--", "ls")
    assert shown.code == 1
    assert json.loads(shown.out)["orders"][0]["state"] == "cancelled"


NO_ROOM = ReasonView(code="cores", need="1", have="0.72", lasting=True)


def pool(capacity_milli: int) -> PoolView:
    return PoolView(
        id="s-1:cpu",
        site_id="s-1",
        chip="unknown",
        chip_name="a chip",
        unit="core",
        stack="cpu",
        capacity_milli=capacity_milli,
        free_milli=capacity_milli,
        memory_bytes=2**30,
        free_memory_bytes=2**30,
        rates=(),
        benchmarks=(),
        price_microcny_per_unit_hour=100_000,
        watts_per_unit=8,
        watts_source="measured",
    )


def test_a_refusal_says_why_at_once(yunhe: Run, script: Script) -> None:
    nowhere = QuoteView(offers=(), refused=(TOO_FAR.model_copy(update={"reasons": (NO_ROOM,)}), TOO_FAR))
    refusal = errors.Refused("no site of the network can meet this requirement now", field="requirement")
    pools = PoolList(pools=(pool(540), pool(720)))
    script.say(nowhere, refusal, pools)
    shown = yunhe("submit", "--", "ls")
    assert shown.code == 3
    assert "1 of 2 pools: cores: needs 1, has 0.72" in shown.err
    assert "1 of 2 pools: latency" in shown.err
    assert "1 core is assumed; the largest pool has 0.72 cores (say --cores 0.5)" in shown.err
    script.say(refusal, nowhere, pools)
    assert "has 0.72" in yunhe("submit", "--json", "--", "ls").err
    script.say(nowhere, order(), pools)
    waits = yunhe("submit", "--budget", "1CNY", "--", "ls")
    assert waits.code == 0
    assert "1 core is assumed" in waits.err
    script.say(nowhere, pools)
    assert "1 core is assumed" in yunhe("quote").err


def test_a_region_or_site_that_there_is_not_is_said(yunhe: Run, script: Script) -> None:
    script.say(QuoteView(offers=(), refused=()), SiteList(sites=()))
    shown = yunhe("quote", "--cores", "0.1", "--residency", "Hebie", "--residency", "河北", "--site", "s-9")
    assert "no region is called 'Hebie': did you mean 'Hebei'?" in shown.err
    assert "no region is called '河北': did you mean 'Hebei'?" in shown.err
    assert "no site has the id 's-9'" in shown.err


def test_what_is_no_order_file_says_how_to_run_it(yunhe: Run, folder: Path) -> None:
    (folder / "job.py").write_text("print(1)")
    assert "to run it: yunhe submit --cores 0.1 -- python3 job.py" in yunhe("submit", "job.py").err
    assert "a command goes behind --: yunhe submit --cores 0.1 -- sh job.sh" in yunhe("submit", "sh", "job.sh").err


def test_sizes_under_other_names_say_what_they_are_called_here(yunhe: Run, folder: Path) -> None:
    shown = yunhe("submit", "--cpu", "1", "--", "ls")
    assert (shown.code, shown.err) == (2, "error: --cpu: there is no such option\nhint: did you mean --cores?\n")
    assert "did you mean --memory?" in yunhe("quote", "--ram", "1GiB").err
    (folder / "a.yaml").write_text("run: {command: [ls]}\nrequirement:\n  cpu: 2\n")
    assert "did you mean 'cores'?" in yunhe("submit", "a.yaml").err


def test_a_dry_run_checks_units_and_places(yunhe: Run) -> None:
    assert dry(yunhe, "--latency", "20ms:上海", "--", "ls")["requirement"] == {"latency": ["20ms:上海"]}
    wrong = yunhe("submit", "--dry-run", "--latency", "20ms:shangai", "--", "ls")
    assert (wrong.code, "did you mean 'shanghai'?" in wrong.err) == (2, True)
    assert yunhe("submit", "--dry-run", "--memory", "2", "--", "ls").code == 2


def test_a_quote_shows_offers_and_what_is_missing_elsewhere(yunhe: Run, script: Script) -> None:
    script.say(QUOTE)
    shown = yunhe("quote", "--cores", "1.5")
    assert shown.code == 0
    assert shown.out.split("\n")[0].split() == ["site", "units", "start", "run", "compute", "energy", "total", "carbon"]
    assert "  now  " in shown.out
    assert "zhangjiakou" in shown.out
    assert "0.05CNY" in shown.out
    assert "latency: needs <= 20ms rtt to shanghai, has 27.1ms" in shown.out
    assert QuoteView.model_validate_json(yunhe("quote", "--cores", "1.5", "--json").out) == QUOTE


# --- secrets --------------------------------------------------------------------------------------------------------


def test_secrets_come_from_files_and_the_environment_and_are_not_shown(
    yunhe: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pass").write_text("hunter2\n")
    monkeypatch.setenv("TOKEN", "hunter3")
    shown = yunhe("submit", "--dry-run", "--secret", "TOKEN", "--secret", "PASS=@pass", "--", "true")
    assert (shown.code, shown.err) == (0, "")
    assert yaml.safe_load(shown.out)["run"]["secrets"] == {"TOKEN": "*" * 10, "PASS": "*" * 10}
    assert "hunter" not in shown.out


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("TOKEN=hunter2", "TOKEN is not given as text on the command line"),
        ("NOT_SET_HERE", "the environment variable NOT_SET_HERE is not set"),
        ("TOKEN=@nowhere", "nowhere cannot be read"),
        ("TOKEN=@big", "more than 8 KiB"),
        ("TOKEN=@binary", "is not text (UTF-8)"),
    ],
)
def test_a_secret_that_cannot_be_taken_is_named_and_not_repeated(
    yunhe: Run, folder: Path, secret: str, said: str
) -> None:
    (folder / "big").write_bytes(b"h" * 8193)
    (folder / "binary").write_bytes(b"hunter2\xff")
    told = yunhe("submit", "--dry-run", "--secret", secret, "--", "true")
    assert told.code != 0 and said in told.err and "--secret" in told.err
    assert "hunter2" not in told.out + told.err


def test_an_order_file_says_where_its_secrets_lie(yunhe: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pass").write_text("hunter2")
    text = "run:\n  command: ['true']\n  secrets:\n    A: {env: TOKEN}\n    B: {file: pass}\n"
    (folder / "order.yaml").write_text(text)
    missing = yunhe("submit", "--dry-run", "order.yaml")
    assert missing.code != 0 and "run.secrets.A" in missing.err and "TOKEN is not set" in missing.err
    monkeypatch.setenv("TOKEN", "hunter3")
    shown = yunhe("submit", "--dry-run", "order.yaml")
    assert shown.code == 0 and "hunter" not in shown.out
    for wrong in ("hunter2", "{env: A, file: b}", "[hunter2]", "{value: hunter2}"):
        (folder / "order.yaml").write_text(text.replace("{env: TOKEN}", wrong))
        told = yunhe("submit", "--dry-run", "order.yaml")
        assert told.code != 0 and "does not say where the secret lies" in told.err
        assert "hunter" not in told.err
