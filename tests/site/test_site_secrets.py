"""Secrets at a site: an engine that cannot deliver them, a hub that does not give them."""

from collections.abc import Callable

from tests.fakes.fake_hub import FakeHub, start_lease
from tests.site.conftest import SiteProcess
from yunhe.core.lifecycle import EndReason


def test_an_engine_that_cannot_deliver_them_says_so_and_starts_nothing(
    hub: FakeHub, make_site: Callable[..., SiteProcess]
) -> None:
    make_site(engine="fake").start()
    hub.tell(start_lease("ord_1.0", ("run", "10"), secrets=("TOKEN",)), start_lease("ord_2.0", ("run", "10")))
    end = hub.wait_end("ord_1.0")
    assert (end.reason, end.detail) == (EndReason.SPAWN_FAILED, "this engine cannot deliver secrets")
    assert hub.reports("ord_1.0", "started") == []
    assert hub.wait_end("ord_2.0").reason is EndReason.EXITED


def test_a_lease_whose_secrets_the_hub_does_not_give_is_not_started(hub: FakeHub, site: SiteProcess) -> None:
    """This hub has no such address, as one of an older version."""
    hub.tell(start_lease("ord_1.0", ("sh", "-c", "echo started"), secrets=("TOKEN",)))
    end = hub.wait_end("ord_1.0")
    assert end.reason is EndReason.SPAWN_FAILED and "404" in end.detail
    assert hub.reports("ord_1.0", "started") == []
    assert not list((site.data_dir / "leases").glob("ord_1.0*"))
