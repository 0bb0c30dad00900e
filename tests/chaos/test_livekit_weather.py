"""LiveKit is slow, flaps, fails: callers hear the truth in time, nothing doubles, and it heals by itself."""

import asyncio
import random
import time

import pytest
from livekit import api

from devstack.callers import Answer, Caller
from devstack.service import Service
from devstack.truth import RoomTruth, eventually
from devstack.weather import FINE, Forecast, Weather
from sizes import SIZES

pytestmark = pytest.mark.real

#: Promised to a caller, whatever LiveKit does.
ANSWER_WITHIN_S = 10.0

STORMS = {
    "slow": Forecast(delay_s=10),
    "slow to say what it did": Forecast(delay_s=10, acts=True),
    "500": Forecast(status=500),
    "503": Forecast(status=503),
    "429": Forecast(status=429),
    "hangs up": Forecast(reset=True),
    "hangs up after it acted": Forecast(reset=True, acts=True),
}


async def timed(caller: Caller, room: str) -> tuple[Answer, float]:
    began = time.monotonic()
    answer = await caller.request_agent(room)
    return answer, time.monotonic() - began


async def granted(caller: Caller, room: str) -> None:
    async def is_granted() -> bool:
        return (await caller.request_agent(room)).status == 200

    await eventually(is_granted, "the service has recovered by itself", timeout_s=30)


def assert_truthful(answer: Answer) -> None:
    assert answer.status in (503, 504), answer
    assert answer.body["success"] is False
    assert answer.body["retryable"] is True
    assert answer.body["code"] in ("livekit_unavailable", "livekit_timeout")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("storm", STORMS.values(), ids=STORMS.keys())
async def test_a_caller_hears_in_time_that_livekit_cannot_be_asked(
    service: Service, weather: Weather, truth: RoomTruth, storm: Forecast
) -> None:
    async with Caller(service.base_url) as caller:
        weather.turn(storm)
        for answer, took_s in await asyncio.gather(*(timed(caller, truth.name) for _ in range(3))):
            assert_truthful(answer)
            assert took_s < ANSWER_WITHIN_S
        weather.clear_up()
        await granted(caller, truth.name)
        await eventually(truth.has_one_agent, "one agent and one dispatch")


@pytest.mark.parametrize(
    "storm",
    [Forecast(delay_s=10, acts=True), Forecast(status=502, acts=True), Forecast(reset=True, acts=True)],
    ids=["slow", "502", "hangs up"],
)
async def test_a_dispatch_whose_answer_was_lost_is_not_made_again(
    service: Service, weather: Weather, truth: RoomTruth, storm: Forecast
) -> None:
    weather.forecast = lambda method: storm if method == "CreateDispatch" else FINE
    async with Caller(service.base_url) as caller:
        answer, took_s = await timed(caller, truth.name)
        assert took_s < ANSWER_WITHIN_S
        # It finds what it made, by its own id, or says that it does not know.
        if answer.status != 200:
            assert_truthful(answer)
        weather.clear_up()
        await granted(caller, truth.name)
        await eventually(truth.has_one_agent, "one agent and one dispatch")
    assert weather.calls["CreateDispatch"] == 1


async def test_livekit_flaps(service: Service, weather: Weather, livekit_api: api.LiveKitAPI) -> None:
    rng = random.Random(11)  # noqa: S311 - weather, not secrets
    skies = [*STORMS.values(), Forecast(delay_s=0.5), Forecast(delay_s=1, acts=True)]
    rooms = [RoomTruth(livekit_api, f"flapping-{number}") for number in range(4)]

    def forecast(_method: str) -> Forecast:
        return rng.choice(skies) if rng.random() < 0.4 else FINE

    async def call_on(caller: Caller, room: RoomTruth) -> list[tuple[Answer, float]]:
        return [await timed(caller, room.name) for _ in range(SIZES.calls_while_flapping)]

    async with Caller(service.base_url) as caller:
        weather.forecast = forecast
        heard = await asyncio.gather(*(call_on(caller, room) for room in rooms))
        weather.clear_up()
        for answer, took_s in [one for some in heard for one in some]:
            assert took_s < ANSWER_WITHIN_S
            if answer.status != 200:
                assert_truthful(answer)
        for room in rooms:
            await granted(caller, room.name)
        for room in rooms:
            await eventually(room.has_one_agent, f"one agent and one dispatch in {room.name}")
            await caller.end_agent(room.name)
            await eventually(room.has_none, f"none in {room.name}")


async def test_an_agent_whose_time_was_up_meanwhile_ends_by_itself(
    service: Service, weather: Weather, truth: RoomTruth
) -> None:
    """A removal that LiveKit refuses is tried again; one whose answer is lost is not taken for done."""
    async with Caller(service.base_url) as caller:
        await granted(caller, truth.name)
        await eventually(truth.has_one_agent, "one agent")
        weather.turn(Forecast(status=503))
        refused = await caller.end_agent(truth.name)
        assert_truthful(refused)
        assert await truth.has_one_agent()
        assert (await caller.status(truth.name))["hasAgent"] is True
        weather.forecast = lambda method: (
            Forecast(reset=True) if method in ("DeleteDispatch", "RemoveParticipant") else FINE
        )
        await caller.end_agent(truth.name)
        assert weather.calls["DeleteDispatch"] > 0
        weather.clear_up()
        await eventually(truth.has_none, "the agent is gone without another call", timeout_s=20)


async def test_a_stop_does_not_wait_for_a_slow_livekit(
    service: Service, weather: Weather, truth: RoomTruth
) -> None:
    """Platforms kill after 10 s; a call that came the moment before would be on its way for as long."""
    async with Caller(service.base_url) as caller:
        slow = Forecast(delay_s=10, acts=True)
        weather.forecast = lambda method: slow if method == "CreateDispatch" else FINE
        asked = asyncio.create_task(caller.request_agent(truth.name))
        await eventually(lambda: _has_been_asked(weather), "LiveKit is being asked")
        service.child.terminate()

        assert await asyncio.to_thread(service.child.wait, 10) == 0

        await asyncio.gather(asked, return_exceptions=True)


async def _has_been_asked(weather: Weather) -> bool:
    return weather.calls["CreateDispatch"] > 0
