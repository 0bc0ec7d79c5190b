"""Calls about the network: sites, pools, the shipped facts, the hub itself."""

from collections.abc import Iterator

from yunhe.core import errors
from yunhe.sdk.checked import checked
from yunhe.sdk.streams import BEAT_S, HINT, NotUnderstood, blocks, understood
from yunhe.sdk.transport import Transport, escaped
from yunhe.wire.api import (
    EnrolmentToken,
    EnrolmentTokenRequest,
    FactTable,
    HubReady,
    HubStats,
    HubView,
    NetworkChange,
    NetworkHistory,
    NetworkView,
    PoolList,
    PoolView,
    RoundDetail,
    RoundList,
    RoundOrderView,
    RoundView,
    SiteChargePage,
    SiteList,
    SiteRevenue,
    SiteTariff,
    SiteTerms,
    SiteView,
)

MAX_NETWORK_BYTES = 64 * 1024 * 1024  # tens of thousands of sites in one piece


class NetworkCalls:
    _transport: Transport

    def sites(self, provider: str | None = None) -> tuple[SiteView, ...]:
        """All that one may know of, or those of one provider (an organisation id)."""
        query = {} if provider is None else {"provider": provider}
        return tuple(self._transport.rows(SiteList, lambda page: page.sites, "/v1/sites", query, None))

    def sites_page(
        self, provider: str | None = None, state: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> SiteList:
        """One page of them by id, and where the next one begins."""
        given = {"provider": provider, "state": state, "cursor": cursor}
        query = {name: value for name, value in given.items() if value is not None}
        return self._transport.get(SiteList, "/v1/sites", {**query, "limit": limit})

    def charges(
        self, site_id: str, *, disputed: bool = False, limit: int = 100, cursor: str | None = None
    ) -> SiteChargePage:
        """What ran at a site and what it earned, newest first: one page. For its provider."""
        query: dict[str, str | int] = {"limit": limit, "disputed": str(disputed).lower()}
        if cursor is not None:
            query["cursor"] = cursor
        return self._transport.get(SiteChargePage, _path(site_id, "/charges"), query)

    def revenue(self, site_id: str, month: str) -> SiteRevenue:
        """Of one month, written as "2026-11" (UTC), day by day. For the site's provider."""
        return self._transport.get(SiteRevenue, _path(site_id, f"/revenue/{escaped(month)}"))

    def site(self, site_id: str) -> SiteView:
        return self._transport.get(SiteView, _path(site_id))

    def pools(self) -> tuple[PoolView, ...]:
        """Every pool with certified capacity, what is free now, nominal and measured rates and the price."""
        return self._transport.get(PoolList, "/v1/pools").pools

    def network(self) -> NetworkView:
        """Every site that takes part, and how much of it is used; no account is needed."""
        return self._transport.get(NetworkView, "/v1/network")

    def network_changed(self, tag: str = "") -> tuple[NetworkView, str] | None:
        """`network` and a tag that names what was seen; None when that is still what `tag` named."""
        return self._transport.get_changed(NetworkView, "/v1/network", tag)

    def network_changes(self) -> Iterator[NetworkChange]:
        """The whole network, then what differs, two seconds later at most (now and then: nothing); no account needed.

        Raises Unavailable when the stream breaks off or the hub ends it: who calls again is told everything once more.
        """
        try:
            with self._transport.stream("/v1/network/changes", hold=BEAT_S) as chunks:
                for block in blocks(chunks, MAX_NETWORK_BYTES):
                    yield understood(NetworkChange, block.data)
        except NotUnderstood as error:
            raise errors.Unavailable(str(error), hint=HINT) from error
        raise errors.Unavailable("the hub ended the stream of its network", hint="try again")

    def network_history(self) -> NetworkHistory:
        """Sums of the network over the last day, a sample a minute; no account is needed."""
        return self._transport.get(NetworkHistory, "/v1/network/history")

    def enrolment_token(self, provider: str) -> EnrolmentToken:
        """A one-time token with which one site of `provider` (an organisation id) may enrol."""
        body = checked(EnrolmentTokenRequest, {"provider": provider})
        return self._transport.post(EnrolmentToken, "/v1/enrolment-tokens", body)

    def approve(self, site_id: str, terms: SiteTerms | None = None) -> SiteView:
        """Let an enrolled site take part, at prices that default to those of the facts. For operators."""
        return self._transport.post(SiteView, _path(site_id, "/approve"), terms or SiteTerms(), again=True)

    def set_terms(self, site_id: str, terms: SiteTerms) -> SiteView:
        """Change a site's prices; what runs already keeps the price that it was sold at. For operators."""
        response = self._transport.change("PUT", _path(site_id, "/terms"), terms, again=True)
        return self._transport.read(SiteView, response)

    def set_tariff(self, site_id: str, tariff: SiteTariff) -> SiteView:
        """How a site's power price and carbon go with the hour, for what is placed from now on. For operators and its
        provider."""
        response = self._transport.change("PUT", _path(site_id, "/tariff"), tariff, again=True)
        return self._transport.read(SiteView, response)

    def pause(self, site_id: str) -> SiteView:
        """No new work for a site; what runs there goes on."""
        return self._transport.post(SiteView, _path(site_id, "/pause"), again=True)

    def resume(self, site_id: str) -> SiteView:
        return self._transport.post(SiteView, _path(site_id, "/resume"), again=True)

    def certify(self, site_id: str) -> SiteView:
        """Have a site measured again when its turn comes."""
        return self._transport.post(SiteView, _path(site_id, "/certify"), again=True)

    def leave(self, site_id: str) -> SiteView:
        """Take a site out of the network for good."""
        return self._transport.post(SiteView, _path(site_id, "/leave"), again=True)

    def chips(self) -> FactTable:
        return self._transport.get(FactTable, "/v1/chips")

    def clusters(self) -> FactTable:
        return self._transport.get(FactTable, "/v1/clusters")

    def factors(self) -> FactTable:
        return self._transport.get(FactTable, "/v1/factors")

    def places(self) -> FactTable:
        return self._transport.get(FactTable, "/v1/places")

    def hub(self) -> HubView:
        """Which hub this is."""
        return self._transport.get(HubView, "/v1/hub")

    def ready(self) -> HubReady:
        """That the hub's database answers; without a key. Raises Unavailable when it does not."""
        return self._transport.get(HubReady, "/readyz")

    def stats(self) -> HubStats:
        return self._transport.get(HubStats, "/v1/stats")

    def round(self) -> RoundView:
        """What rounds go by, and how the latest went. For operators and auditors."""
        return self._transport.get(RoundView, "/v1/round")

    def rounds(self, *, limit: int = 100, cursor: str | None = None) -> RoundList:
        """The rounds that the hub keeps, newest first: one page. For operators and auditors."""
        return self._transport.get(RoundList, "/v1/rounds", _page(limit, cursor))

    def round_detail(self, number: int, *, limit: int = 100, cursor: str | None = None) -> RoundDetail:
        """One of them, with a page of the orders that it looked at. Raises NotFound when it is not kept."""
        return self._transport.get(RoundDetail, f"/v1/rounds/{number}", _page(limit, cursor))

    def round_order(self, number: int, order_id: str) -> RoundOrderView:
        """One order in one round: every place that it had, ranked, and why it went where it did."""
        return self._transport.get(RoundOrderView, f"/v1/rounds/{number}/orders/{escaped(order_id)}")


def _page(limit: int, cursor: str | None) -> dict[str, str | int]:
    return {"limit": limit} if cursor is None else {"limit": limit, "cursor": cursor}


def _path(site_id: str, rest: str = "") -> str:
    return f"/v1/sites/{escaped(site_id)}{rest}"
