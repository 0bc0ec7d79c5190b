"""The Ray driver behind the harness of the contract suite, on one real head for all tests of the session."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.harness import QUICK, Harness
from tests.engines import ray
from yunhe.site.drivers.ray.driver import RayDriver
from yunhe.site.settings import RaySettings

MEMORY_BYTES = 6_000_000_000
CLUSTER = ray.Shape(
    cpus=8, memory_bytes=MEMORY_BYTES, gpus=2, resources={"accelerator_type:H20": 1, "MLU": 2, "site_a": 1}
)
QUICK_RAY = RaySettings(
    call_limit_ms=4_000,
    listing_interval_ms=300,
    listing_valid_ms=2_500,
    news_ms=20,
    vanished_ms=500,
    start_ms=15_000,
    lost_ms=1_500,
    cancel_hard_ms=1_000,
)


class RayHarness(Harness):
    """A site of its own on the head that the tests share."""

    def __init__(self, head: ray.Head, tmp_path: Path, **changes: Any) -> None:
        self.head = head
        wanted = {"address": head.address, "token_file": head.token_file, **changes}
        settings = QUICK_RAY.model_copy(update=wanted)
        data_dir = tmp_path / "site"
        data_dir.mkdir(mode=0o700, exist_ok=True)
        super().__init__(lambda: RayDriver(QUICK, settings, "test", data_dir), scripted=False, data_dir=data_dir)


@pytest.fixture(scope="session")
def head() -> Iterator[ray.Head]:
    """A real Ray, for all tests of the session."""
    if why := ray.missing():
        pytest.skip(why)
    # Its sockets want a short path.
    with tempfile.TemporaryDirectory(prefix="yunhe-ray-") as folder:
        made = ray.Head(Path(folder), CLUSTER)
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture
def on_ray(head: ray.Head, tmp_path: Path) -> Iterator[RayHarness]:
    made = RayHarness(head, tmp_path)
    yield made
    made.close()
