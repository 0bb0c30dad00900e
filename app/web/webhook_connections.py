"""Connections on which webhooks in the usual form are taken at once, and all else by aiohttp."""

import asyncio
from contextlib import suppress

from aiohttp import web

from app.errors import Busy
from app.web.connections import Connection, Places
from app.web.usual_request import UsualRequest, usual_request
from app.web.webhook import PendingWebhook, WebhookIntake


class WebhookConnection(Connection):
    """Takes a webhook itself if it arrives whole, alone and in the usual form, while nothing is under way.

    From the first byte of anything else, the connection is aiohttp's. It comes back only after a webhook that
    arrived in pieces: then it is certain where the next request begins.
    """

    def __init__(self, places: Places, server: web.Server, intake: WebhookIntake) -> None:
        super().__init__(places, server)
        self._intake = intake
        self._is_left_to_aiohttp = False
        #: The bytes that aiohttp has not got yet of the request under way; None: not known.
        self._missing: int | None = None
        #: The webhook under way.
        self._pending: PendingWebhook | None = None
        #: What has arrived since, or while the peer does not read.
        self._held = b""
        self.is_writing_paused = False
        self._is_closing = False
        #: Of a stop that waits for the answer.
        self._answered: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        if self._is_left_to_aiohttp:
            if self._missing is not None:
                self._missing -= len(data)
            super().data_received(data)
        elif self._pending or self.is_writing_paused:
            self._hold(data)
        elif not self._is_refused and not self._is_closing:
            request = usual_request(data)
            missing = request.missing_in(data) if request else None
            if request is None or missing != 0 or not self._take(request, data):
                self._is_left_to_aiohttp, self._missing = True, missing
                super().data_received(data)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(request, resp, start_time)
        if self._missing == 0 and resp.keep_alive:
            self._is_left_to_aiohttp, self._missing = False, None
        return finished

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._held = b""
        self._end_wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.is_writing_paused = True

    def resume_writing(self) -> None:
        super().resume_writing()
        self.is_writing_paused = False
        if self._pending is None:
            self._read_held()

    def close(self) -> None:
        self._is_closing = True
        super().close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's signature
        if self._pending:
            self._answered = self._loop.create_future()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._answered, timeout)
        await super().shutdown(timeout)

    def give_up(self) -> None:
        if self._pending is None:
            super().give_up()
            return
        self._is_closing = True
        self._pending.take_failure(Busy("The service is stopping; retry"))
        if self._wire is not None:
            self._wire.close()

    def _take(self, request: UsualRequest, received: bytes) -> bool:
        """Whether it was taken."""
        pending = self._intake.take(request, received, self._answer)
        if pending is None:
            return False
        # Else aiohttp would end the connection an hour after its own last answer. Idle ones end when places
        # run out, and by TCP's keepalive.
        self.keep_alive(True)
        self._head_since_s = None
        self._unread = 0
        if not pending.is_answered:
            self._pending = pending
            self._places.work(self)
        return True

    def _answer(self, answer: bytes) -> None:
        """Called once for each webhook that was taken, also if the connection is lost."""
        self._pending = None
        if self._wire is not None:
            self._wire.write(answer)
            # It waits from now on, even if it was answered at once.
            self._places.work(self)
            self._places.await_peer(self)
        self._end_wait()
        if not self.is_writing_paused:
            self._read_held()

    def _hold(self, data: bytes) -> None:
        self._held += data
        if self._wire is not None:
            self._wire.pause_reading()

    def _read_held(self) -> None:
        """Read what was held."""
        if not self._held or self._wire is None:
            return
        held, self._held = self._held, b""
        self._wire.resume_reading()
        try:
            self.data_received(held)
        except Exception:
            # What comes next must not be taken for the begin of a request.
            self.put_out()
            raise

    def _end_wait(self) -> None:
        if self._answered and not self._answered.done():
            self._answered.set_result(None)
