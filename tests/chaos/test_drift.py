"""Drift in the chaos run: which differences count as broken promises, and which do not."""

import pytest

from devstack.chaos.databases import OpenDispatch, OpenWarmAgent
from devstack.chaos.drift import RoomState, differences, leftovers, pool_differences


def room(*, dispatches: tuple[str, ...] = (), agents: tuple[str, ...] = ()) -> RoomState:
    return RoomState(name="room", dispatches=dispatches, agents=agents)


def row(number: int, state: str, *, agent: str | None = None) -> OpenDispatch:
    return OpenDispatch(
        id=f"row-{number}", dispatch_id=f"AD_{number}", room_name="room", state=state, agent_identity=agent
    )


ONE = room(dispatches=("AD_1",), agents=("agent-1",))
ITS_ROW = row(1, "active", agent="agent-1")


def kinds(state: RoomState, *rows: OpenDispatch, wanted: bool = False) -> list[str]:
    return [found.kind for found in differences([state], rows, {"room"} if wanted else ())]


def test_one_agent_with_its_row_is_as_promised() -> None:
    assert kinds(ONE, ITS_ROW, wanted=True) == []
    assert kinds(room()) == []
    assert kinds(room(), row(1, "ending", agent="agent-1")) == []


@pytest.mark.parametrize(
    ("state", "rows", "kind"),
    [
        (room(dispatches=("AD_1", "AD_2"), agents=("agent-1",)), [ITS_ROW], "several dispatches in a room"),
        (room(dispatches=("AD_1",), agents=("agent-1", "agent-2")), [ITS_ROW], "several agents in a room"),
        (room(dispatches=("AD_1",)), [], "a dispatch that the table does not know"),
        (room(agents=("agent-1",)), [], "an agent that the table does not know"),
        (room(agents=("agent-1",)), [ITS_ROW], "a row without its dispatch"),
        (room(dispatches=("AD_1",)), [ITS_ROW], "a row without its agent"),
    ],
)
def test_each_difference_is_found(state: RoomState, rows: list[OpenDispatch], kind: str) -> None:
    assert kind in kinds(state, *rows)


def test_people_who_were_promised_an_agent_have_one() -> None:
    missing = "no agent for people who were promised one"
    starting = room(dispatches=("AD_1",))
    assert kinds(starting, row(1, "starting"), wanted=True) == [missing]
    assert kinds(starting, row(1, "starting")) == []
    # Also where LiveKit has no room, or the table no row.
    assert [found.kind for found in differences([], [], {"room"})] == [missing]


def test_whatever_is_left_is_a_leftover() -> None:
    assert leftovers([room()], []) == []
    assert [found.kind for found in leftovers([ONE], [ITS_ROW])] == [
        "a dispatch that did not end",
        "a row that did not end",
        "an agent that did not end",
    ]


HOLDING = RoomState(name="agent-warm.1", dispatches=("AD_9",), agents=("agent-9",))
CLAIMED = OpenDispatch(
    id="row-9",
    dispatch_id="AD_9",
    room_name="room",
    state="active",
    agent_identity="agent-9",
    holding_room="agent-warm.1",
)


def test_the_dispatch_of_a_warm_agent_is_in_its_holding_room() -> None:
    taken = room(agents=("agent-9",))
    assert differences([HOLDING, taken], [CLAIMED], {"room"}) == []
    assert [one.kind for one in differences([taken], [CLAIMED], {"room"})] == ["a row without its dispatch"]
    assert leftovers([HOLDING], ()) == []


@pytest.mark.parametrize(
    ("states", "warm", "rows", "expected"),
    [
        ([HOLDING], [OpenWarmAgent(id="1", state="waiting")], [], []),
        ([HOLDING], [OpenWarmAgent(id="1", state="claimed")], [CLAIMED], []),
        ([HOLDING], [], [], ["a holding room that the table does not know"]),
        ([HOLDING], [OpenWarmAgent(id="1", state="claimed")], [], ["a claimed agent without its dispatch"]),
        (
            [RoomState(name="agent-warm.1", dispatches=("AD_9",), agents=("agent-9", "agent-8"))],
            [OpenWarmAgent(id="1", state="waiting")],
            [],
            ["several agents in a holding room"],
        ),
        (
            [],
            [OpenWarmAgent(id=str(number), state="starting") for number in range(3)],
            [],
            ["more warm agents than wanted"],
        ),
    ],
)
def test_what_may_not_be_in_the_pool(
    states: list[RoomState], warm: list[OpenWarmAgent], rows: list[OpenDispatch], expected: list[str]
) -> None:
    assert [one.kind for one in pool_differences(states, warm, rows, most=2)] == expected
