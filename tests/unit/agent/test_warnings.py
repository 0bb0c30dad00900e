"""The helper's callback for warnings: once for each end, when the session can speak, and for nobody else."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from livekit import rtc
from reusable_agent import WARNING_METHOD, SessionWarning
from reusable_agent.warnings import Warnings


@dataclass
class FakeParticipant:
    methods: dict[str, Callable[[rtc.RpcInvocationData], str]] = field(default_factory=dict)

    def register_rpc_method(self, name: str, method: Callable[[rtc.RpcInvocationData], str]) -> None:
        self.methods[name] = method


@dataclass
class FakeRoom:
    local_participant: FakeParticipant = field(default_factory=FakeParticipant)
    remote_participants: dict[str, object] = field(default_factory=lambda: {"alice": object()})

    def warn(self, *, caller: str = "livekit", **changes: Any) -> str:
        told = {"reason": "max_session", "endsInS": 30, "endsAtMs": 1_000} | changes
        data = rtc.RpcInvocationData("request", caller, json.dumps(told), 2.0, method=WARNING_METHOD)
        return self.local_participant.methods[WARNING_METHOD](data)


async def next_rounds() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def heard() -> list[SessionWarning]:
    return []


@pytest.fixture
async def warnings(heard: list[SessionWarning]) -> Warnings:
    return Warnings(heard.append)


@pytest.fixture
def room(warnings: Warnings) -> FakeRoom:
    room = FakeRoom()
    warnings.open(cast("rtc.Room", room))
    return room


async def test_the_callback_gets_the_reason_and_the_time_left(
    warnings: Warnings, room: FakeRoom, heard: list[SessionWarning]
) -> None:
    warnings.ready()
    assert room.warn() == "{}"
    await next_rounds()
    (warning,) = heard
    assert warning.reason == "max_session"
    assert warning.ends_in_s == pytest.approx(30, abs=1)


async def test_a_repeated_warning_is_one_and_one_of_another_end_is_another(
    warnings: Warnings, room: FakeRoom, heard: list[SessionWarning]
) -> None:
    warnings.ready()
    room.warn()
    room.warn(endsInS=25)
    await next_rounds()
    assert len(heard) == 1
    room.warn(endsAtMs=2_000)
    await next_rounds()
    assert len(heard) == 2


async def test_an_early_warning_waits_for_the_session(
    warnings: Warnings, room: FakeRoom, heard: list[SessionWarning]
) -> None:
    room.warn()
    await next_rounds()
    assert heard == []
    warnings.ready()
    await next_rounds()
    assert len(heard) == 1


@pytest.mark.parametrize("is_ready", [False, True])
async def test_a_closed_session_is_not_called_back(
    warnings: Warnings,
    room: FakeRoom,
    heard: list[SessionWarning],
    is_ready: bool,  # noqa: FBT001 - the parameter of the test
) -> None:
    if is_ready:
        warnings.ready()
    room.warn()
    warnings.close()
    await next_rounds()
    assert heard == []


async def test_a_person_in_the_room_cannot_warn(
    warnings: Warnings, room: FakeRoom, heard: list[SessionWarning]
) -> None:
    warnings.ready()
    with pytest.raises(rtc.RpcError):
        room.warn(caller="alice")
    await next_rounds()
    assert heard == []


async def test_an_async_callback_is_awaited_and_one_that_raises_costs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said: list[str] = []

    async def say_goodbye(warning: SessionWarning) -> None:
        await asyncio.sleep(0)
        said.append(warning.reason)
        raise RuntimeError("no voice")

    warnings, room = Warnings(say_goodbye), FakeRoom()
    warnings.open(cast("rtc.Room", room))
    warnings.ready()
    assert room.warn() == "{}"
    await next_rounds()
    assert said == ["max_session"]
    assert [record.message for record in caplog.records] == ["the callback for a warning failed"]


async def test_without_a_callback_the_warning_is_taken() -> None:
    warnings, room = Warnings(None), FakeRoom()
    warnings.open(cast("rtc.Room", room))
    warnings.ready()
    assert room.warn() == "{}"
    await next_rounds()
