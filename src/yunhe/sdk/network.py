"""Calls about the network: sites, pools, the shipped facts, the hub itself."""

from yunhe.sdk.checked import checked
from yunhe.sdk.transport import Transport, escaped
from yunhe.wire.api import (
    EnrolmentToken,
    EnrolmentTokenRequest,
    FactTable,
    HubStats,
    HubView,
    NetworkHistory,
    NetworkView,
    PoolList,
    PoolView,
    SiteList,
    SiteTerms,
    SiteView,
)


class NetworkCalls:
    _transport: Transport

    def sites(self) -> tuple[SiteView, ...]:
        return self._transport.get(SiteList, "/v1/sites").sites

    def site(self, site_id: str) -> SiteView:
        return self._transport.get(SiteView, _path(site_id))

    def pools(self) -> tuple[PoolView, ...]:
        """Every pool with certified capacity, what is free now, nominal and measured rates and the price."""
        return self._transport.get(PoolList, "/v1/pools").pools

    def network(self) -> NetworkView:
        """Every site that takes part, and how much of it is used; no account is needed."""
        return self._transport.get(NetworkView, "/v1/network")

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

    def stats(self) -> HubStats:
        return self._transport.get(HubStats, "/v1/stats")


def _path(site_id: str, rest: str = "") -> str:
    return f"/v1/sites/{escaped(site_id)}{rest}"
