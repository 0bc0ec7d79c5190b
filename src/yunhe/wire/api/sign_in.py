"""Sign-in through providers of OpenID Connect, and whom the operator linked."""

from typing import Annotated

from pydantic import Field

from yunhe.wire.api.accounts import Role
from yunhe.wire.message import NUMBER, Answer, Message, Name

ProviderId = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9-]*$")]
Subject = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
Opaque = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[\x20-\x7e]*$")]  # RFC 6749: VSCHAR


class SignInProvider(Answer):
    id: str
    name: str  # for people
    issuer: str


class SignInProviders(Answer):
    """None: one signs in with an API key alone."""

    providers: tuple[SignInProvider, ...]


class SignInRequest(Message):
    """`browser_sha256`: of a secret that stays where the sign-in was begun; `port`: of this machine's loopback, where a
    command line waits for the answer."""

    browser_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    port: Annotated[int, Field(ge=1, le=65_535), NUMBER] | None = None


class SignInBegun(Answer):
    url: str  # where to send the browser
    expires_utc_ms: int


class SignInAnswer(Message):
    """What the browser came back with, and the secret."""

    state: Opaque
    code: Opaque
    browser: Annotated[str, Field(min_length=32, max_length=200, pattern=r"^[\x21-\x7e]*$")]
    issuer: Annotated[str, Field(max_length=500)] | None = None  # RFC 9207

    def __repr__(self) -> str:  # so that no log line ever carries them
        return "SignInAnswer(...)"

    __str__ = __repr__


class SessionCreated(Answer):
    """The only time that the session's key is shown. It is used as an API key is."""

    id: str
    key: str
    organisation: str
    member: str
    role: Role
    expires_utc_ms: int


class SignedOut(Answer):
    signed_out: bool


class LinkRequest(Message):
    provider: ProviderId
    subject: Subject
    organisation: Name
    member: Name
    role: Role


class IdentityView(Answer):
    """A person as a provider knows them. `source`: "operator" linked them, a "claim" of the provider lets them in, or
    an account of their own was "created"."""

    id: str
    issuer: str
    subject: str
    organisation: str
    member: str
    role: Role
    source: str
    since_utc_ms: int
    seen_utc_ms: int | None  # the latest sign-in


class IdentityPage(Answer):
    identities: tuple[IdentityView, ...]
    next_cursor: str | None = None
