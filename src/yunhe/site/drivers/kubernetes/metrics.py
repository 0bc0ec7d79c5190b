"""CPU time and memory of running pods, where the cluster has the metrics API: one question for all of them."""

from dataclasses import dataclass, field

from yunhe.site.drivers.kubernetes.client import KubeClient
from yunhe.site.drivers.kubernetes.views import LEASE, SITE, quantity, utc_ms

GROUP = "metrics.k8s.io"
PATH = f"/apis/{GROUP}/v1beta1/pods"


@dataclass(slots=True)
class Use:
    """Of one lease. `cpu_ms` sums rate x time between values; each value is a mean over the server's own window."""

    cpu_ms: float = 0.0
    peak_bytes: int = 0
    rounds: int = 0
    seen: dict[str, int] = field(default_factory=dict)  # pod -> time of its last value, ms


class Metrics:
    """`uses` by the lease's label."""

    def __init__(self, client: KubeClient, tag: str) -> None:
        self._client = client
        self._tag = tag
        self.uses: dict[str, Use] = {}

    async def take(self) -> None:
        """One round. Raises Unavailable or Refusal."""
        answer = await self._client.get(PATH, labelSelector=f"{SITE}={self._tag}")
        memory: dict[str, int] = {}
        for item in answer.get("items") or ():
            meta, when = item["metadata"], utc_ms(item.get("timestamp"))
            lease = (meta.get("labels") or {}).get(LEASE, "")
            use = self.uses.setdefault(lease, Use())
            window_ms = _window_ms(str(item.get("window", "")))
            before = use.seen.get(meta["name"], when - window_ms)
            if when <= before:
                continue
            use.seen[meta["name"]] = when
            usage = [container.get("usage") or {} for container in item.get("containers") or ()]
            rate = sum(quantity(one.get("cpu", "0")) for one in usage)
            use.cpu_ms += float(rate) * (when - before)
            memory[lease] = memory.get(lease, 0) + int(sum(quantity(one.get("memory", "0")) for one in usage))
        for lease, size in memory.items():
            use = self.uses[lease]
            use.peak_bytes = max(use.peak_bytes, size)
            use.rounds += 1


def _window_ms(text: str) -> int:
    """As "15s", "30.5s" or "1m0s"."""
    total, number = 0.0, ""
    for char in text:
        if char.isdigit() or char == ".":
            number += char
        elif char in "hms" and number:
            total += float(number) * {"h": 3600, "m": 60, "s": 1}[char]
            number = ""
    return round(total * 1000)
