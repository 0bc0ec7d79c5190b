"""What people see when something is wrong, and which status scripts get."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.sdk.answers import order
from tests.sdk.scripted import Reply, Script
from yunhe.core import errors
from yunhe.core.lifecycle import OrderState
from yunhe.core.units import format_money
from yunhe.facts.load import defaults
from yunhe.sdk.config import write_network_file
from yunhe.wire.api import (
    InvoiceLine,
    InvoiceView,
    OrderPage,
    OutputList,
    OutputView,
    PriceView,
    SiteList,
    SiteView,
    WhoAmI,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInput("bad", field="state"), 2),
        (errors.TooLarge("big"), 2),
        (errors.Conflict("ended"), 3),
        (errors.InsufficientFunds("no money"), 3),
        (errors.QuotaExceeded("full"), 3),
        (errors.NotFound("no such order"), 4),
        (errors.Forbidden("not yours"), 4),
        (errors.Unauthenticated("unknown key"), 4),
        (errors.StorageFull("disk full"), 5),
    ],
)
def test_each_kind_of_error_has_its_status(error: errors.YunheError, code: int, yunhe: Run, script: Script) -> None:
    script.say(error)
    shown = yunhe("show", "o-1")
    assert shown.code == code
    assert shown.out == ""
    where = f"{error.field}: " if error.field else ""
    assert shown.err.splitlines()[0] == f"error: {where}{error.message}"
    assert ("hint: " in shown.err) == bool(error.hint)


def test_no_hub_says_how_to_start_one(yunhe: Run) -> None:
    shown = yunhe("--url", "http://127.0.0.1:1", "orders")
    assert shown.code == 5
    assert "http://127.0.0.1:1" in shown.err
    assert "yunhe up" in shown.err


def test_a_folder_that_cannot_be_written_is_one_line(yunhe: Run, script: Script, folder: Path) -> None:
    """A file stands where a folder would have to be."""
    (folder / "results").write_text("in the way")
    script.say(OutputList(outputs=(OutputView(lease_id="o-1.0", path="a.txt", size_bytes=1, sha256="0" * 64),)))
    shown = yunhe("outputs", "get", "o-1", "--to", "results")
    assert shown.code == 1
    assert shown.err.startswith("error: ")
    assert "results" in shown.err
    assert "Traceback" not in shown.err
    assert (folder / "results").read_text() == "in the way"


@pytest.mark.parametrize("cores", ["nan", "inf", "-1", "0"])
def test_a_site_offers_a_finite_share(cores: str, yunhe: Run) -> None:
    shown = yunhe("site", "join", "http://127.0.0.1:1", "--name", "a", "--token", "t", "--cores", cores)
    assert shown.code == 2
    assert "cores" in shown.err


def test_json_is_one_document_and_nothing_else(yunhe: Run, script: Script) -> None:
    page = OrderPage(orders=(order(),))
    script.say(page)
    shown = yunhe("orders", "--json")
    assert OrderPage.model_validate_json(shown.out) == page
    assert shown.err == ""


def test_a_site_that_pauses_itself_says_so_as_json_too(yunhe: Run, folder: Path) -> None:
    site = folder / "hall-7"
    site.mkdir()
    (site / "site.toml").write_text('hub_url = "http://127.0.0.1:1"\nsite_id = "hall-7"\nname = "Hall 7"\n')
    for command, accepting in (("pause", False), ("resume", True)):
        shown = yunhe("site", command, "--data-dir", "hall-7", "--json")
        assert (shown.code, shown.err) == (0, "")
        assert json.loads(shown.out) == {"data_dir": "hall-7", "accepting": accepting}
        assert (site / "paused").exists() is not accepting


def test_a_table_without_a_terminal_has_no_colour_and_no_cuts(yunhe: Run, script: Script) -> None:
    long = "x" * 80
    script.say(OrderPage(orders=(order().model_copy(update={"name": long}),)))
    shown = yunhe("orders")
    header, row = shown.out.splitlines()
    assert header.split()[:3] == ["order", "name", "state"]
    assert long in row
    assert "\x1b" not in shown.out


def test_what_a_site_wrote_cannot_steer_the_terminal(yunhe: Run, script: Script) -> None:
    script.say(OrderPage(orders=(order().model_copy(update={"name": "\x1b[2Jevil\r\n"}),)))
    shown = yunhe("orders")
    assert "\x1b" not in shown.out
    assert len(shown.out.splitlines()) == 2


def test_logs_are_copied_byte_by_byte(script: Script) -> None:
    raw = b"\xff\xfe not utf-8 \x00\r\n"
    attempts = {"Yunhe-Attempt": "1", "Yunhe-Latest-Attempt": "1"}
    headers = {"Yunhe-Next-Offset": str(len(raw)), "Yunhe-Complete": "true", **attempts}
    script.say(Reply(raw, 200, headers), Reply(b"", 200, headers))
    environment = os.environ | {"YUNHE_URL": script.url}
    done = subprocess.run(
        [sys.executable, "-m", "yunhe.cli.main", "logs", "o-1"],
        env=environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == raw


def test_wait_that_is_too_long_has_a_status_of_its_own(yunhe: Run, script: Script) -> None:
    script.say(order(OrderState.RUNNING))
    shown = yunhe("wait", "o-1", "--timeout", "200ms")
    assert shown.code == 124
    assert "still running" in shown.err


def test_ctrl_c_is_status_130_without_a_traceback(script: Script, folder: Path) -> None:
    script.say(order(OrderState.RUNNING))
    process = subprocess.Popen(
        [sys.executable, "-m", "yunhe.cli.main", "wait", "o-1"],
        env=os.environ | {"YUNHE_URL": script.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 30
        while not script.seen and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "yunhe cancel o-1" in err
    assert "Traceback" not in err


def on_a_terminal(url: str, *arguments: str) -> tuple[int, str]:
    """Run a command line with a terminal of 100 columns; its status and all it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "yunhe.cli.main", *arguments],
        env=os.environ | {"YUNHE_URL": url, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": ""},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed: the process has ended
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return process.wait(30), shown.decode()


def test_on_a_terminal_there_is_colour_and_progress(script: Script, folder: Path) -> None:
    script.say(OrderPage(orders=(order(OrderState.RUNNING),)))
    code, shown = on_a_terminal(script.url, "orders")
    assert code == 0
    assert "\x1b[36mrunning" in shown
    script.say(order(OrderState.RUNNING), order(OrderState.SUCCEEDED, settled=True))
    code, shown = on_a_terminal(script.url, "wait", "o-1")
    assert code == 0
    assert "\x1b[?25l" in shown  # the cursor is hidden while the state is shown in place
    assert "o-1 succeeded after 3.2 s" in shown
    script.say(errors.NotFound("no such order"))
    code, shown = on_a_terminal(script.url, "show", "o-1")
    assert code == 4
    assert "\x1b[1;31merror:\x1b[0m no such order" in shown


def test_a_table_that_does_not_fit_becomes_blocks_that_can_be_copied(script: Script, folder: Path) -> None:
    order_id = "ord_" + "0123456789abcdef" * 6
    script.say(OrderPage(orders=(order(OrderState.RUNNING, order_id=order_id), order(OrderState.RUNNING))))
    code, shown = on_a_terminal(script.url, "orders")
    assert code == 0
    assert order_id in shown
    assert "o-1" in shown
    assert "submitted" in shown


def test_last_is_the_latest_order(yunhe: Run, script: Script) -> None:
    script.say(OrderPage(orders=(order(order_id="o-9"),)), order(OrderState.SUCCEEDED, settled=True))
    assert yunhe("wait", "last").code == 0
    assert script.seen[-1].target.startswith("/v1/orders/o-9/")
    script.say(OrderPage(orders=()))
    assert yunhe("show", "last").code == 4


def test_without_a_key_the_key_is_what_is_missing(yunhe: Run, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YUNHE_API_KEY")
    script.say(errors.Unauthenticated("this call needs the header 'Authorization: Bearer yk_...'"))
    shown = yunhe("orders")
    assert shown.code == 4
    assert shown.err.startswith("error: no key for this hub")


def test_login_stores_a_key_that_the_hub_knows(
    yunhe: Run, script: Script, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = script.url
    monkeypatch.delenv("YUNHE_URL")
    monkeypatch.delenv("YUNHE_API_KEY")
    script.say(errors.Unauthenticated("unknown key"))
    assert yunhe("login", url, "--api-key", "k-1").code == 4
    assert "found in         default" in yunhe("config").out
    script.say(WhoAmI(organisation="acme", member="li.wei", role="customer"))
    assert yunhe("login", url, "--api-key", "k-1").code == 0
    assert script.seen[-1].headers["authorization"] == "Bearer k-1"
    shown = yunhe("config")
    assert url in shown.out
    assert "k-1" not in shown.out + yunhe("config", "--json").out
    write_network_file(folder, "http://127.0.0.1:1", "k-2")
    assert "--profile default" in yunhe("login", url, "--api-key", "k-1").err


def test_completion_offers_ids_and_is_silent_without_a_hub(script: Script, folder: Path) -> None:
    def complete(url: str) -> str:
        environment = os.environ | {
            "YUNHE_URL": url,
            "_YUNHE_COMPLETE": "complete_bash",
            "COMP_WORDS": "yunhe show o",
            "COMP_CWORD": "2",
        }
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from yunhe.cli.main import main; sys.exit(main())"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.strip()

    script.say(OrderPage(orders=(order(), order(order_id="other"), order(order_id="x"))))
    assert complete(script.url).split() == ["o-1", "other"]
    assert complete("http://127.0.0.1:1") == ""


def site(**changes: object) -> SiteView:
    values: dict[str, object] = {
        "id": "hall-7",
        "name": "Hall 7",
        "provider": "north",
        "state": "active",
        "connected": True,
        "accepting": True,
        "cluster": None,
        "region": "Hebei",
        "lat": 40.0,
        "lon": 115.0,
        "pue_milli": 1250,
        "carbon_g_per_kwh": 726,
        "power_price_microcny_per_kwh": 600_000,
        "assumed": ("price_microcny_per_core_hour",),
        "tier": 1,
        "isolation": "bubblewrap",
        "last_contact_utc_ms": None,
        "certified_utc_ms": None,
        **changes,
    }
    return SiteView.model_validate(values)


def test_a_site_has_no_tier_before_it_is_certified_and_its_silence_a_length(yunhe: Run, script: Script) -> None:
    heard_ms = round(time.time() * 1000) - 16_000
    silent = site(id="hall-8", connected=False, certified_utc_ms=1, last_contact_utc_ms=heard_ms)
    script.say(SiteList(sites=(site(state="pending"), silent)))
    header, pending, other = yunhe("site", "list").out.splitlines()
    tier = header.index("tier")
    assert (pending[tier : tier + 4].strip(), other[tier : tier + 4].strip()) == ("-", "1")
    assert re.search(r"active, silent 1[5-9]\.\d s", other)


def test_approving_says_at_which_price_and_that_it_is_assumed(yunhe: Run, script: Script) -> None:
    script.say(site(state="pending"), site())
    shown = yunhe("site", "approve", "hall-7")
    assert shown.out == "hall-7 active\n"
    price = format_money(defaults()["price_microcny_per_core_hour"].value)
    assert f"sold at {price} per core-hour (assumed), power 0.60CNY per kWh;" in shown.err


def test_an_invoice_has_one_line_per_order(yunhe: Run, script: Script) -> None:
    price = PriceView(compute_microcny=20, energy_microcny=1, transfer_microcny=0, line_microcny=0, total_microcny=21)
    lines = tuple(
        InvoiceLine(order_id="o-1", order_name="sweep", lease_id=f"o-1.{n}", epoch=1, site_id="s-1", price=price)
        for n in range(20)
    )
    script.say(InvoiceView(account="org:acme", month="2026-11", lines=lines, total_microcny=420))
    shown = yunhe("invoice").out.splitlines()
    assert [line.split() for line in shown[1:]] == [
        ["order", "name", "tasks", "site", "compute", "energy", "total"],
        ["o-1", "sweep", "20", "s-1", "0.0004CNY", "0.00002CNY", "0.00042CNY"],
        ["total", "0.00042CNY"],
    ]
    assert re.fullmatch(r"/v1/invoices/\d{4}-\d\d", script.seen[-1].target)
    assert len(yunhe("invoice", "2026-11", "--detail").out.splitlines()) == 23
