"""Every error that Yunhe raises on purpose, in one tree.

    YunheError
    |-- InvalidInput            a value of the caller is wrong; `field` names it
    |   |-- UnknownField        a field that does not exist
    |   `-- TooLarge            over a stated bound
    |-- Unauthenticated         no key, or a key that is not known
    |-- Forbidden               the key may not do this
    |-- NotFound                no such thing, or not yours
    |-- Refused                 understood, and not done
    |   |-- Conflict            the thing is in a state that does not allow it
    |   |   |-- IdempotencyConflict   same Idempotency-Key, another body
    |   |   `-- StaleMessage          an older epoch or poll of a site
    |   |-- OverBudget          no offer fits the budget
    |   |-- Infeasible          constraints that contradict each other; the message names what is short
    |   |-- InsufficientFunds   balance plus credit does not cover the hold
    |   `-- QuotaExceeded       an account's quota is used up
    `-- Unavailable             not now; the same call may go through later
        |-- RateLimited
        `-- StorageFull         nothing was written; what was acknowledged is kept

`code` is stable and meant for programs, `hint` is the way out for people, `retryable` says whether
the same call can succeed later without a change.  The mapping to HTTP lives in `yunhe.wire.problem`.
"""


class YunheError(Exception):
    """Root of the tree. `message` is one sentence; `field` is a path such as `requirement.compute`."""

    code = "error"
    retryable = False
    default_hint = ""

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.hint = self.default_hint if hint is None else hint

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        way_out = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{way_out}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not survive pickling (the round worker) by default.
        return (_rebuild, (type(self), self.message, self.field, self.hint))


def _rebuild(kind: type[YunheError], message: str, field: str | None, hint: str) -> YunheError:
    return kind(message, field=field, hint=hint)


class InvalidInput(YunheError):
    code = "invalid_input"


class UnknownField(InvalidInput):
    code = "unknown_field"


class TooLarge(InvalidInput):
    code = "too_large"


class Unauthenticated(YunheError):
    code = "unauthenticated"
    default_hint = "run `yunhe login`, or set YUNHE_API_KEY"


class Forbidden(YunheError):
    code = "forbidden"


class NotFound(YunheError):
    code = "not_found"


class Refused(YunheError):
    code = "refused"


class Conflict(Refused):
    code = "conflict"


class IdempotencyConflict(Conflict):
    code = "idempotency_conflict"
    default_hint = "use a new Idempotency-Key for a new order"


class StaleMessage(Conflict):
    code = "stale_message"


class OverBudget(Refused):
    code = "over_budget"


class Infeasible(Refused):
    code = "infeasible"


class InsufficientFunds(Refused):
    code = "insufficient_funds"
    default_hint = "ask the operator for a deposit or a higher credit limit"


class QuotaExceeded(Refused):
    code = "quota_exceeded"


class Unavailable(YunheError):
    code = "unavailable"
    retryable = True


class RateLimited(Unavailable):
    code = "rate_limited"


class StorageFull(Unavailable):
    code = "storage_full"
    default_hint = "free disk space at the hub; nothing that was acknowledged is lost"
