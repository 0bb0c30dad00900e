"""Speech recognition that needs no cloud: a word is a tone, and its pitch is the word.

It hears real sound that has passed through LiveKit; `people.Person.speak` says such words.
"""

import array

import numpy as np
from livekit import rtc
from livekit.agents import APIConnectOptions, stt
from livekit.agents.language import LanguageCode
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from livekit.agents.utils import AudioBuffer

LOWEST_HZ, STEP_HZ = 400, 100
_SAMPLE_RATE_HZ = 16_000
#: The mean of a frame's samples, without their signs; a tone that is said has some 10,000.
_IS_LOUD = 1_000
#: A word has ended after so much silence, and was one if it was as long.
_GAP_S = 0.2


def tone_of(number: int) -> int:
    """The pitch, in Hz, that is heard as `word <number>`."""
    return LOWEST_HZ + number * STEP_HZ


class ToneSTT(stt.STT[str]):
    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))

    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        raise NotImplementedError("it hears streams only")

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,  # noqa: ARG002 - part of the interface
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        return _ToneStream(stt=self, conn_options=conn_options, sample_rate=_SAMPLE_RATE_HZ)


class _ToneStream(stt.RecognizeStream):
    async def _run(self) -> None:
        word = _Word()
        async for frame in self._input_ch:
            if not isinstance(frame, rtc.AudioFrame):
                continue
            samples = array.array("h", bytes(frame.data))
            is_loud = sum(map(abs, samples)) > _IS_LOUD * len(samples)
            if is_loud:
                if not word.samples:
                    self._tell(stt.SpeechEventType.START_OF_SPEECH)
                word.add(samples)
            elif word.has_ended(len(samples)):
                if text := word.text():
                    self._tell(stt.SpeechEventType.FINAL_TRANSCRIPT, text)
                self._tell(stt.SpeechEventType.END_OF_SPEECH)
                word = _Word()

    def _tell(self, event: stt.SpeechEventType, text: str = "") -> None:
        heard = [stt.SpeechData(language=LanguageCode("en"), text=text)] if text else []
        self._event_ch.send_nowait(stt.SpeechEvent(type=event, alternatives=heard))


class _Word:
    """What was heard since the last silence."""

    def __init__(self) -> None:
        self.samples = array.array("h")
        self._silent = 0

    def add(self, samples: "array.array[int]") -> None:
        self._silent = 0
        self.samples.extend(samples)

    def has_ended(self, silent: int) -> bool:
        """Note so many silent samples; whether the word has ended with them."""
        self._silent += silent
        return bool(self.samples) and self._silent >= _GAP_S * _SAMPLE_RATE_HZ

    def text(self) -> str:
        """The word; empty for a click, or for a word that was half missed."""
        if len(self.samples) < _GAP_S * _SAMPLE_RATE_HZ:
            return ""
        loudness = np.abs(np.fft.rfft(np.asarray(self.samples)))
        hz = int(np.argmax(loudness)) * _SAMPLE_RATE_HZ / len(self.samples)
        return f"word {round((hz - LOWEST_HZ) / STEP_HZ)}"
