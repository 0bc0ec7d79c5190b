"""The first word of an agent process: the hub gives it an epoch, and refuses every older process of the site."""

import logging
import secrets

from yunhe.core.errors import Conflict, Forbidden, StaleMessage, Unauthenticated, Unavailable
from yunhe.site.certifier import VERSION
from yunhe.site.link import Backoff, Link
from yunhe.site.recorder import Recorder
from yunhe.site.settings import SiteSettings
from yunhe.wire.link import Hello, Welcome

log = logging.getLogger(__name__)


class Greeting:
    """Of one agent process. The same process may greet again; it stays the same one."""

    def __init__(self, settings: SiteSettings, recorder: Recorder, link: Link) -> None:
        self._settings = settings
        self._recorder = recorder
        self._link = link
        self._nonce = secrets.token_hex(8)

    async def greet(self) -> Welcome:
        """Until the hub takes this site. Raises StaleMessage when another process speaks for it."""
        await self._recorder.count_start()
        backoff = Backoff(self._settings.backoff_first_ms, self._settings.backoff_cap_ms)
        told = ""
        while True:
            try:
                return await self._greeted()
            except StaleMessage:  # a Conflict that no waiting mends
                raise
            except (Unavailable, Unauthenticated, Forbidden, Conflict) as error:
                # A site that waits for the operator's approval is refused until then.
                if str(error) != told:
                    told = str(error)
                    log.warning("the hub does not take this site yet: %s", told)
                await backoff.wait()

    async def _greeted(self) -> Welcome:
        previous, welcome = await self._welcomed()
        await self._recorder.note_epoch(spoken=welcome.epoch, heard=previous)
        await self._recorder.welcome(welcome.report_seq)
        self._link.epoch = welcome.epoch
        self._link.greeted.set()
        log.info("site %s speaks in epoch %d", self._settings.site_id, welcome.epoch)
        return welcome

    async def _welcomed(self) -> tuple[int, Welcome]:
        """The epoch before, and what the hub gives for it.

        A crash around the first poll of an epoch leaves open whether the hub has seen it: both are tried.
        """
        marks = self._recorder.marks
        hello = Hello(
            site_id=self._settings.site_id,
            previous_epoch=marks.epoch_spoken,
            nonce=self._nonce,
            start_no=marks.start_no,
            agent_version=VERSION,
        )
        if marks.epoch_heard != marks.epoch_spoken:
            # The last one again: the doubtful poll may have reached the hub between the first two.
            for previous in (marks.epoch_spoken, marks.epoch_heard):
                try:
                    return previous, await self._link.hello(hello.model_copy(update={"previous_epoch": previous}))
                except StaleMessage as error:
                    log.info("epoch %d is not the hub's: %s", previous, error)
        return marks.epoch_spoken, await self._link.hello(hello)
