"""`yunhe site tariff`, and what a quote and `why` say of hours, against a real hub."""

import json
import time
from pathlib import Path

import httpx
import pytest

from tests.hub.running import running_hub
from yunhe.cli.main import main
from yunhe.cli.tariffs import multiples, read_forecast
from yunhe.core.errors import InvalidInput

HOUR_S = 3_600


def test_spans_of_hours_are_read() -> None:
    found = multiples("0-8:0.4, 10-12:1.6", "--power")
    assert (found[0], found[7], found[8], found[10], found[12]) == (0.4, 0.4, 1.0, 1.6, 1.0) and len(found) == 24
    assert multiples("flat", "--power") == ()
    for bad in ("8", "8-4:1", "0-25:1", "0-8:-1", "0-8:x", ""):
        with pytest.raises(InvalidInput) as refused:
            multiples(bad, "--power")
        assert refused.value.field == "--power" and refused.value.hint


def test_a_forecast_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "told.json"
    for text in ("[]", "{}", '{"power": 1}', "{"):
        file.write_text(text)
        with pytest.raises(InvalidInput):
            read_forecast(file)
    with pytest.raises(InvalidInput):
        read_forecast(tmp_path / "nothing.json")


def test_a_site_gets_hours_and_an_order_waits_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_hub(f"sqlite:///{tmp_path}/hub.db", tmp_path / "data") as hub:
        site = hub.site()
        customer = hub.customer()

        def yunhe(who: httpx.Client, *words: str) -> str:
            monkeypatch.setenv("YUNHE_URL", str(who.base_url))
            monkeypatch.setenv("YUNHE_API_KEY", who.headers["authorization"].removeprefix("Bearer "))
            code = main(words)
            said = capsys.readouterr()
            assert code == 0, said.err
            return said.out

        hour = (int(time.time()) // HOUR_S + 8) % 24
        dear = ",".join(f"{at % 24}-{at % 24 + 1}:9" for at in (hour, hour + 1))  # this hour and the next
        assert "assumed flat" in yunhe(hub.operator, "site", "show", site.site_id)
        shown = yunhe(hub.operator, "site", "tariff", site.site_id, "--power", dear)
        assert "stated by the operator" in shown and "per kWh now, " in shown
        order = ("--cores", "1", "--duration", "1m", "--patience", "20h")
        assert "best hour" in yunhe(customer, "quote", *order)
        offer = json.loads(yunhe(customer, "quote", *order, "--json"))["offers"][0]
        assert offer["best_start_utc_ms"] > time.time() * 1000 and offer["best_saves"] > 0
        placed = json.loads(yunhe(customer, "submit", *order, "--json", "--", "true"))["orders"][0]
        why = json.loads(yunhe(customer, "why", placed["id"], "--json"))
        assert why["wait"]["start_utc_ms"] == offer["best_start_utc_ms"] and "cheaper hour" in why["summary"]
        assert yunhe(hub.operator, "site", "tariff", site.site_id, "--power", "flat").count("stated by") == 1
