"""Sign-in through a provider: the browser goes there and comes back, and the hub says who it is.

The browser keeps a secret in a cookie that scripts cannot read; the hub was shown its SHA-256 when the sign-in began,
so an answer that another browser began is worth nothing here. A console that starts again meanwhile, or another one
behind the same address, finishes what was begun.
"""

import secrets
import time
from html import escape
from http.cookies import CookieError, SimpleCookie
from typing import Annotated
from urllib.parse import quote, unquote, urlencode

from fastapi import FastAPI, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from yunhe.console import wording
from yunhe.console.asking import Asking
from yunhe.console.guard import Guard, session_of
from yunhe.console.sessions import Session, Sessions
from yunhe.console.shell import back_to
from yunhe.core.errors import Unauthenticated, Unavailable, YunheError
from yunhe.sdk.client import Client
from yunhe.wire.api import SessionCreated, WhoAmI

COOKIE = "yunhe_sign_in"
CALLBACK = "/sign-in/callback"
BEGUN_S = 600
MAX_CHARS = 4096
# What a provider may say instead of a code (RFC 6749, 4.1.2.1; OpenID Connect Core 1.0, 3.1.2.6).
REFUSALS = frozenset(
    "access_denied account_selection_required consent_required interaction_required invalid_request invalid_scope "
    "login_required server_error temporarily_unavailable unauthorized_client unsupported_response_type".split()
)
Text = Annotated[str, Query(max_length=MAX_CHARS)]


def add_routes(web: FastAPI, sessions: Sessions, asking: Asking, guard: Guard) -> None:
    @web.post("/sign-in/with/{provider}")
    async def begin(
        request: Request,
        provider: str,
        token: Annotated[str, Form(max_length=200)],
        back: Annotated[str, Form(max_length=500)] = "/",
    ) -> Response:
        session = session_of(request.scope)
        session.check(token)
        session.failure = None
        browser = secrets.token_urlsafe(32)
        try:
            begun = await asking.ask(asking.visitor, lambda hub: hub.begin_sign_in(provider, browser))
            if not begun.url.startswith(("https://", "http://")):
                raise Unavailable("the hub named an address that is none")
        except YunheError as error:
            return _failed(session, error, back)
        answer = _elsewhere(session, begun.url)
        answer.headers.append("set-cookie", _cookie(f"{browser}.{quote(back_to(back), safe='')}", BEGUN_S, guard))
        return answer

    @web.get(CALLBACK + "/{provider}")
    async def callback(
        request: Request,
        provider: str,
        state: Text = "",
        code: Text = "",
        iss: Annotated[str | None, Query(max_length=500)] = None,
        error: Text = "",
    ) -> Response:
        session = session_of(request.scope)
        browser, back = _begun(request)
        try:
            if error or not code:
                raise _refusal(error)
            if not browser:
                raise Unauthenticated("this sign-in was begun elsewhere", hint="sign in again, in one browser")
            made = await asking.ask(asking.visitor, lambda hub: hub.finish_sign_in(provider, browser, state, code, iss))
        except YunheError as problem:
            answer = _failed(session, problem, back)
        else:
            await leave(asking, session)
            answer = RedirectResponse(back, status_code=303)
            answer.headers.append("set-cookie", guard.cookie(_entered(sessions, asking, session, made)))
        answer.headers.append("set-cookie", _cookie("", 0, guard))
        return answer


async def leave(asking: Asking, session: Session) -> None:
    """The hub ends a session that it gave; one that it cannot be told of ends there by itself."""
    if session.of_hub:
        session.of_hub = False
        try:
            await asking.ask(session.client, Client.sign_out)
        except YunheError:
            return


def _entered(sessions: Sessions, asking: Asking, session: Session, made: SessionCreated) -> Session:
    who = WhoAmI(organisation=made.organisation, member=made.member, role=made.role)
    fresh = sessions.begin(time.monotonic(), session, asking.client(made.key), who)
    fresh.of_hub = True
    return fresh


def _failed(session: Session, error: YunheError, back: str) -> Response:
    """The page of sign-in tells it: no text of it stands in an address, where anybody could write another."""
    session.failure = error
    return RedirectResponse(f"/sign-in?{urlencode({'back': back_to(back)})}", status_code=303)


def _refusal(told: str) -> YunheError:
    why = told if told in REFUSALS else "an error"
    return Unauthenticated(f"the provider says: {why}" if told else "the provider sent nothing", hint="sign in again")


def _elsewhere(session: Session, url: str) -> Response:
    """A page that leads to the provider: a form may lead to this console alone, says the policy of its pages."""
    language, where = session.language, escape(url, quote=True)
    title, go = (escape(wording.say(language, f"signin.{name}")) for name in ("leaving", "leaving_go"))
    return HTMLResponse(
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="0; url={where}"><link rel="stylesheet" href="/static/console.css"></head>'
        f'<body><main class="yunhe-page"><p>{title}</p><p><a href="{where}">{go}</a></p></main></body></html>'
    )


def _cookie(value: str, lasts_s: int, guard: Guard) -> str:
    secure = "; Secure" if guard.secure else ""
    return f"{COOKIE}={value}; Path={CALLBACK}; Max-Age={lasts_s}; HttpOnly; SameSite=Lax{secure}"


def _begun(request: Request) -> tuple[str, str]:
    """The browser's secret, and the page that it wanted."""
    try:
        found = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        found = None
    browser, _, back = (found.value if found else "").partition(".")
    return browser, back_to(unquote(back))
