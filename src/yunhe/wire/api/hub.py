"""The hub itself: what it is doing, and what went wrong."""

from yunhe.wire.message import Answer


class HubStats(Answer):
    orders: dict[str, int]  # count by state
    usage_records: int
    usage_gaps: int
    usage_duplicates: int
    disputed: int
    postings: int
    leader: bool


class HubReady(Answer):
    status: str  # "ready": the database answers


class RoundView(Answer):
    """What rounds go by (the fields of `core.policy.Policy`), and how this replica's own ones went."""

    policy: dict[str, int | bool]
    seed: int
    leading: bool  # whether this replica is the one that runs rounds
    rounds: int  # that it ran since it started
    last_round_ms: float  # how long its latest one took


class HubView(Answer):
    """Which hub this is. Open to all: a site, or a hub that would join, has no key here yet."""

    id: str


class Problem(Answer):
    """RFC 9457 problem+json."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    hint: str = ""
    retryable: bool = False
    request_id: str = ""
