"""The mirror of the dispatches: any order of updates, bounded."""

from dataclasses import replace

from app.dashboard.mirror import MAX_ENDED, MAX_LIVE, Mirror
from app.lifecycle import Dispatch, EndReason, State


def _dispatch(number: int = 0, *, version: int = 1, state: State = State.ACTIVE) -> Dispatch:
    return Dispatch(
        id=f"row-{number}",
        room_name=f"room-{number}",
        room_sid="RM",
        agent_name="agent",
        state=state,
        created_at=number,
        last_activity_at=number,
        version=version,
    )


def _ended(number: int, ended_at: int) -> Dispatch:
    return replace(
        _dispatch(number, version=9, state=State.ENDED), ended_at=ended_at, end_reason=EndReason.EXPIRED
    )


def test_an_older_version_changes_nothing() -> None:
    mirror = Mirror()
    newer = _dispatch(version=3, state=State.IDLE)
    mirror.apply_all([newer, _dispatch(version=2), newer])
    assert list(mirror) == [newer]
    assert mirror.drain() == [newer]


def test_an_ended_dispatch_stays_ended() -> None:
    mirror = Mirror()
    mirror.apply_all([_ended(0, 5), _dispatch(version=8)])
    assert [one.state for one in mirror] == [State.ENDED]


def test_drain_returns_each_change_once_in_its_current_version() -> None:
    mirror = Mirror()
    mirror.apply(_dispatch(version=1))
    mirror.apply(_dispatch(version=2, state=State.IDLE))
    assert [one.state for one in mirror.drain()] == [State.IDLE]
    assert mirror.drain() == []


def test_the_most_recently_ended_dispatches_are_kept() -> None:
    mirror = Mirror()
    for number in range(MAX_ENDED + 20):
        mirror.apply(_ended(number, ended_at=1_000 - number))
    kept = {one.id for one in mirror}
    assert kept == {f"row-{number}" for number in range(MAX_ENDED)}


def test_live_dispatches_over_the_limit_are_left_out_until_one_ends() -> None:
    mirror = Mirror()
    mirror.apply_all(_dispatch(number) for number in range(MAX_LIVE + 5))
    assert len(list(mirror)) == MAX_LIVE
    mirror.apply(_ended(0, 5))
    mirror.apply(_dispatch(MAX_LIVE + 1))
    assert f"row-{MAX_LIVE + 1}" in {one.id for one in mirror}
