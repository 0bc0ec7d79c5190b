"""How another hub is used as the engine of a site: what of it is offered upward, and what is passed down to it."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Pattern = Annotated[str, Field(min_length=1, max_length=80)]


class LowerHubSettings(BaseModel):
    """The lower hub is reached over its public API, with the key of an account there, and by no other way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = ""
    # The key of a customer of the lower hub, alone in a file that only this user reads (0600).
    key_file: Path | None = None

    # --- upward: what the hub above learns of this one -----------------------------------------------------------
    # Shell patterns of the lower hub's site ids and pool ids ("site:pool"); empty: all that pass the other limits.
    sites: tuple[Pattern, ...] = ()
    pools: tuple[Pattern, ...] = ()
    # Regions whose sites are offered. A customer's residency is checked above against this site's own region, so join
    # fills it with that; empty: any region, and residency is then only as true as the lower hub's sites lie.
    regions: tuple[Pattern, ...] = ()
    # Of every pool at most this part; whole cards.
    share_percent: int = Field(default=100, ge=1, le=100)
    # Equal pools (unit, chip, stack, card memory) of several sites offered as one: many plain hosts, one pool.
    aggregate: bool = False
    # Pools and sites below by number instead of by name.
    anonymous: bool = False
    # Highest security tier that is claimed, whatever the sites below give.
    max_tier: int = Field(default=5, ge=0, le=5)
    # On the lower hub's price, 1/100 percent. It has to cover the upper operator's fee (500 unless stated otherwise).
    margin_bps: int = Field(default=1_000, ge=0, le=100_000)

    # --- downward: which orders are passed on --------------------------------------------------------------------
    max_run_ms: int | None = Field(default=None, ge=1)
    max_open: int = Field(default=10_000, ge=1)
    # An order below may hold at most what the lease can bring this site, and so much more (1/100 percent): prices that
    # the operator above has not followed yet lose a little at most. 0: never at a loss.
    max_loss_bps: int = Field(default=1_000, ge=0, le=100_000)
    # An order that has not begun below within this time is taken back; the hub above finds another place.
    start_within_ms: int = Field(default=600_000, ge=1_000)

    # Whether orders with secrets are taken: they come to this agent in the clear and are the lower hub's from then on,
    # which seals them anew for its sites. Only who runs this site knows whether that hub may have them.
    deliver_secrets: bool = False

    # --- how the lower hub is asked ------------------------------------------------------------------------------
    # One call takes no longer; retries are the driver's own.
    request_timeout_ms: int = Field(default=5_000, ge=100)
    # All open leases are looked at together, so often at most; an older look than `look_valid_ms` says nothing of now.
    look_interval_ms: int = Field(default=1_000, ge=20)
    look_valid_ms: int = Field(default=5_000, ge=100)
    # A submit or a cancel that got no answer is said again after this time, doubled up to the cap.
    retry_first_ms: int = Field(default=200, ge=10)
    retry_cap_ms: int = Field(default=10_000, ge=100)
