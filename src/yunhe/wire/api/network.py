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
    """Its line leads to `place`, the nearest of the facts: `one_way_us` is computed, not measured; `load_bps` is what
    inputs and outputs of `transfers` moved at by the site's last word, and `left_bytes` what of known sizes is left."""

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
    place: str = ""
    place_lat: float = 0.0
    place_lon: float = 0.0
    one_way_us: int = 0
    transfers: int = 0
    left_bytes: int = 0
    load_bps: int = 0


class NetworkView(Answer):
    at_utc_ms: int
    sites: tuple[NetworkSiteView, ...]


class NetworkChange(Answer):
    """What differs from what the stream said before; `whole`: it begins anew, and no other site takes part."""

    at_utc_ms: int
    whole: bool
    sites: tuple[NetworkSiteView, ...]
    gone: tuple[str, ...]  # ids


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
