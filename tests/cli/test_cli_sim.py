"""`yunhe sim`: folders with state and result, going on after Ctrl-C, comparing, sweeping, replaying."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Ran, Run
from tests.simulator.scenes import TEXT
from yunhe.apps.simulator import write_whole
from yunhe.cli.failure import INTERRUPTED, OK, USAGE
from yunhe.simulator.run import Run as Simulation
from yunhe.simulator.scenario import load

DEARER = "price: {centre: west, compute: 50CNY/h}"


@pytest.fixture
def scenario(folder: Path) -> Path:
    path = folder / "three.yaml"
    path.write_text(TEXT)
    return path


def test_a_run_leaves_result_report_and_tables(scenario: Path, yunhe: Run) -> None:
    ran = yunhe("sim", "run", str(scenario), "--out", "run")
    assert ran.code == OK, ran.err
    assert "sum 0 micro-CNY" in ran.out
    files = {path.name for path in Path("run").iterdir()}
    assert files == {"result.json", "report.html", "hours.parquet", "sites.parquet", "money.parquet"}
    page = Path("run/report.html").read_text()
    for title in ("Utilisation", "Waits by size", "Prices", "Energy and carbon", "Money by party", "Fragmentation"):
        assert f"<h2>{title}</h2>" in page
    assert page.count("<svg") == 7
    assert "http://" not in page.replace("http://www.w3.org/", "") and "src=" not in page  # nothing beside it
    # Again: it is there already, and says the same.
    before = Path("run/result.json").read_bytes()
    again = yunhe("sim", "run", str(scenario), "--out", "run", "--json")
    assert again.code == OK and json.loads(again.out) == json.loads(before)
    fresh = yunhe("sim", "run", str(scenario), "--out", "run", "--fresh", "--json")
    assert fresh.code == OK and Path("run/result.json").read_bytes() == before
    assert Path("run/report.html").read_text() == page


def test_the_tables_are_for_those_who_look_deeper(scenario: Path, yunhe: Run) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    yunhe("sim", "run", str(scenario), "--out", "run")
    found = json.loads(Path("run/result.json").read_text())
    hours = parquet.read_table("run/hours.parquet")
    assert hours.column("utilisation").to_pylist() == found["hours"]["utilisation"]
    assert hours.schema.metadata[b"scenario_sha256"].decode() == found["scenario_sha256"]
    money = parquet.read_table("run/money.parquet").to_pylist()
    assert sum(row["microcny"] for row in money if row["kind"] != "spent") == found["charged_microcny"]


def test_a_folder_of_another_run_is_not_overwritten(scenario: Path, yunhe: Run) -> None:
    yunhe("sim", "run", str(scenario), "--out", "run", "--no-report")
    other = yunhe("sim", "run", str(scenario), "--out", "run", "--seed", "9")
    assert other.code == USAGE and "another scenario or seed" in other.err


def test_what_is_wrong_is_said_with_its_line(scenario: Path, yunhe: Run) -> None:
    scenario.write_text(TEXT.replace("cards: 64", "cards: 64.5"))
    ran = yunhe("sim", "run", str(scenario))
    assert ran.code == USAGE
    assert "error: centres[2].pools[0].cards: " in ran.err and "(line 20)" in ran.err
    assert not list(Path().glob("sim-*"))


def test_ctrl_c_leaves_a_state_that_the_same_command_goes_on_from(scenario: Path, yunhe: Run) -> None:
    scenario.write_text(TEXT.replace("length: 6h", "length: 12d").replace("jobs_per_day: 800", "jobs_per_day: 150"))
    whole = yunhe("sim", "run", str(scenario), "--out", "whole", "--no-report", "--json")
    assert whole.code == OK
    command = [sys.executable, "-m", "yunhe.cli.main", "sim", "run", str(scenario), "--out", "parts", "--no-report"]
    interrupted = 0
    for wait_s in (0.0, 0.0, None):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if wait_s is not None:
            until = time.monotonic() + 60
            while not Path("parts").exists() and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(0.5 + interrupted)  # some way into the run; wherever it is stopped, the end is the same
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
        if process.returncode == INTERRUPTED:
            interrupted += 1
            # The second may come before the program has begun to listen: then the first one's state is still there.
            assert Path("parts/state.bin").exists() and (interrupted > 1 or "goes on from" in said)
        else:
            assert process.returncode == OK, said
            break
    assert Path("parts/result.json").read_bytes() == Path("whole/result.json").read_bytes()
    assert not Path("parts/state.bin").exists()
    assert interrupted or os.environ.get("CI"), "this machine ran it faster than Ctrl-C came"


def test_two_runs_side_by_side(scenario: Path, yunhe: Run) -> None:
    yunhe("sim", "run", str(scenario), "--out", "a", "--no-report")
    yunhe(
        "sim", "run", str(scenario), "--out", "b", "--no-report", "--what-if", "price: {centre: west, compute: 50CNY/h}"
    )
    compared = yunhe("sim", "compare", "a", "b", "--json")
    assert compared.code == OK
    lines = {line["name"]: line for line in json.loads(compared.out)["lines"]}
    assert lines["paid"]["second"] > lines["paid"]["first"] and lines["paid"]["spread"] is None
    assert "difference" in yunhe("sim", "compare", "a", "b").out
    assert yunhe("sim", "compare", "a", "nowhere").code == USAGE


def test_a_sweep_over_seeds_says_how_far_the_difference_spreads(scenario: Path, yunhe: Run) -> None:
    command = ("sim", "sweep", str(scenario), "--seeds", "1-3", "--out", "all", "--processes", "2", "--json")
    change = ("--what-if", DEARER)
    ran = yunhe(*command, *change)
    assert ran.code == OK, ran.err
    paid = next(line for line in json.loads(ran.out)["variants"]["change-1"] if line["name"] == "paid")
    assert paid["seeds"] == 3 and paid["spread"] > 0 and paid["difference"] > 0
    stamps = {path: path.stat().st_mtime_ns for path in Path("all").rglob("result.json")}
    assert len(stamps) == 6
    assert yunhe(*command, *change).out == ran.out
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    # The same as one by one.
    yunhe("sim", "run", str(scenario), "--seed", "2", "--out", "one", "--no-report")
    assert Path("one/result.json").read_bytes() == Path("all/base/seed-2/result.json").read_bytes()


@pytest.mark.parametrize("seeds", ["x", "3-1", "1,1", "1-99999999", "-1"])
def test_seeds_that_are_none_are_refused(scenario: Path, yunhe: Run, seeds: str) -> None:
    ran = yunhe("sim", "sweep", str(scenario), f"--seeds={seeds}", "--out", "all")
    assert ran.code == USAGE and "--seeds" in ran.err


def test_a_record_that_is_none_is_refused(folder: Path, yunhe: Run) -> None:
    Path("rounds.jsonl").write_text("nonsense\n")
    ran = yunhe("sim", "replay", "rounds.jsonl")
    assert ran.code == USAGE and "line 1" in ran.err
    Path("rounds.jsonl").write_text("")
    assert "0 rounds" in yunhe("sim", "replay", "rounds.jsonl").out


@pytest.mark.parametrize(
    "command",
    [
        ("run", "nowhere.yaml"),
        ("run", "."),
        ("run", "/dev/full"),
        ("run", "three.yaml", "--what-if", "nowhere.yaml"),
        ("sweep", "nowhere.yaml", "--out", "all"),
        ("replay", "nowhere.jsonl"),
        ("replay", "."),
    ],
)
def test_a_file_that_is_none_is_a_wrong_argument(scenario: Path, yunhe: Run, command: tuple[str, ...]) -> None:
    ran = yunhe("sim", *command)
    assert ran.code == USAGE and "error: " in ran.err and "Traceback" not in ran.err
    assert not list(Path().glob("sim-*"))


@pytest.mark.parametrize("trace", ["/dev/zero", "nowhere.csv", "."])
def test_a_trace_without_end_or_without_a_beginning_is_refused(scenario: Path, yunhe: Run, trace: str) -> None:
    fitted = "fitted: {like: venus, jobs_per_day: 800}"
    scenario.write_text(TEXT.replace(fitted, f"trace: {{format: pai2020, path: {trace}}}"))
    ran = yunhe("sim", "run", str(scenario), "--out", "run")
    assert ran.code == USAGE and "error: " in ran.err and "Traceback" not in ran.err
    if trace == "/dev/zero":
        assert "in line 1" in ran.err


def test_a_damaged_result_is_refused_by_name(scenario: Path, yunhe: Run) -> None:
    yunhe("sim", "run", str(scenario), "--out", "run", "--no-report")
    file = Path("run/result.json")
    whole = json.loads(file.read_bytes())
    for name, value in (
        ("orders", 7),
        ("wait_ms", {}),
        ("useful_flop", None),
        ("charged_microcny", "much"),
        ("seed", []),
    ):
        file.write_text(json.dumps({**whole, name: value}))
        ran = yunhe("sim", "compare", "run", "run")
        assert ran.code == USAGE and "run/result.json" in ran.err, name
    file.write_text(json.dumps({name: value for name, value in whole.items() if name != "sites"}))
    ran = yunhe("sim", "run", str(scenario), "--out", "run")  # a report of it is wanted
    assert ran.code == USAGE and "damaged" in ran.err


def test_a_state_that_others_could_have_written_is_not_read(scenario: Path, yunhe: Run) -> None:
    found = Simulation.fresh(load(TEXT), Path())
    found.go_on(10)
    state = Path("run/state.bin")

    def again(mode: int) -> Ran:
        write_whole(state, found.saved(), 0o600)
        state.chmod(mode)
        return yunhe("sim", "run", str(scenario), "--out", "run", "--no-report")

    state.parent.mkdir()
    for mode in (0o602, 0o620, 0o666):
        ran = again(mode)
        assert ran.code == USAGE and "written by others" in ran.err and "pickle" in ran.err and "--fresh" in ran.err
    state.rename("elsewhere")
    state.symlink_to(Path("elsewhere").absolute())
    assert yunhe("sim", "run", str(scenario), "--out", "run", "--no-report").code == USAGE
    state.unlink()
    assert again(0o644).code == OK and not state.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_state_of_another_user_is_not_read(scenario: Path, yunhe: Run) -> None:
    Path("run").mkdir()
    state = Path("run/state.bin")
    state.write_bytes(b"")
    os.chown(state, 65534, 65534)
    ran = yunhe("sim", "run", str(scenario), "--out", "run", "--no-report")
    assert ran.code == USAGE and "another user's" in ran.err
