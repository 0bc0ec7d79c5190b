"""Settings of sign-in through providers of OpenID Connect: off where none is named.

[sign_in]
console_url = "https://console.example"

[[sign_in.providers]]
id = "staff"
name = "Example Research"
issuer = "https://id.example/realms/staff"
client_id = "yunhe"
client_secret_file = "/etc/yunhe/staff.secret"
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from yunhe.core.errors import InvalidInput
from yunhe.wire.api import Role

MAX_SECRET_CHARS = 4_096
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
Id = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9-]*$")]
Text = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]


def is_safe_address(url: str, *, loopback_too: bool) -> bool:
    """https, or http of this machine alone where that is allowed; no user, no fragment."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # reading the port checks it
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and not any(sign in url for sign in ' "<>\\^`{|}#')
    secure = parts.scheme == "https" or (loopback_too and parts.scheme == "http" and host in LOOPBACK)
    return plain and secure and bool(host) and "@" not in parts.netloc


def is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in LOOPBACK


def _address(url: str) -> str:
    if not is_safe_address(url, loopback_too=True) or urlsplit(url).query:
        raise ValueError("must be an https address without query and fragment (http only of this machine's loopback)")
    return url


Address = Annotated[str, Field(max_length=500), AfterValidator(_address)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Grant(_Frozen):
    """Who has `value` as, or in, the claim `claim` of the ID token acts for `organisation` in `role`."""

    claim: Text
    value: Text
    organisation: Id
    role: Role


class ProviderSettings(_Frozen):
    """One provider. The client secret itself is no setting: it is in a file or in the environment."""

    id: Id  # in addresses; the redirect address ends with it
    name: Text  # for people: Sign in with ...
    issuer: Address  # exactly as the provider writes it
    client_id: Text
    client_secret_file: Path | None = None
    client_secret_env: str | None = None
    scopes: tuple[Text, ...] = Field(default=("openid", "profile", "email"), max_length=20)
    audiences: tuple[Text, ...] = Field(default=(), max_length=20)  # that an ID token may name beside the client
    email_domains: tuple[Text, ...] = Field(default=(), max_length=100)  # none: of any; not asked of who is linked
    grants: tuple[Grant, ...] = Field(default=(), max_length=100)  # the first that fits, looked at in each sign-in
    # Who is neither linked by the operator nor fits a grant: refused, or made a customer with an account of their own.
    newcomers: Literal["refuse", "create"] = "refuse"
    ca_file: Path | None = None  # who signs the provider's certificate, where that is none of the system's
    timeout_ms: int = Field(default=5_000, ge=100, le=30_000)  # of one answer of the provider

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.client_secret_file is not None and self.client_secret_env is not None:
            raise ValueError("give one of client_secret_file and client_secret_env")
        if "openid" not in self.scopes or any(" " in scope for scope in self.scopes):
            raise ValueError("scopes must have openid, and no spaces")
        return self

    def client_secret(self) -> str | None:
        """None for a client that has none. Raises InvalidInput when it cannot be read, without showing it."""
        if self.client_secret_env is not None:
            found = os.environ.get(self.client_secret_env, "")
        elif self.client_secret_file is not None:
            try:
                found = self.client_secret_file.read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise InvalidInput(
                    f"the client secret cannot be read from {self.client_secret_file}", field="client_secret_file"
                ) from error
        else:
            return None
        found = found.strip()
        if not 0 < len(found) <= MAX_SECRET_CHARS or not found.isprintable():
            raise InvalidInput(f"the client secret of {self.id} is empty or no text", field="client_secret")
        return found


class SignInSettings(_Frozen):
    console_url: Address | None = None  # as browsers see the console; providers send people back there
    providers: tuple[ProviderSettings, ...] = Field(default=(), max_length=20)
    begun_ms: int = Field(default=600_000, ge=1_000, le=3_600_000)  # time to type a password and a second factor
    session_ms: int = Field(default=8 * 3_600_000, ge=1_000, le=30 * 86_400_000)  # a working day
    begun_at_once: int = Field(default=10_000, ge=10)  # sign-ins that are begun; the oldest goes
    # From one address, so that one alone cannot push out what others began: in the 10 minutes of `begun_ms` it fills
    # 60 % of `begun_at_once`. All who come through a console come from its address.
    begun_per_minute: int = Field(default=600, ge=1)
    sessions_each: int = Field(default=50, ge=1)  # of one person at one time; the oldest goes
    leeway_ms: int = Field(default=30_000, ge=0, le=300_000)  # by which a provider's clock may differ

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len({each.id for each in self.providers}) < len(self.providers):
            raise ValueError("two providers have the same id")
        if len({each.issuer for each in self.providers}) < len(self.providers):
            raise ValueError("two providers have the same issuer")
        return self
