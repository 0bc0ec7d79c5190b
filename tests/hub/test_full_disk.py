"""A hub whose disk is full refuses what it could not keep, keeps what it acknowledged, and recovers by itself."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.fakes.agent import order_json, ran
from tests.hub.running import RunningHub, running_hub

JSON = {"Content-Type": "application/json"}
DISK = "24m"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB."""
    at = tmp_path / "disk"
    at.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(at)], capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"no small file system can be mounted here (that takes root): {made.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


@contextmanager
def filled(disk: Path, leave_bytes: int = 0) -> Iterator[None]:
    """Somebody else's file takes the rest of the disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            for _ in range(max(0, free - leave_bytes) // 4096 + (0 if leave_bytes else 1)):
                file.write(b"x" * 4096)
        except OSError:
            pass  # full, as it was meant to be
    try:
        yield
    finally:
        filler.unlink()


def submit(customer: httpx.Client) -> httpx.Response:
    return customer.post("/v1/orders", content=order_json(), headers=JSON)


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 507, answer.text
    told = answer.json()
    assert (told["code"], told["retryable"], told["status"]) == ("storage_full", True, 507)


def ids(customer: httpx.Client) -> list[str]:
    page = customer.get("/v1/orders", params={"limit": 1000})
    assert page.status_code == 200
    return sorted(order["id"] for order in page.json()["orders"])


def goes_on(hub: RunningHub, customer: httpx.Client, known: list[str]) -> None:
    until = time.monotonic() + 15
    while (again := submit(customer)).status_code != 201:
        assert again.status_code in (503, 507) and time.monotonic() < until, again.text
        time.sleep(0.2)
    assert ids(customer) == sorted([*known, again.json()["id"]])
    assert hub.operator.get("/v1/trial-balance").json()["balanced"]


def test_a_database_without_room_refuses_and_recovers(small_disk: Path) -> None:
    settings = {"min_free_disk_bytes": 0, "poll_hold_ms": 1_000, "leader_ttl_ms": 1_000}
    with running_hub(f"sqlite:///{small_disk}/hub.db", small_disk / "data", **settings) as hub:
        site, customer = hub.site(), hub.customer()
        known = [submit(customer).json()["id"] for _ in range(5)]
        with filled(small_disk):
            for _ in range(50):
                answer = submit(customer)
                if answer.status_code == 201:  # the database had a page or two left
                    known.append(answer.json()["id"])
                else:
                    refused(answer)
            refused(submit(customer))
            assert ids(customer) == sorted(known)
            assert customer.get("/v1/balance").json()["held_microcny"] > 0
            assert hub.operator.get("/v1/trial-balance").json()["balanced"]
            time.sleep(1.5)  # the loops meet it too
            assert hub.client().get("/healthz").status_code == 200
        goes_on(hub, customer, known)
        seen = 0
        until = time.monotonic() + 20
        while seen <= len(known) and time.monotonic() < until:
            starts = site.wait_starts()
            seen += len(starts)
            site.poll([report for start in starts for report in ran(start)])
        for order in ids(customer):
            ended = customer.get(f"/v1/orders/{order}/wait", params={"timeout_ms": 10_000}).json()
            assert (ended["state"], ended["settled"]) == ("succeeded", True)
        assert hub.operator.get("/v1/trial-balance").json()["balanced"]


def test_room_that_is_kept_free_is_not_given_to_orders_or_logs(small_disk: Path, tmp_path: Path) -> None:
    settings = {"min_free_disk_bytes": 4 << 20, "poll_hold_ms": 1_000}
    with running_hub(f"sqlite:///{tmp_path}/hub.db", small_disk / "data", **settings) as hub:
        site, customer = hub.site(), hub.customer()
        known = [submit(customer).json()["id"]]
        [start] = site.wait_starts()
        target = f"/v1/agent/logs/{start.lease_id}/{start.epoch}?offset=0"
        with filled(small_disk, leave_bytes=2 << 20):
            time.sleep(1.1)  # the hub looks once a second
            refused(submit(customer))
            refused(customer.post("/v1/orders:batch", content='{"orders": [' + order_json() + "]}", headers=JSON))
            refused(site.send("PUT", target, b"line\n"))
            assert ids(customer) == known
            site.poll(ran(start))  # what was accepted before is brought to its end
            ended = customer.get(f"/v1/orders/{known[0]}/wait", params={"timeout_ms": 10_000}).json()
            assert (ended["state"], ended["settled"]) == ("succeeded", True)
        time.sleep(1.1)
        assert site.send("PUT", target, b"line\n").json() == {"size": 5}
        goes_on(hub, customer, known)
