"""How a site comes into the network: a one-time token, a key of its own, the operator's approval."""

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from yunhe.core import units
from yunhe.core.errors import Conflict, InvalidInput, Unauthenticated, YunheError
from yunhe.core.supply import SiteState
from yunhe.facts.sites import SiteFacts, cluster_facts, located_facts
from yunhe.hub.accounts import audit
from yunhe.hub.accounts import service as accounts
from yunhe.hub.accounts.service import Principal
from yunhe.hub.catalogue import store, tariffs, texts
from yunhe.hub.catalogue.records import SiteRecord
from yunhe.hub.platform.writer import Tx
from yunhe.wire import signing
from yunhe.wire.api import SiteTerms
from yunhe.wire.link import Enrol, Enrolled

TOKEN_PREFIX = "yt_"
TOKEN_LIFE_MS = 24 * 3_600_000  # an operator sends it to a site's administrator by other means: a day is enough
BANDWIDTH_BPS = 10_000_000_000  # of a site that states none: one 10 Gbit/s uplink; marked as assumed
MAX_SLUG = 40
# Which of the operator's terms replaces which figure.
TERMS = {
    "price_per_core_hour": ("price_core_hour", "price_microcny_per_core_hour"),
    "price_per_card_hour": ("price_card_hour", "price_microcny_per_card_hour"),
    "power_price_per_kwh": ("power_price_microcny_per_kwh", "power_price_microcny_per_kwh"),
}


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token for sites of `provider`; as an answer, with the only copy of its secret."""

    provider: str
    secret: str = ""
    expires_ms: int = 0

    def __repr__(self) -> str:  # so that no log line ever carries the secret
        return f"NewToken({self.provider!r}, expires_ms={self.expires_ms})"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def create_token(tx: Tx, provider: str) -> NewToken:
    """A one-time enrolment token for a site of `provider`. Raises InvalidInput without such an organisation."""
    accounts.check_exists(tx.conn, provider, "provider")
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    expires_ms = tx.now_ms + TOKEN_LIFE_MS
    store.add_token(tx.conn, _digest(secret), provider, expires_ms)
    return NewToken(provider, secret, expires_ms)


def create_tokens(tx: Tx, providers: Sequence[str]) -> list[NewToken | YunheError]:
    """Write handler of `create_token`."""
    results: list[NewToken | YunheError] = []
    for provider in providers:
        try:
            results.append(create_token(tx, provider))
        except InvalidInput as refusal:
            results.append(refusal)
    return results


def issue_tokens(tx: Tx, wanted: Sequence[tuple[Principal, str]]) -> list[NewToken | YunheError]:
    """Write handler of `create_tokens`, for whoever asked."""
    made = create_tokens(tx, [provider for _, provider in wanted])
    for (who, provider), token in zip(wanted, made, strict=True):
        if not isinstance(token, YunheError):
            audit.record(tx, who, "token.issue", provider, {}, {"expires_ms": token.expires_ms})
    return made


# --- enrolling ----------------------------------------------------------------------------------------------------


def enrol(tx: Tx, wanted: Enrol) -> Enrolled:
    """Make a pending site. The same token with the same key again gives the same site.

    Raises Unauthenticated for a token that is unknown, expired or proven by another key; Conflict for a token or a
    key that is used already; InvalidInput for a place that is not stated or not known.
    """
    signing.verify(signing.load_public(wanted.public_key), wanted.token.encode(), wanted.proof)
    found = store.lock_token(tx.conn, _digest(wanted.token))
    if found is None:
        raise Unauthenticated("the enrolment token is not known", field="token", hint="ask the operator for a token")
    provider, expires_ms, used_by = found
    if used_by is not None:
        site = store.find_site(tx.conn, used_by)
        if site is None or site.public_key != wanted.public_key:
            raise Conflict("the enrolment token is used", field="token", hint="ask the operator for another token")
        return Enrolled(site_id=site.id, state=site.state.value)
    if tx.now_ms >= expires_ms:
        raise Unauthenticated("the enrolment token has expired", field="token", hint="ask the operator for another")
    site = _add(tx, _new_site(tx, wanted, provider, _facts(wanted)))
    if not store.use_token(tx.conn, _digest(wanted.token), site.id):
        raise Conflict("the enrolment token is used", field="token", hint="ask the operator for another token")
    return Enrolled(site_id=site.id, state=site.state.value)


def enrol_many(tx: Tx, wanted: Sequence[Enrol]) -> list[Enrolled | YunheError]:
    """Write handler of `enrol`. A refusal happens before anything is written for its item."""
    results: list[Enrolled | YunheError] = []
    for item in wanted:
        try:
            results.append(enrol(tx, item))
        except YunheError as refusal:
            results.append(refusal)
    return results


def _facts(wanted: Enrol) -> SiteFacts:
    if wanted.cluster is not None:
        facts = cluster_facts(wanted.cluster)
        if wanted.region not in (None, facts.region):
            raise InvalidInput(f"cluster {wanted.cluster} lies in {facts.region}, not {wanted.region}", field="region")
        if wanted.lat is None or wanted.lon is None:
            return facts
        return replace(facts, lat=wanted.lat, lon=wanted.lon)
    for name in ("region", "lat", "lon"):
        if getattr(wanted, name) is None:
            raise InvalidInput("is needed for a site outside the clusters", field=name, hint="or state its cluster")
    assert wanted.region is not None and wanted.lat is not None and wanted.lon is not None
    return located_facts(wanted.region, wanted.lat, wanted.lon)


def _new_site(tx: Tx, wanted: Enrol, provider: str, facts: SiteFacts) -> SiteRecord:
    return SiteRecord(
        id=slug(wanted.name) or facts.cluster or "site",
        name=wanted.name,
        provider=provider,
        region=facts.region,
        cluster=facts.cluster,
        lat=facts.lat,
        lon=facts.lon,
        pue_milli=facts.pue_milli,
        carbon_g_per_kwh=facts.carbon_g_per_kwh,
        power_price_microcny_per_kwh=facts.power_price_microcny_per_kwh,
        price_core_hour=facts.price_microcny_per_core_hour,
        price_card_hour=facts.price_microcny_per_card_hour,
        assumed=(*facts.assumed, "bandwidth_bps"),
        tariff=tariffs.of_region(facts.region),
        tier=0,
        isolation="",
        software="",
        bandwidth_bps=BANDWIDTH_BPS,
        state=SiteState.PENDING,
        accepting=True,
        public_key=wanted.public_key,
        created_ms=tx.now_ms,
    )


def slug(name: str) -> str:
    """An id from a name: lower-case ASCII letters, digits and hyphens; empty when nothing of it is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_SLUG].strip("-")


def _add(tx: Tx, site: SiteRecord) -> SiteRecord:
    """Insert under the first free id of name, name-2, name-3, ..."""
    taken = store.find_site_by_key(tx.conn, site.public_key)
    if taken is not None:
        raise Conflict(f"this key is site {taken.id}'s", field="public_key", hint="make a new key for a new site")
    base, n = site.id, 1
    while not store.add_site(tx.conn, site):
        n += 1
        if n > 1000:
            raise Conflict(f"too many sites are called {base}", field="name", hint="choose another name")
        site = replace(site, id=f"{base}-{n}")
    return site


# --- the operator's terms -----------------------------------------------------------------------------------------


def terms_changes(site: SiteRecord, terms: SiteTerms) -> dict[str, object]:
    """Columns that the stated terms replace; a figure that is stated is not assumed any more.

    Raises InvalidInput for what is no amount of money.
    """
    changes: dict[str, object] = {}
    assumed = list(site.assumed)
    for name, text in _stated(terms).items():
        column, figure = TERMS[name]
        changes[column] = units.parse_money(text, name, most=units.MAX_RATE_MICROCNY)
        if figure in assumed:
            assumed.remove(figure)
    if changes:
        changes["assumed"] = texts.names_text(assumed)
    if terms.accept_asking is not None:
        changes["accept_asking"] = terms.accept_asking
    return changes


def _stated(terms: SiteTerms) -> Mapping[str, str]:
    return {name: text for name in TERMS if (text := getattr(terms, name)) is not None}
