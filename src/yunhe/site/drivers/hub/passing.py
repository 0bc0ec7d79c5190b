"""A lease of the hub above as an order for the hub below. Pure."""

import hashlib

from yunhe.core.units import MICRO
from yunhe.sdk.checked import checked
from yunhe.site.drivers.contract import Job, LeaseKey, SpawnFailed
from yunhe.site.drivers.hub.supply import Offered
from yunhe.site.settings import LowerHubSettings
from yunhe.wire.api import OrderSpec
from yunhe.wire.link import DataInput, StartLease
from yunhe.wire.origin import MAX_HUBS, Origin

MAX_KEY = 100
TAG_DIGITS = 12
INDEX = "YUNHE_TASK_INDEX"
OWN_NAMES = (INDEX, "YUNHE_LEASE_ID")  # of a job's environment: every hub on the way sets them itself


def tag_of(upper_id: str, site_id: str) -> str:
    """Stands for this site in the keys of its orders below: two sites with one account there never meet."""
    return hashlib.sha256(f"{upper_id}/{site_id}".encode()).hexdigest()[:TAG_DIGITS]


def key_of(tag: str, key: LeaseKey) -> str:
    """The Idempotency-Key of a lease epoch: below it is one order, however often it is submitted."""
    text = f"{tag}:{key}"
    return text if len(text) <= MAX_KEY else f"{tag}:{hashlib.sha256(text.encode()).hexdigest()}"


def check(job: Job, pool: Offered | None, settings: LowerHubSettings) -> Offered:
    """The offered pool of the lease. Raises SpawnFailed for what this site does not pass down."""
    lease = job.lease
    if pool is None:
        raise SpawnFailed(f"this site has no pool {lease.pool!r}")
    limit = min(pool.largest_milli, pool.report.capacity_milli)
    if lease.slot_milli > pool.report.max_slot_milli or lease.slots * lease.slot_milli > limit:
        raise SpawnFailed(f"{lease.slots} x {lease.slot_milli / 1000:g} units are more than one pool below has")
    if settings.max_run_ms is not None and lease.run_limit_ms > settings.max_run_ms:
        raise SpawnFailed(f"this site passes down runs of at most {settings.max_run_ms} ms")
    if lease.origin is not None and len(lease.origin.hubs) + 1 >= MAX_HUBS:
        raise SpawnFailed(f"the order has gone through {len(lease.origin.hubs) + 1} hubs, the most there may be")
    return pool


def order_of(job: Job, pool: Offered, upper_id: str, settings: LowerHubSettings) -> OrderSpec:
    """The order below: pinned to the pool, once, with the way that it took, and with its secrets in the clear. Raises
    InvalidInput for what it refuses."""
    lease = job.lease
    core = pool.report.kind_of_unit == "core"
    command: dict[str, object] = {"command": lease.command}
    if pool.report.stack != "cpu":
        command = {"stacks": {pool.report.stack: lease.command}}
    requirement = {
        "cores" if core else "cards": lease.slot_milli / 1000 if core else lease.slot_milli // 1000,
        "slots": lease.slots,
        "memory": f"{lease.slot_memory_bytes}B" if lease.slot_memory_bytes else None,
        "pools": tuple(member.pool.id for member in pool.members),
    }
    sent = {item.path: item.url for item in lease.deliveries}
    run = {
        **command,
        "image": lease.image,
        "network": lease.network,
        "env": {name: text for name, text in lease.env.items() if name not in OWN_NAMES},
        "files": dict(job.files),
        "inputs": [_input(item) for item in lease.inputs],
        "outputs": [{"path": path, "url": sent[path]} if path in sent else path for path in lease.outputs],
        "secrets": {name: value.decode() for name, value in job.secrets.items()},
    }
    return checked(
        OrderSpec,
        {
            "name": str(job.key)[:80],
            "run": run,
            "requirement": requirement,
            "duration": f"{lease.run_limit_ms}ms",
            "deadline": f"{lease.run_limit_ms + settings.start_within_ms}ms",
            "budget": _budget(lease, settings),
            "spot": lease.spot,
            "origin": origin_of(lease, upper_id),
        },
    )


def _input(item: DataInput) -> dict[str, object]:
    stated = {"size": item.size_bytes, "sha256": item.sha256 or None, "secret": item.secret or None}
    return {"url": item.url, "path": item.path, **stated}


def _budget(lease: StartLease, settings: LowerHubSettings) -> str | None:
    """What the lease can bring this site at most, and what the site is ready to lose; None where the hub above does
    not say."""
    if not lease.earns_microcny:
        return None
    most = lease.earns_microcny * (10_000 + settings.max_loss_bps) // 10_000
    return f"{most // MICRO}.{most % MICRO:06d}CNY"


def origin_of(lease: StartLease, upper_id: str) -> Origin:
    """Whose order it is, from the customer's own hub to the one above."""
    index = lease.env.get(INDEX, "")
    tenant = hashlib.sha256(f"{upper_id}/{lease.tenant}".encode()).hexdigest()[:16]
    if lease.origin is not None:
        return lease.origin.model_copy(update={"hubs": (*lease.origin.hubs, upper_id), "tenant": tenant})
    return Origin(
        hubs=(upper_id,), lease_id=lease.lease_id, index=int(index) if index.isdecimal() else 0, tenant=tenant
    )
