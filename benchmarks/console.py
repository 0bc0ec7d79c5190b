"""console_first_paint, console_page_ms, console_hub_cpu, console_map_fps: the console on a network of 7,000 sites.

One stage serves all four: a hub on SQLite with 7,000 sites and 100,000 orders (`console_world`), a console, and a real
Chromium without a GPU, all on the same two cores.

- first paint: what the browser itself notes as first contentful paint, of a visitor's front page and of a customer's
  orders, each load in a browser that was never here before.
- time of a page: the console's answer and, one after the other, every call that the page makes at the hub, timed over
  HTTP without the console.
- hub CPU: of all the hub's processes while 20 pages are open and a site is paused or resumed every second; what the
  same hub takes with no page open stands beside.
- frames: in which the browser drew the map anew, while it is dragged and while the wheel is turned; and the time of the
  page's own thread that one took, by the clock of that thread, which other work on the machine does not stretch.
"""

import statistics
import time
from collections.abc import Sequence
from functools import lru_cache

import httpx
from playwright.sync_api import CDPSession, Page

from benchmarks.console_stage import Call, Stage, console, listening, stage
from benchmarks.figure import Extra, Figure
from benchmarks.hubs import HubProcess
from benchmarks.scene import Scene

LOADS, QUICK_LOADS = 12, 3
ROUNDS, QUICK_ROUNDS = 25, 4
REST_S = 1.1  # between loads: as of a visitor who finds nothing that was made a moment ago
WATCH_S, QUICK_WATCH_S = 30.0, 5.0
OPEN_PAGES = 20
MOVE_S = 3.0
SETTLE_S = 1.5
VISITED = ("/", "/orders", "/orders?state=failed", "/orders?text=train")
ORDERS = "a[href^='/orders/ord_']"
MAP = ".yunhe-map canvas"

# Counts the browser's frames in which a canvas was drawn anew, until it is stopped: [frames, seconds, longest gap, ms].
_COUNT = """() => { window.frames_ = [performance.now()];
  const clear = CanvasRenderingContext2D.prototype.clearRect;
  CanvasRenderingContext2D.prototype.clearRect = function (...a) { window.drawn_ = true; return clear.apply(this, a); };
  const next = () => { if (window.drawn_) window.frames_.push(performance.now()); window.drawn_ = false;
    window.going_ = requestAnimationFrame(next); };
  window.going_ = requestAnimationFrame(next); }"""
_STOP = """() => { cancelAnimationFrame(window.going_); const f = window.frames_;
  let gap = 0; for (let i = 1; i < f.length; i++) gap = Math.max(gap, f[i] - f[i - 1]);
  return [f.length - 1, (f[f.length - 1] - f[0]) / 1000, gap]; }"""
_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


def first_paint(scene: Scene) -> Figure:
    return _measured(scene)["first_paint"]


def page_ms(scene: Scene) -> Figure:
    return _measured(scene)["page_ms"]


def hub_cpu(scene: Scene) -> Figure:
    return _measured(scene)["hub_cpu"]


def map_fps(scene: Scene) -> Figure:
    return _measured(scene)["map_fps"]


@lru_cache(maxsize=1)
def _measured(scene: Scene) -> dict[str, Figure]:
    """Once per run."""
    with stage(scene) as on:
        return measure(scene, on)


def measure(scene: Scene, on: Stage) -> dict[str, Figure]:
    """All four on a stage that stands."""
    found = {}
    for name, one in (
        ("first_paint", _first_paint),
        ("page_ms", _page_ms),
        ("map_fps", _map_fps),
        ("hub_cpu", _hub_cpu),
    ):
        found[name] = one(scene, on)
        scene.say(f"{name}: {found[name].value:.3g} {found[name].extra}")
    return found


# --- first paint ------------------------------------------------------------------------------------------------------


def _first_paint(scene: Scene, on: Stage) -> Figure:
    loads = QUICK_LOADS if scene.quick else LOADS
    paints: dict[str, list[float]] = {}
    extra: dict[str, Extra] = {"loads": loads}
    for path, signed_in, content in (("/", False, MAP), ("/orders", True, ORDERS)):
        shown = []
        for _ in range(loads):
            context = on.context(signed_in=signed_in)
            page = context.new_page()
            began = time.monotonic()
            page.goto(on.url + path)
            page.locator(content).first.wait_for()
            shown.append(time.monotonic() - began)
            paints.setdefault(path, []).append(page.evaluate(_PAINT) / 1000)
            context.close()
            time.sleep(REST_S)
        name = path.strip("/") or "network"
        extra[f"{name}_paint_s"] = round(statistics.median(paints[path]), 3)
        extra[f"{name}_content_s"] = round(statistics.median(shown), 3)
    return Figure(max(statistics.median(each) for each in paints.values()), extra=extra)


# --- time of a page ---------------------------------------------------------------------------------------------------


def _page_ms(scene: Scene, on: Stage) -> Figure:
    spent: list[float] = []
    extra: dict[str, Extra] = {}
    for path, calls in _calls(scene, on).items():
        name = path.split("/ord_")[0].strip("/").replace("?", ".") or "network"
        each = [_once(on, path, calls) for _ in range(QUICK_ROUNDS if scene.quick else ROUNDS)]
        spent += [total for total, _ in each]
        extra[f"{name}_p95_ms"] = round(_p95([total for total, _ in each]), 1)
        extra[f"{name}_hub_p95_ms"] = round(_p95([at_hub for _, at_hub in each]), 1)
        extra[f"{name}_calls"] = len(calls)
    return Figure(_p95(spent), extra=extra)


def _calls(scene: Scene, on: Stage) -> dict[str, list[Call]]:
    """By page: what the hub is asked for."""
    with listening(on.hub.url) as (listener, address), console(address, scene.folder) as url:
        context = on.browser.new_context(storage_state=on.sign_in(url))
        page = context.new_page()
        found = {path: listener.calls_of(page, url + path, SETTLE_S) for path in VISITED}
        page.goto(f"{url}/orders?state=succeeded")
        one = str(page.locator(ORDERS).first.get_attribute("href"))
        found[one] = listener.calls_of(page, url + one, SETTLE_S)
        context.close()
    return found


def _once(on: Stage, path: str, calls: Sequence[Call]) -> tuple[float, float]:
    """(ms of the console's answer and of all calls, ms of the calls alone)."""
    time.sleep(REST_S)
    cookies = {cookie["name"]: cookie["value"] for cookie in on.cookies["cookies"]}
    with httpx.Client(timeout=30) as client:
        began = time.perf_counter()
        client.get(on.url + path, cookies=cookies).raise_for_status()
        answered = time.perf_counter()
        for call in calls:
            client.get(
                on.hub.url + call.path, headers={"Authorization": call.authorization} if call.authorization else {}
            )
        ended = time.perf_counter()
    return (ended - began) * 1000, (ended - answered) * 1000


def _p95(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]


# --- the hub's share of a core ----------------------------------------------------------------------------------------


def _hub_cpu(scene: Scene, on: Stage) -> Figure:
    span = scene.seconds(WATCH_S, QUICK_WATCH_S)
    site = str(on.hub.call("GET", "/v1/sites?limit=1")["sites"][0]["id"])  # type: ignore[index]
    quiet = _share(on.hub, site, span, [])
    visitor, customer = on.context(signed_in=False), on.context(signed_in=True)
    pages = []
    for number in range(OPEN_PAGES):
        context, path = (customer, "/orders") if number % 2 else (visitor, "/")
        page = context.new_page()
        page.goto(on.url + path)
        pages.append(page)
    for page in pages:
        page.wait_for_function("!document.querySelector('main .q-spinner')")
    share = _share(on.hub, site, span, pages)
    alive = sum(page.locator("[role=alert]").count() == 0 for page in pages)
    visitor.close()
    customer.close()
    return Figure(share, extra={"no_page_open": round(quiet, 1), "pages": len(pages), "pages_without_error": alive})


def _share(hub: HubProcess, site: str, span: float, pages: Sequence[Page]) -> float:
    """Percent of a core, while something changes every second. Pages need turns of this process to live."""
    began, before = time.monotonic(), hub.cpu_s()
    number = 0
    while time.monotonic() - began < span:
        hub.call("POST", f"/v1/sites/{site}/{'resume' if number % 2 else 'pause'}")
        number += 1
        if pages:
            pages[number % len(pages)].wait_for_timeout(1_000)
        else:
            time.sleep(1)
    return 100 * (hub.cpu_s() - before) / (time.monotonic() - began)


# --- frames of the map ------------------------------------------------------------------------------------------------


def _thread_s(metrics: CDPSession) -> float:
    """Seconds of CPU that the page's thread has taken for all its tasks."""
    found = {each["name"]: each["value"] for each in metrics.send("Performance.getMetrics")["metrics"]}
    return float(found["TaskDuration"])


def _map_fps(scene: Scene, on: Stage) -> Figure:
    context = on.context(signed_in=False)
    page = context.new_page()
    page.goto(on.url + "/")
    page.locator(MAP).first.wait_for()
    time.sleep(SETTLE_S)
    box = page.locator(MAP).first.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    metrics = context.new_cdp_session(page)
    metrics.send("Performance.enable", {"timeDomain": "threadTicks"})
    found, spent = {}, {}
    for name in ("wheel", "drag"):
        cpu = _thread_s(metrics)
        page.evaluate(_COUNT)
        until, step = time.monotonic() + MOVE_S, 0
        page.mouse.move(x, y)
        if name == "drag":
            page.mouse.down()
        while time.monotonic() < until:
            step += 1
            if name == "wheel":
                page.mouse.wheel(0, -60 if step % 40 < 25 else 60)
            else:
                page.mouse.move(x + 60 * (step % 5 - 2), y + 30 * (step % 7 - 3), steps=5)
        page.mouse.up()
        found[name] = page.evaluate(_STOP)
        spent[name] = _thread_s(metrics) - cpu
    context.close()
    extra: dict[str, Extra] = {}
    for name, (frames, seconds, gap_ms) in found.items():
        extra[f"{name}_fps"] = round(frames / seconds, 1)
        extra[f"{name}_longest_gap_ms"] = round(gap_ms, 1)
        extra[f"{name}_thread_ms_per_frame"] = round(1000 * spent[name] / max(1, frames), 1)
    return Figure(min(frames / seconds for frames, seconds, _ in found.values()), extra=extra)
