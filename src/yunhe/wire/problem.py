"""The one place where Yunhe's errors become HTTP answers, and HTTP answers become errors again (RFC 9457)."""

from http import HTTPStatus

from yunhe.core import errors
from yunhe.wire.api import Problem

CONTENT_TYPE = "application/problem+json"

STATUS: dict[type[errors.YunheError], HTTPStatus] = {
    errors.InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownField: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Refused: HTTPStatus.CONFLICT,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.IdempotencyConflict: HTTPStatus.CONFLICT,
    errors.StaleMessage: HTTPStatus.CONFLICT,
    errors.OverBudget: HTTPStatus.CONFLICT,
    errors.Infeasible: HTTPStatus.CONFLICT,
    errors.InsufficientFunds: HTTPStatus.PAYMENT_REQUIRED,
    errors.QuotaExceeded: HTTPStatus.CONFLICT,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
}
_BY_CODE = {kind.code: kind for kind in STATUS}


def to_problem(error: errors.YunheError, request_id: str = "") -> Problem:
    status = STATUS[type(error)]
    return Problem(
        type=f"urn:yunhe:problem:{error.code}",
        title=status.phrase,
        status=status,
        detail=error.message,
        code=error.code,
        field=error.field,
        hint=error.hint,
        retryable=error.retryable,
        request_id=request_id,
    )


def to_error(problem: Problem) -> errors.YunheError:
    """The error that the hub raised; a code that this version does not know becomes its nearest kind by status."""
    kind = _BY_CODE.get(problem.code) or (errors.Unavailable if problem.status >= 500 else errors.Refused)
    return kind(problem.detail, field=problem.field, hint=problem.hint)
