"""Bad luck: watches that break, servers that go, nodes that fall silent. The state stays true or unknown."""

import logging
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.kube_harness import KubeHarness
from yunhe.core.errors import Unavailable
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey, Phase
from yunhe.site.drivers.kubernetes.engine import Engine


def engine(kube: KubeHarness) -> Engine:
    found: Engine = kube.driver._engine  # type: ignore[attr-defined]
    return found


def test_a_watch_is_resumed_and_not_listed_again(kube: KubeHarness) -> None:
    """The server ends each watch after a second here; the next one begins where it ended."""
    key = kube.submit("a", kube.command(run_ms=3_500))
    kube.ended(key)
    assert (engine(kube).jobs.lists, engine(kube).pods.lists) == (1, 1)


def test_a_point_that_the_server_has_forgotten(kube: KubeHarness) -> None:
    """410 Gone: everything is listed again, and what happened meanwhile is not lost."""
    key = kube.submit("a", kube.command(run_ms=1_500))
    kube.until(key, Phase.STARTED)
    kube.cluster.end("kube-apiserver")
    kube.cluster.start_server()  # it remembers events from here on
    watch = engine(kube).pods
    before = watch.lists

    def listed() -> bool:
        if watch._version:  # not while it is about to list
            watch._version = "1"
        return watch.lists > before

    kube.eventually(listed)
    assert kube.ended(key).exit_code == 0


def test_the_api_server_is_away_and_comes_back(kube: KubeHarness) -> None:
    running = kube.submit("a", kube.command(say="on", run_ms=9_000))
    short = kube.submit("b", kube.command(code=3, run_ms=1_000))
    kube.until(running, Phase.STARTED)
    kube.until(short, Phase.STARTED)
    kube.cluster.end("kube-apiserver")
    try:
        kube.eventually(lambda: kube.status(running).phase is Phase.UNKNOWN)
        asked = kube.job("c", kube.command(say="late"))
        kube.run(kube.driver.submit(asked))
        assert kube.status(asked.key).phase is Phase.UNKNOWN
        assert kube.run(kube.driver.logs(running, 0, 100)) in (b"", b"on\n")
    finally:
        kube.cluster.start_server()
    assert kube.ended(short).exit_code == 3
    assert kube.ended(running).exit_code == 0
    assert kube.ended(asked.key).exit_code == 0
    assert kube.log(asked.key) == b"late\n"


def test_a_cancel_while_the_server_is_away(kube: KubeHarness) -> None:
    key = kube.submit("a", kube.command(run_ms=60_000), run_limit_ms=60_000)
    kube.until(key, Phase.STARTED)
    kube.cluster.end("kube-apiserver")
    try:
        kube.run(kube.driver.cancel(key, EndReason.CANCELLED))
        kube.reopen()
        assert kube.status(key).phase is Phase.UNKNOWN
    finally:
        kube.cluster.start_server()
    assert kube.ended(key).reason is EndReason.CANCELLED


def test_a_silent_server_is_one_that_does_not_answer(kube: KubeHarness) -> None:
    """It takes connections and says nothing: every request has an end."""
    key = kube.submit("a", kube.command(run_ms=12_000))
    kube.until(key, Phase.STARTED)
    server = kube.cluster.running["kube-apiserver"]
    server.send_signal(signal.SIGSTOP)
    try:
        kube.eventually(lambda: kube.status(key).phase is Phase.UNKNOWN)
        began = time.monotonic()
        kube.run(kube.driver.observe([key]))
        assert time.monotonic() - began < 1
    finally:
        server.send_signal(signal.SIGCONT)
    assert kube.ended(key).exit_code == 0


def test_a_node_falls_silent(kube: KubeHarness) -> None:
    """Not known while the node is; lost when Kubernetes has given it up, and never a success."""
    key = kube.submit("a", kube.command(run_ms=60_000), run_limit_ms=60_000)
    kube.until(key, Phase.STARTED)
    (pod,) = kube.pods(key)
    node = pod["spec"]["nodeName"]
    kube.cluster.silence(node)
    try:
        kube.until(key, Phase.UNKNOWN)
        status = kube.ended(key, 40)
        assert status.reason is EndReason.SUPERVISOR_LOST and "node" in status.detail
    finally:
        kube.cluster.unsilence(node)
    kube.eventually(lambda: not kube.pods(key))


def test_a_namespace_that_somebody_removed(kube: KubeHarness) -> None:
    kube.ended(kube.submit("a", kube.command()))
    namespace = f"/api/v1/namespaces/{kube.namespace}"
    kube.cluster.call("DELETE", namespace)
    kube.cluster.until(lambda: kube.there(namespace) is None, "remove the namespace")
    assert kube.ended(kube.submit("b", kube.command(code=4))).exit_code == 4


def test_a_lost_folder(kube: KubeHarness, tmp_path: Path) -> None:
    """The agent's disk is gone, its jobs are not: they are known, and can be cleared."""
    key = kube.submit("a", kube.command(run_ms=60_000), run_limit_ms=60_000)
    kube.until(key, Phase.STARTED)
    kube.run(kube.driver.close())
    kube.lease_dir(key).rename(tmp_path / "elsewhere")
    kube.reopen_closed()
    kube.eventually(lambda: key in kube.run(kube.driver.known()))
    kube.run(kube.driver.cancel(key, EndReason.SUPERVISOR_LOST))
    kube.ended(key)
    kube.run(kube.driver.forget(key))
    assert kube.status(key).phase is Phase.ABSENT


def test_an_unanswered_submit_is_made_once(kube: KubeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server took it and its answer was lost: the same name again is the same job."""
    client = engine(kube).client
    original = client._call

    async def deaf(method: str, path: str, *rest: Any, **more: Any) -> Any:
        answer = await original(method, path, *rest, **more)
        if method == "POST" and path.endswith("/jobs"):
            monkeypatch.setattr(client, "_call", original)
            raise Unavailable("lost on the way")
        return answer

    monkeypatch.setattr(client, "_call", deaf)
    key = kube.submit("a", kube.command(say="once", run_ms=1_000))
    assert kube.ended(key).exit_code == 0
    assert kube.log(key) == b"once\n"


class Killed(Exception):
    pass


@pytest.mark.parametrize("point", ["driver.prepared", "driver.launched"])
def test_an_agent_killed_while_it_submits(kube: KubeHarness, point: str) -> None:
    """Before the server was asked nothing is known of it, and it is submitted again; after, it runs, once."""

    def crash(name: str) -> None:
        if name == point:
            raise Killed

    job = kube.job("a", kube.command(say="once", run_ms=500))
    kube.driver._crash_point = crash  # type: ignore[attr-defined]
    with pytest.raises(Killed):
        kube.run(kube.driver.submit(job))
    kube.reopen()
    if point == "driver.prepared":
        kube.until(job.key, Phase.ABSENT)
        kube.run(kube.driver.submit(job))
    assert kube.ended(job.key).exit_code == 0
    assert kube.log(job.key) == b"once\n"


def test_no_word_of_the_credentials(kube: KubeHarness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = (
        kube.settings.kubeconfig.read_text().split('"token": "')[1].split('"')[0] if kube.settings.kubeconfig else ""
    )
    assert len(token) > 100
    kube.ended(kube.submit("a", kube.command()))
    kube.cluster.end("kube-apiserver")
    try:
        kube.eventually(lambda: kube.status(LeaseKey("a", 1)).phase is Phase.ENDED)
        kube.run(kube.driver.changed(300))
    finally:
        kube.cluster.start_server()
    assert caplog.records and token not in caplog.text
