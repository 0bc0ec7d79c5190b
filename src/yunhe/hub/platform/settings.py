"""Settings of a hub: each has a unit, a default and a reason. Read once, in a composition root, then passed down."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from yunhe.core.policy import Policy
from yunhe.hub.platform.sign_in_settings import SignInSettings


class HubSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    database_url: str  # sqlite:///PATH or postgresql://USER@HOST/DB
    data_dir: Path  # logs, outputs and the operator's first key; replicas share it
    host: str = "127.0.0.1"  # loopback unless the operator says otherwise
    port: int = Field(default=8440, ge=0, le=65535)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    public_network: bool = True  # anybody sees sites and sums, no customer; GET /v1/network
    read_connections: int = Field(default=8, ge=1, le=64)
    sign_in: SignInSettings = SignInSettings()  # through providers of OpenID Connect; none

    # Link. A poll must end well before a lease's disconnect limit, or a healthy site would look silent to itself.
    poll_hold_ms: int = Field(default=50_000, ge=100, le=60_000)
    disconnect_limit_ms: int = Field(default=300_000, ge=1_000)  # a five-minute link break loses no job
    disconnect_grace_ms: int = Field(default=30_000, ge=500)  # the site's time to kill, and drift of its clock
    silent_after_ms: int = Field(default=90_000, ge=500)  # no poll for this long: leases become `unknown`
    overdue_grace_ms: int = Field(default=60_000, ge=1_000)  # run limit passed since the start without a report
    # A centre's own queue may hold a lease for so long before another place is tried; a night's backlog is worth the
    # wait, a day's is not. The run limit counts from the start.
    queue_limit_ms: int = Field(default=6 * 3_600_000, ge=1_000)
    # A site may bring a lease's inputs, or take its outputs away, for so long. Longer than a site's own limit (2 h).
    staging_limit_ms: int = Field(default=3 * 3_600_000, ge=1_000)
    certify_turn_ms: int = Field(default=60_000, ge=1_000)  # one site measures at a time, at most this long

    # Tests of what sites claim. A rate is shown by work that takes so long at the claimed rate (0: nothing is asked,
    # claims are believed): long against the time that a job takes to start, short against the site's own work.
    certify_prove_ms: int = Field(default=3_000, ge=0, le=20_000)
    # A card's library may take so long to start; no time counts before the site says that it is ready.
    certify_ready_ms: int = Field(default=300_000, ge=1_000)
    certify_allowance_ms: int = Field(default=1_000, ge=0)  # for the way there and back and the start of the job
    certify_tries: int = Field(default=3, ge=1, le=4)  # each twice as long as the one before
    # A claim up to this percentage of what the hub saw passes: other load takes its part. Below 200 less the share of
    # the allowance in the time, or who claims twice the rate would pass.
    certify_slack_percent: int = Field(default=150, ge=100)
    certify_unproven_milli: int = Field(default=600, ge=0, le=1000)  # what a claim counts before: as a nominal rate
    certify_silent_milli: int = Field(default=300, ge=0, le=1000)  # and when no answer came to any try
    certify_drop_percent: int = Field(default=80, ge=0, le=100)  # below this share of the last test a rate has dropped
    certify_core_over_nominal_percent: int = Field(default=200, ge=100)  # tables state cores at their base clock
    certify_card_over_nominal_percent: int = Field(default=105, ge=100)
    certify_interval_ms: int = Field(default=7 * 86_400_000, ge=1_000)  # a fifth of it earlier or later, by site
    certify_retry_ms: int = Field(default=3_600_000, ge=1_000)  # the next test of a pool that is not wholly believed

    # Round. Debounce collects a burst of submits into one round; a lone order hardly waits.
    round_debounce_ms: int = Field(default=2, ge=0, le=1_000)
    round_orders: int = Field(default=10_000, ge=1)  # open orders that one round looks at
    round_timeout_ms: int = Field(default=30_000, ge=100)
    round_seed: int = 1
    round_record: Path | None = None  # every round is appended to this file, to be decided again by the simulator
    round_record_cap_bytes: int = Field(default=2**30, ge=1024)  # a full file ends the recording, not the hub
    # The newest rounds, for people who ask why an order went where it did: an hour of a busy hub, a day of a quiet one.
    round_keep: int = Field(default=2_000, ge=0, le=100_000)  # 0: none is kept
    round_keep_bytes: int = Field(default=64 * 2**20, ge=0)  # of the database: a nation's rounds are a megabyte each
    policy: Policy = Policy()

    # Leadership: the lease is renewed every third of its time; another replica takes over after it ran out.
    leader_ttl_ms: int = Field(default=6_000, ge=500, le=10_000)

    # Bounds of what a caller may send or keep.
    log_cap_bytes: int = Field(default=10 * 1024 * 1024, ge=1024)  # per task
    output_cap_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)  # per task, all outputs
    # Logs and outputs of an attempt come before the report of its end; of one that the hub gave up perhaps after it.
    late_files_ms: int = Field(default=600_000, ge=0)
    checkpoint_cap_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)  # of one task; the newest is kept
    # Streams of events that are open at one process: a page of the console has one, and each is a connection.
    event_streams: int = Field(default=1_000, ge=1)
    event_streams_per_organisation: int = Field(default=100, ge=1)
    # Streams of the network, for visitors: a console has one for all its pages.
    network_streams: int = Field(default=200, ge=1)
    network_streams_per_address: int = Field(default=20, ge=1)
    events_back_ms: int = Field(default=86_400_000, ge=0)  # a stream of all orders may begin so far back
    # Logs of attempts that ended, and the sites' signed words about usage: a year's bills can be checked for a month
    # more. Usage, charges and postings are kept. 0: everything is.
    retention_days: int = Field(default=400, ge=0, le=36_500)
    min_free_disk_bytes: int = Field(default=64 * 1024 * 1024, ge=0)  # below it, no new orders and no new logs
