"""What a caller may want of a site, and what of it the audit trail shows."""

from dataclasses import dataclass

from yunhe.hub.accounts.audit import Values
from yunhe.hub.accounts.service import Principal
from yunhe.hub.catalogue import tariffs
from yunhe.hub.catalogue.records import SiteRecord
from yunhe.wire.api import SiteTariff, SiteTerms


@dataclass(frozen=True, slots=True)
class SiteChange:
    """What a caller wants of a site: `action` is approve, terms, tariff, pause, resume, certify or leave."""

    principal: Principal
    site_id: str
    action: str
    terms: SiteTerms = SiteTerms()
    tariff: SiteTariff = SiteTariff()


def audited(at: SiteRecord) -> Values:
    """What a change of a site can change."""
    return {
        "state": at.state.value,
        "price_microcny_per_core_hour": at.price_core_hour,
        "price_microcny_per_card_hour": at.price_card_hour,
        "power_price_microcny_per_kwh": at.power_price_microcny_per_kwh,
        "accept_asking": at.accept_asking,
        "tariff": tariffs.to_text(at.tariff),
        "retest_ms": at.retest_ms,
    }
