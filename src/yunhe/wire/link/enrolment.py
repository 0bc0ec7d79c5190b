"""How a site becomes one of a hub's, and how each of its agent's processes says hello."""

from typing import Annotated, Literal

from pydantic import Field

from yunhe.wire.link.parts import LINK_VERSION, Count, Id
from yunhe.wire.message import NO_NUL, Message


class Enrol(Message):
    """One-time token plus the site's public key; the operator approves afterwards. Not signed: the token is proof,
    but `proof` is a signature of the token by the new key, so that the key is held by the sender."""

    token: Annotated[str, Field(max_length=200, pattern=NO_NUL)]
    name: Annotated[str, Field(min_length=1, max_length=60, pattern=NO_NUL)]
    public_key: Annotated[str, Field(max_length=64)]  # base64url, raw Ed25519
    proof: Annotated[str, Field(max_length=128)]
    cluster: Annotated[str, Field(max_length=40, pattern=NO_NUL)] | None = None  # facts/clusters id
    # Needed without a cluster: region, lat and lon.
    region: Annotated[str, Field(max_length=40, pattern=NO_NUL)] | None = None
    lat: Annotated[float, Field(ge=-90, le=90)] | None = None
    lon: Annotated[float, Field(ge=-180, le=180)] | None = None


class Enrolled(Message):
    site_id: Id
    state: str


class Hello(Message):
    """Ask for a new agent epoch. `previous_epoch` is the last one with which this spool polled (0: none)."""

    site_id: Id
    previous_epoch: Count
    # Of this agent process: the same hello again (repeated, doubled, late) is the same epoch, not one more.
    nonce: Annotated[str, Field(max_length=40, pattern=r"^[0-9a-f]*$")] = ""
    # How often an agent was started on this spool: the late hello of a process that is gone displaces no newer one.
    start_no: Count = 0
    link_version: Literal[1] = LINK_VERSION  # a hub that speaks another one says so at the first word
    agent_version: Annotated[str, Field(max_length=40, pattern=NO_NUL)] = ""


class Welcome(Message):
    epoch: Count
    poll_hold_ms: Count  # longest time that the hub holds a poll
    report_seq: Count  # last report of this site that the hub has stored
    hub_utc_ms: Count
