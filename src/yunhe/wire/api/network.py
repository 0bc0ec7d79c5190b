"""The network as a whole, as anybody may see it: no customer is named. And what happens, as it happens.

General compute is FP32 of processors, intelligent compute FP16 of accelerators; the two are never added.
"""

from yunhe.wire.message import Answer


class ComputeView(Answer):
    """Rates in GFLOP/s, dense: measured where it was measured, nominal otherwise. `used`: leased or in foreign use."""

    general_gflops: int = 0
    general_used_gflops: int = 0
    intelligent_gflops: int = 0
    intelligent_used_gflops: int = 0


class NetworkSiteView(ComputeView):
    id: str
    name: str
    provider: str
    region: str
    cluster: str | None
    lat: float
    lon: float
    state: str
    connected: bool
    tier: int
    carbon_g_per_kwh: int
    bandwidth_bps: int
    vendors: tuple[str, ...]


class NetworkView(Answer):
    at_utc_ms: int
    sites: tuple[NetworkSiteView, ...]


class NetworkSample(ComputeView):
    at_utc_ms: int
    sites: int
    connected: int


class NetworkHistory(Answer):
    samples: tuple[NetworkSample, ...]  # oldest first


class EventView(Answer):
    """One thing that happened to an order. A stream goes on behind the event of an `id`, and misses none."""

    id: str
    at_utc_ms: int
    order_id: str
    lease_id: str | None
    epoch: int | None
    kind: str
    detail: str
    site_id: str | None = None


class EventPage(Answer):
    events: tuple[EventView, ...]  # newest first
    next_cursor: str | None = None
