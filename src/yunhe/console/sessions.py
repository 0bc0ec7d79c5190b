"""Who looks at the page: sessions in memory, named by a cookie that scripts cannot read.

A visitor has one too (language, dark mode). The API key of a user who signed in lies here and nowhere else: it is not
written to disk and not sent to the browser; a console that starts again asks everybody to sign in again.
"""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from yunhe.core.errors import Forbidden, YunheError
from yunhe.sdk.client import Client
from yunhe.wire.api import WhoAmI

COOKIE = "yunhe_console"
MAX_PER_USER = 50  # of one user, signed in: who signs in over and over ends only sessions of their own


@dataclass(slots=True)
class Session:
    """`token` guards forms: another site cannot know it."""

    id: str
    made_s: float
    used_s: float
    idle_s: float  # it ends so long after it was used,
    max_s: float  # and so long after it was made
    language: str = "en"
    dark: bool | None = None  # None: as the browser prefers
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    client: Client | None = None
    who: WhoAmI | None = None
    of_hub: bool = False  # the key is a session of the hub's, which ends with this one
    failure: YunheError | None = None  # of a sign-in through a provider, until the next try

    def check(self, token: str) -> None:
        """Raises Forbidden for a form that this session was not given."""
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            raise Forbidden("this form is of an older session; go back and load the page again")

    @property
    def signed_in(self) -> bool:
        return self.who is not None

    def over(self, now_s: float) -> bool:
        """Also of a page that stays open and asks by itself: that is not a person who uses it."""
        return now_s - self.used_s > self.idle_s or now_s - self.made_s > self.max_s


class Sessions:
    """At most `limit` of users and as many of visitors, so that no crowd of visitors signs a user out; one that is
    idle or old is gone. Times are monotonic seconds, told by the caller."""

    def __init__(self, idle_s: float, max_s: float, limit: int) -> None:
        self._idle_s, self._max_s, self._limit = idle_s, max_s, limit
        self._visitors: OrderedDict[str, Session] = OrderedDict()
        self._users: OrderedDict[str, Session] = OrderedDict()

    def find(self, session_id: str | None, now_s: float) -> Session | None:
        """None when it is unknown, idle for too long or too old."""
        wanted = session_id or ""
        kept = self._users if wanted in self._users else self._visitors
        session = kept.get(wanted)
        if session is None:
            return None
        if session.over(now_s):
            self.end(session)
            return None
        session.used_s = now_s
        kept.move_to_end(session.id)
        return session

    def begin(
        self, now_s: float, like: Session | None = None, client: Client | None = None, who: WhoAmI | None = None
    ) -> Session:
        """A new one, with the preferences of `like`, which ends: nobody keeps an id through a sign-in. A visitor's,
        or that of `who`, whose key `client` has."""
        session = Session(secrets.token_urlsafe(32), now_s, now_s, self._idle_s, self._max_s)
        if like is not None:
            session.language, session.dark = like.language, like.dark
            self.end(like)
        session.client, session.who = client, who
        kept = self._visitors if who is None else self._users
        kept[session.id] = session
        if who is not None:
            mine = [each for each in kept.values() if each.who == who]
            for each in mine[:-MAX_PER_USER]:
                self.end(each)
        while len(kept) > self._limit:
            self.end(next(iter(kept.values())))
        return session

    def end(self, session: Session) -> None:
        self._visitors.pop(session.id, None)
        self._users.pop(session.id, None)
        if session.client is not None:
            session.client.close()
        session.client, session.who = None, None
