"""Organisations, and the keys with which their members call."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from yunhe.wire.message import NUMBER, Answer, Message, Name, Quantity

Role = Literal["customer", "provider", "operator", "auditor"]


MAX_CORES = 1e9
MIN_CORES = 0.001  # what a quota is kept in


def _kept_exactly(cores: float) -> float:
    if 0 < cores < MIN_CORES:
        raise ValueError(f"must be 0, or from {MIN_CORES} to {MAX_CORES:.0e}")
    return cores


Cores = Annotated[float, Field(ge=0, le=MAX_CORES, allow_inf_nan=False), NUMBER, AfterValidator(_kept_exactly)]


def _quota_or_none(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError:  # one per branch, and each names its own form alone
        raise ValueError(f"must be 0, a number from {MIN_CORES} to {MAX_CORES:.0e}, or 'none'") from None


class OrganisationRequest(Message):
    id: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9-]*$")]
    name: Name
    credit_limit: Quantity = "0CNY"
    quota_cores: Cores | None = None
    weight: Annotated[int, Field(ge=1, le=1000), NUMBER] = 1


class OrganisationChange(Message):
    """What is to change; what is left out stays. "none" as a quota: no limit."""

    name: Name | None = None
    credit_limit: Quantity | None = None
    quota_cores: Annotated[Cores | Literal["none"], WrapValidator(_quota_or_none)] | None = None
    weight: Annotated[int, Field(ge=1, le=1000), NUMBER] | None = None


class OrganisationView(Answer):
    id: str
    name: str
    credit_limit_microcny: int
    quota_milli: int | None  # 1/1000 units leased at the same time; None: no limit
    weight: int
    used_milli: int = 0  # of it, now


class OrganisationList(Answer):
    organisations: tuple[OrganisationView, ...]


class KeyRequest(Message):
    organisation: Name
    member: Name
    role: Role


class KeyCreated(Answer):
    """The only time that the key is shown."""

    id: str
    key: str
    role: Role
    organisation: str


class KeyView(Answer):
    """A key without its secret."""

    id: str
    organisation: str
    member: str
    role: Role
    created_utc_ms: int
    revoked_utc_ms: int | None
    expires_utc_ms: int | None = None  # of a session: when it ends by itself


class KeyList(Answer):
    keys: tuple[KeyView, ...]


class AuditView(Answer):
    """One change that somebody made: who, when, what, and the values that it changed."""

    id: int
    at_utc_ms: int
    organisation: str  # the caller's
    member: str
    role: str
    key_id: str
    action: str  # site.approve, site.pause, organisation.change, key.create, ...
    subject: str  # the id of what was changed
    before: dict[str, str | int | bool | None]
    after: dict[str, str | int | bool | None]


class AuditPage(Answer):
    entries: tuple[AuditView, ...]  # newest first
    next_cursor: str | None = None


class WhoAmI(Answer):
    organisation: str
    member: str
    role: Role
