"""The agent against a hub: what it runs, reports, and how often."""

from tests.fakes.fake_hub import FakeHub, start_lease
from tests.site.conftest import SiteProcess
from yunhe.core.lifecycle import EndReason


def test_a_lease_runs_end_to_end(hub: FakeHub, site: SiteProcess) -> None:
    bundle = hub.add_bundle({"job.py": "print('hello')\nopen('out/r.txt', 'w').write('42')\n", "out/.keep": ""})
    hub.tell(start_lease("a", ("python3", "job.py"), bundle_sha256=bundle, outputs=("out/r.txt",)))
    end = hub.wait_end("a")
    assert (end.reason, end.exit_code, end.detail) == (EndReason.EXITED, 0, "")
    assert bytes(hub.site.logs["a.1"]) == b"hello\n"
    assert bytes(hub.site.outputs["a.1/out/r.txt"]) == b"42"
    kinds = [report.kind for report in hub.reports("a")]
    assert kinds[0] == "started" and kinds[-2:] == ["usage", "ended"]
    usage = hub.usage("a")
    assert [u.n for u in usage] == list(range(len(usage)))
    assert usage[-1].final and usage[-1].to_ms == usage[-1].totals.wall_ms > 0
    assert usage[-1].totals.cpu_ms > 0 and usage[-1].totals.peak_memory_bytes > 0
