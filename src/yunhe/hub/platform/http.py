"""The HTTP frame of every hub process: problem+json, a bound on bodies, request ids."""

import logging
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from yunhe.core import errors
from yunhe.core.errors import YunheError
from yunhe.hub.platform.openapi import describe
from yunhe.wire.invalid import from_errors, models_in
from yunhe.wire.problem import CONTENT_TYPE, to_problem

log = logging.getLogger(__name__)

REQUEST_ID_HEADER = b"yunhe-request-id"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def problem_response(error: YunheError, request_id: str = "") -> Response:
    problem = to_problem(error, request_id)
    headers = {"Retry-After": "1"} if error.retryable else None
    return Response(problem.model_dump_json(), status_code=problem.status, media_type=CONTENT_TYPE, headers=headers)


def install_problems(app: FastAPI) -> None:
    """Every error leaves as problem+json; what is not ours is logged in full and told in general words only."""
    describe(app)

    @app.exception_handler(YunheError)
    async def _ours(request: Request, error: YunheError) -> Response:
        return problem_response(error, _request_id(request))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        known = from_errors(error.errors(), _body_model(request))
        if isinstance(error.body, bytes):
            known = errors.InvalidInput("the body is not JSON", hint="send Content-Type: application/json")
        return problem_response(known, _request_id(request))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        known: YunheError
        if error.status_code == 404:
            known = errors.NotFound(f"no such address: {request.url.path}")
        elif error.status_code == 413:
            known = errors.TooLarge(str(error.detail))
        elif error.status_code == 400:
            known = errors.InvalidInput("the body is not JSON in UTF-8 of a sane depth")
        elif error.status_code == 405:
            return _not_allowed(request, error)
        else:
            known = errors.InvalidInput(str(error.detail))
        return problem_response(known, _request_id(request))

    @app.exception_handler(ClientDisconnect)
    async def _gone(request: Request, error: ClientDisconnect) -> Response:
        # Nobody is left to read this; it is no mistake of the hub.
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> Response:
        return mistake_response(request.method, request.url.path, error, _request_id(request))


def _not_allowed(request: Request, error: HTTPException) -> Response:
    known = to_problem(errors.InvalidInput(f"{request.method} is not possible here"), _request_id(request))
    told = known.model_copy(update={"status": 405, "title": HTTPStatus.METHOD_NOT_ALLOWED.phrase})
    headers = dict(error.headers or {})
    return Response(told.model_dump_json(), status_code=405, media_type=CONTENT_TYPE, headers=headers)


def mistake_response(method: str, path: str, error: Exception, request_id: str) -> Response:
    """Status 500: what went wrong is in the log, not in the answer."""
    log.error("request %s %s failed", method, path, exc_info=error)
    known = errors.Unavailable("the hub made a mistake; it has been logged", hint="tell the operator the request id")
    told = to_problem(known, request_id)
    told = told.model_copy(update={"status": 500, "title": HTTPStatus.INTERNAL_SERVER_ERROR.phrase})
    return Response(told.model_dump_json(), status_code=500, media_type=CONTENT_TYPE)


def _body_model(request: Request) -> type[BaseModel] | None:
    """What the route's body should have been, so that a misspelt field can be told what was meant."""
    field = getattr(request.scope.get("route"), "body_field", None)
    return next(models_in(field.field_info.annotation), None) if field is not None else None


def _request_id(request: Request) -> str:
    return str(request.scope.get("yunhe_request_id", ""))


class Frame:
    """ASGI middleware: gives each request an id and refuses bodies over `limit(path)` bytes before they are read."""

    def __init__(self, app: App, limits: tuple[tuple[re.Pattern[str], int], ...], default_limit: int) -> None:
        self._app = app
        self._limits = limits
        self._default = default_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope["yunhe_request_id"] = request_id

        async def tagged_send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER, request_id.encode())]
            await send(message)

        if b"%00" in scope.get("raw_path", b"") or b"%00" in scope["query_string"]:
            refusal = errors.InvalidInput("the address has a NUL character in it")
            await problem_response(refusal, request_id)(scope, receive, tagged_send)
            return
        limit = next((n for pattern, n in self._limits if pattern.match(scope["path"])), self._default)
        too_large = f"the body is larger than {limit} bytes"
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or len(value) > 18 or int(value) > limit):
                await problem_response(errors.TooLarge(too_large), request_id)(scope, receive, tagged_send)
                return
        seen = 0

        async def bounded_receive() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(413, too_large)
            return message

        await self._app(scope, bounded_receive, tagged_send)
