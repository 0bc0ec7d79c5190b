"""What to say when no site can take an order, beside that: why not, and what was perhaps meant."""

from collections import Counter
from collections.abc import Iterator

from yunhe.cli.output import clean
from yunhe.cli.wording import reason
from yunhe.core.errors import Refused, YunheError
from yunhe.core.units import format_milli, meant
from yunhe.facts import load
from yunhe.sdk.client import Client
from yunhe.wire.api import OrderSpec, QuoteView, ReasonView

MOST_REASONS = 3
ONE_CORE_MILLI = 1000


def explained(error: YunheError, hub: Client, order: OrderSpec, answer: QuoteView | None) -> YunheError:
    """A refusal because no site fits, with the most common reasons as its hint; other errors as they are."""
    if type(error) is not Refused or error.field != "requirement":
        return error
    lines = [*common_reasons(answer or hub.quote(order)), *doubts(hub, order)]
    return Refused(error.message, field=error.field, hint="\n      ".join(lines) or error.hint)


def common_reasons(answer: QuoteView) -> list[str]:
    """`3 of 3 pools: cores: needs 1, has 0.72`: the constraints that keep most pools away."""
    examples: dict[str, ReasonView] = {}
    counted: Counter[str] = Counter()
    for site in answer.refused:
        for missing in site.reasons:
            examples.setdefault(missing.code, missing)
        counted.update({missing.code for missing in site.reasons})
    pools = len(answer.refused)
    return [clean(f"{n} of {pools} pools: {reason(examples[code])}") for code, n in counted.most_common(MOST_REASONS)]


def doubts(hub: Client, order: OrderSpec) -> Iterator[str]:
    """What in an order that fits nowhere was perhaps not meant so: no size, a region or a site that there is not."""
    wanted = order.requirement
    unsized = wanted.cores is None and wanted.cards is None and wanted.compute is None and wanted.work is None
    if unsized and wanted.chip is None and order.run.command is not None:
        largest = max((pool.capacity_milli for pool in hub.pools() if pool.unit == "core"), default=0)
        if 0 < largest < ONE_CORE_MILLI:
            has = f"the largest pool has {format_milli(largest)} cores"
            yield f"no size given: 1 core is assumed; {has} (say --cores 0.5)"
    if not wanted.residency and not wanted.sites:
        return
    sites = hub.sites()
    regions = {site.region for site in sites} | {place.region for place in load.places()}
    named = {factor.name_zh: factor.name_en for factor in load.carbon_factors()}
    for region in sorted(set(wanted.residency) - regions):
        hint = f"did you mean {named[region]!r}?" if region in named else meant(region, sorted(regions))
        yield f"no region is called {region!r}: {hint}"
    ids = [site.id for site in sites]
    for site_id in sorted(set(wanted.sites) - set(ids)):
        yield f"no site has the id {site_id!r}: {meant(site_id, ids) if ids else 'the network has none yet'}"
