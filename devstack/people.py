"""People in a room: real clients that publish a microphone, send texts, and read the agent's answers."""

import array
import asyncio
import contextlib
import datetime as dt
import itertools
import math
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self

from livekit import api, rtc

from devstack.livekit_server import LiveKitServer
from devstack.truth import eventually

CHAT_TOPIC = "lk.chat"
TRANSCRIPTION_TOPIC = "lk.transcription"
_FINAL = "lk.transcription_final"
_SAMPLE_RATE_HZ = 48_000
_FRAME_MS = 10
_TONE_HZ = 400
_TONE_AMPLITUDE = 16_000
_WORD_FRAMES, _PAUSE_FRAMES = 100, 100
_SPOKEN_FRAMES, _SILENT_FRAMES = 40, 120


def member_token(
    server: LiveKitServer, room: str, identity: str, *, attributes: Mapping[str, str] | None = None
) -> str:
    """A token with which `identity` joins `room`."""
    token = (
        api.AccessToken(server.api_key, server.api_secret)
        .with_identity(identity)
        .with_ttl(dt.timedelta(hours=1))
        .with_grants(api.VideoGrants(room_join=True, room=room))
    )
    if attributes:
        token = token.with_attributes(dict(attributes))
    return token.to_jwt()


def phone_token(server: LiveKitServer, room: str, identity: str) -> str:
    """A token with which a caller by telephone joins, as livekit-sip makes it."""
    return (
        api.AccessToken(server.api_key, server.api_secret)
        .with_identity(identity)
        .with_kind("sip")
        .with_grants(api.VideoGrants(room_join=True, room=room))
        .to_jwt()
    )


def avatar_token(api_key: str, api_secret: str, room: str, agent_identity: str) -> str:
    """A token with which an agent's avatar joins, as livekit-agents' plugins make it."""
    return (
        api.AccessToken(api_key, api_secret)
        .with_identity(f"avatar-of-{agent_identity}")
        .with_kind("agent")
        .with_grants(api.VideoGrants(room_join=True, room=room))
        .with_attributes({"lk.publish_on_behalf": agent_identity})
        .to_jwt()
    )


class Person:
    """One client. `async with` leaves the room at its end."""

    def __init__(self) -> None:
        self._room = rtc.Room()
        self._microphone: rtc.AudioSource | None = None
        self._answers: asyncio.Queue[str] = asyncio.Queue()
        self._readers: set[asyncio.Task[None]] = set()
        self._room.register_text_stream_handler(TRANSCRIPTION_TOPIC, self._on_transcription)

    async def join(self, url: str, token: str, *, microphone: bool = True) -> Self:
        """Join and publish a (silent) microphone.

        Without a track LiveKit announces this person to the others up to 3 s later.
        """
        await self._room.connect(url, token)
        if not microphone:
            return self
        self._microphone = rtc.AudioSource(_SAMPLE_RATE_HZ, 1)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self._microphone)
        await self._room.local_participant.publish_track(
            track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        )
        return self

    @property
    def room(self) -> rtc.Room:
        return self._room

    @property
    def identity(self) -> str:
        return self._room.local_participant.identity

    @property
    def others(self) -> list[rtc.RemoteParticipant]:
        return list(self._room.remote_participants.values())

    @property
    def agents(self) -> list[rtc.RemoteParticipant]:
        return [one for one in self.others if one.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT]

    async def wait_for_agents(
        self, count: int = 1, *, timeout_s: float = 20.0
    ) -> list[rtc.RemoteParticipant]:
        """Return once exactly `count` agents are in the room."""
        changed = asyncio.Event()
        self._room.on("participant_connected", changed.set)
        self._room.on("participant_disconnected", changed.set)
        try:
            async with asyncio.timeout(timeout_s):
                while len(self.agents) != count:
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            seen = [one.identity for one in self.agents]
            raise TimeoutError(f"waited {timeout_s:g} s for {count} agents; in the room: {seen}") from None
        finally:
            self._room.off("participant_connected", changed.set)
            self._room.off("participant_disconnected", changed.set)
        return self.agents

    async def ask(self, text: str, *, timeout_s: float = 10.0) -> str:
        """Send `text` in the chat and return the agent's answer: the one that repeats the text.

        Everybody in a room receives the answers to all others too. After half the time it sends the text
        again: an agent ignores one that comes before LiveKit has announced its sender (livekit-agents 1.8.9
        logs "participant not found, ignoring text input").

        Raises:
            TimeoutError: nobody answered.
        """
        for _ in range(2):
            await self.say(text)
            try:
                async with asyncio.timeout(timeout_s / 2):
                    while text not in (answer := await self._answers.get()):
                        pass
                    return answer
            except TimeoutError:
                continue
        raise TimeoutError(f"{self.identity}: no answer to {text!r} within {timeout_s:g} s")

    async def ask_until_answered(self, text: str, *, timeout_s: float) -> str:
        """Ask again and again, as people do, until somebody answers; see `ask`."""
        answers: list[str] = []

        async def is_answered() -> bool:
            try:
                answers.append(await self.ask(text, timeout_s=2))
            except TimeoutError:
                return False
            return True

        await eventually(is_answered, f"an answer to {text!r}", timeout_s=timeout_s)
        return answers[0]

    async def say(self, text: str) -> None:
        await self._room.local_participant.send_text(text, topic=CHAT_TOPIC)

    async def next_answer(self, *, timeout_s: float = 10.0) -> str:
        try:
            return await asyncio.wait_for(self._answers.get(), timeout_s)
        except TimeoutError:
            raise TimeoutError(f"{self.identity}: no answer within {timeout_s:g} s") from None

    @contextlib.asynccontextmanager
    async def speaking(self) -> AsyncIterator[None]:
        """Play a tone into the microphone, with pauses as between words: LiveKit treats it as a voice."""
        if self._microphone is None:
            raise RuntimeError("this person joined without a microphone")
        task = asyncio.create_task(_hum(self._microphone))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def speak(self, tone_hz: int) -> None:
        """Say one word, as `tone_stt` hears them, and be silent after it, so that it is a turn of its own."""
        if self._microphone is None:
            raise RuntimeError("this person joined without a microphone")
        word = _frame(_TONE_AMPLITUDE, tone_hz)
        for frame in [word] * _SPOKEN_FRAMES + [_frame(0)] * _SILENT_FRAMES:
            await self._microphone.capture_frame(frame)

    async def leave(self) -> None:
        """Leave like a closed tab (CLIENT_INITIATED)."""
        await self._room.disconnect()
        if self._microphone is not None:
            await self._microphone.aclose()
            self._microphone = None
        for reader in list(self._readers):
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.leave()

    def _on_transcription(self, reader: rtc.TextStreamReader, identity: str) -> None:
        task = asyncio.get_running_loop().create_task(self._read(reader, identity))
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)

    async def _read(self, reader: rtc.TextStreamReader, identity: str) -> None:
        text = await reader.read_all()
        attributes = reader.info.attributes or {}
        # livekit-agents for Node never marks an agent's answer as final: its streams end without attributes.
        # What an agent has heard from people comes in their names.
        is_of_agent = identity in (agent.identity for agent in self.agents)
        if text and (is_of_agent or attributes.get(_FINAL, "true") == "true"):
            self._answers.put_nowait(text)


async def _hum(microphone: rtc.AudioSource) -> None:
    # LiveKit reports changes only: a listener who joins during an endless tone would not notice it.
    word, pause = _frame(_TONE_AMPLITUDE), _frame(0)
    for frame in itertools.cycle([word] * _WORD_FRAMES + [pause] * _PAUSE_FRAMES):
        # It returns when there is room for the next frame, so it keeps the pace.
        await microphone.capture_frame(frame)


def _frame(amplitude: int, tone_hz: int = _TONE_HZ) -> rtc.AudioFrame:
    """A frame of whole waves, as all multiples of 100 Hz have: so there is no click between frames."""
    count = _SAMPLE_RATE_HZ * _FRAME_MS // 1000
    wave = (math.sin(2 * math.pi * tone_hz * number / _SAMPLE_RATE_HZ) for number in range(count))
    samples = array.array("h", (round(amplitude * one) for one in wave))
    return rtc.AudioFrame(samples.tobytes(), _SAMPLE_RATE_HZ, 1, count)
