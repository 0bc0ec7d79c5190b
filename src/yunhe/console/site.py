"""The web application: pages, the forms that change a session, and what stands before them."""

import time
from collections.abc import Awaitable, Callable
from copy import copy
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

from fastapi import FastAPI, Form, Request, Response
from fastapi.responses import RedirectResponse
from nicegui import app as library
from nicegui import ui
from nicegui.language import Language

from yunhe.console import downloads, exports, sign_in
from yunhe.console.asking import Asking
from yunhe.console.guard import Guard, session_of
from yunhe.console.live import Live
from yunhe.console.moments import ZONE_COOKIE, zone_of
from yunhe.console.packing import Packing
from yunhe.console.pages import PAGES
from yunhe.console.sessions import Session, Sessions
from yunhe.console.settings import ConsoleSettings
from yunhe.console.shell import back_to
from yunhe.console.throttle import Buckets, address_of
from yunhe.console.view import View
from yunhe.core.errors import RateLimited, Unavailable, YunheError
from yunhe.sdk.client import Client

MAX_KEY_CHARS = 200
MAX_PATH_CHARS = 500
FAILED_KEYS, FAILED_KEYS_PER_S = 20, 1 / 6  # of one address: at once, and in the long run
LIBRARY_LANGUAGES: dict[str, Language] = {"en": "en-US", "zh": "zh-CN"}
Token = Annotated[str, Form(max_length=200)]


def make(settings: ConsoleSettings) -> FastAPI:
    """One console per process: the library keeps its pages in the module."""
    web = FastAPI(title="Yunhe console", docs_url=None, redoc_url=None, openapi_url=None)
    sessions = Sessions(settings.session_idle_s, settings.session_max_s, settings.max_sessions)
    asking = Asking(settings)
    live = Live(asking)
    guard = Guard(web, sessions, secure=settings.secure)  # for its cookie; the one before the pages is added below
    _forms(web, sessions, asking, guard)
    sign_in.add_routes(web, sessions, asking, guard)
    downloads.add_routes(web, asking)
    exports.add_routes(web, asking)
    for path, page in PAGES.items():
        _page(path, page, asking, live)
    library.on_shutdown(asking.close)
    library.add_static_files("/static", Path(__file__).parent / "static", max_cache_age=3600)
    ui.add_head_html('<link rel="stylesheet" href="/static/console.css">', shared=True)
    ui.add_head_html('<script src="/static/console.js"></script>', shared=True)
    ui.run_with(
        web,
        title="Yunhe",
        gzip_middleware_factory=None,  # outside of the guard, which reads the pages
        show_welcome_message=False,
        tailwind=False,
        unocss=None,
        reconnect_timeout=30.0,
    )
    visitors = Buckets(settings.visitor_requests, settings.visitor_requests_per_s)
    web.add_middleware(Guard, sessions=sessions, secure=settings.secure, visitors=visitors)
    web.add_middleware(Packing)
    return web


def _page(path: str, page: Callable[[View], Awaitable[None]], asking: Asking, live: Live) -> None:
    async def show(request: Request) -> None:
        zone = zone_of(request.cookies.get(ZONE_COOKIE))
        client, language = ui.context.client, session_of(request.scope).language
        client.page = copy(client.page)  # of this visitor, not of the route: the library has words of its own
        client.page.language = LIBRARY_LANGUAGES[language]
        await page(View(session_of(request.scope), asking, live, request.path_params, dict(request.query_params), zone))

    ui.page(path)(show)


def _forms(web: FastAPI, sessions: Sessions, asking: Asking, guard: Guard) -> None:
    failures = Buckets(FAILED_KEYS, FAILED_KEYS_PER_S)

    @web.post("/sign-in")
    async def with_key(
        request: Request,
        token: Token,
        key: Annotated[str, Form(max_length=MAX_KEY_CHARS)],
        back: Annotated[str, Form(max_length=MAX_PATH_CHARS)] = "/",
    ) -> Response:
        session = _checked(request, token)
        if failures.empty(address_of(request)):
            raise RateLimited("too many keys from where you are that are none", hint="try again in a minute")
        client = None
        try:
            client = asking.client(key.strip())
            who = await asking.ask(client, Client.whoami)
        except YunheError as error:
            if client is not None:
                client.close()
            known = isinstance(error, Unavailable)
            if not known:
                failures.take(address_of(request))
            told = urlencode({"why": "unreachable" if known else "wrong", "back": back_to(back)})
            return RedirectResponse(f"/sign-in?{told}", status_code=303)
        await sign_in.leave(asking, session)
        fresh = sessions.begin(time.monotonic(), session, client, who)
        return _with_cookie(RedirectResponse(back_to(back), status_code=303), guard, fresh)

    @web.post("/sign-out")
    async def sign_out(request: Request, token: Token) -> Response:
        session = _checked(request, token)
        await sign_in.leave(asking, session)
        fresh = sessions.begin(time.monotonic(), session)
        return _with_cookie(RedirectResponse("/", status_code=303), guard, fresh)

    @web.post("/language")
    async def language(request: Request, token: Token) -> Response:
        session = _checked(request, token)
        session.language = "en" if session.language == "zh" else "zh"
        return _back(request)

    @web.post("/dark")
    async def dark(request: Request, token: Token) -> Response:
        session = _checked(request, token)
        session.dark = not session.dark
        return _back(request)

    @web.exception_handler(YunheError)
    async def refused(_request: Request, error: YunheError) -> Response:
        status = 429 if isinstance(error, RateLimited) else 403
        return Response(f"{error.message}\n", status_code=status, media_type="text/plain")

    @web.get("/healthz")
    async def healthz() -> dict[str, bool]:
        return {"ok": True}


def _checked(request: Request, token: str) -> Session:
    """Raises Forbidden for a form that this session was not given."""
    session = session_of(request.scope)
    session.check(token)
    return session


def _with_cookie(answer: Response, guard: Guard, session: Session) -> Response:
    answer.headers["set-cookie"] = guard.cookie(session)
    return answer


def _back(request: Request) -> Response:
    """To the page that the form stood on: a path of this console, never an address."""
    _, _, rest = request.headers.get("referer", "").partition("://")
    _, slash, path = rest.partition("/")
    return RedirectResponse(f"/{path.lstrip('/')}" if slash else "/", status_code=303)
