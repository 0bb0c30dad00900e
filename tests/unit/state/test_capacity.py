"""Who gets a place: the limits, and the order of those who wait."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from app.state.capacity import Cap, Claim, Limits, Place, Standing, standings

ROOMS = st.sampled_from(["a", "b", "c", "d", "e"])
PEOPLE = st.sampled_from([None, "alice", "bob"])
LIMIT = st.none() | st.integers(1, 4)


def claim(number: int, room: str, person: str | None = None) -> Claim:
    return Claim(id=f"{number}", agent_name="agent", room_name=room, requested_by=person, asked_at=number)


def free(position: int = 1) -> Standing:
    return Standing(blocked_by=None, position=position)


def test_places_go_by_the_time_of_asking_whatever_the_order_of_the_rows() -> None:
    claims = [claim(3, "c"), claim(1, "a"), claim(2, "b")]

    found = standings(claims, [Place("taken", None)], Limits(max_agents=2))

    assert found == {
        "1": free(),
        "2": Standing(blocked_by=Cap.AGENTS, position=1),
        "3": Standing(blocked_by=Cap.AGENTS, position=2),
    }


def test_a_room_with_a_place_needs_no_other() -> None:
    found = standings([claim(1, "taken", "bob")], [Place("taken", "alice")], Limits(max_agents=1))

    assert found == {"1": free()}


def test_two_calls_for_one_room_are_one_place_in_the_queue() -> None:
    claims = [claim(1, "a"), claim(2, "a"), claim(3, "b")]

    found = standings(claims, [Place("taken", None)], Limits(max_agents=1))

    assert [found[str(number)].position for number in (1, 2, 3)] == [1, 1, 2]


def test_an_ending_agent_and_its_successor_are_one_place() -> None:
    taken = [Place("room", "alice"), Place("room", None)]

    assert standings([claim(1, "a")], taken, Limits(max_agents=2)) == {"1": free()}


def test_whom_only_an_own_limit_blocks_holds_up_nobody() -> None:
    claims = [claim(1, "a", "alice"), claim(2, "b", "bob"), claim(3, "c")]
    limits = Limits(max_agents=3, max_agents_per_identity=1)

    found = standings(claims, [Place("taken", "alice")], limits)

    assert found["1"].blocked_by is Cap.PER_IDENTITY
    assert found["2"].blocked_by is found["3"].blocked_by is None


def test_a_limit_below_what_is_there_refuses_and_ends_nothing() -> None:
    taken = [Place(f"room-{number}", None) for number in range(9)]

    assert standings([claim(1, "a")], taken, Limits(max_agents=2))["1"].blocked_by is Cap.AGENTS


@given(
    st.lists(st.tuples(ROOMS, PEOPLE), max_size=8),
    st.lists(st.tuples(ROOMS, PEOPLE), max_size=4, unique_by=lambda pair: pair[0]),
    LIMIT,
    LIMIT,
)
def test_grants_stay_within_the_limits_and_nobody_overtakes(
    asked: list[tuple[str, str | None]],
    there: list[tuple[str, str | None]],
    most: int | None,
    each: int | None,
) -> None:
    claims = [claim(number, *pair) for number, pair in enumerate(asked)]
    taken = [Place(*pair) for pair in there]
    limits = Limits(max_agents=most, max_agents_per_identity=each)

    found = standings(claims, taken, limits)

    granted = [one for one in claims if found[one.id].blocked_by is None]
    before = {place.room_name for place in taken}
    new = {one.room_name: one for one in reversed(granted) if one.room_name not in before}
    if most is not None:
        assert not new or len(before | new.keys()) <= most
    if each is not None:
        owned = Counter(place.requested_by for place in taken)
        for one in new.values():
            owned[one.requested_by] += 1
            assert one.requested_by is None or owned[one.requested_by] <= each
    blocked = [one.asked_at for one in claims if found[one.id].blocked_by is Cap.AGENTS]
    assert all(one.asked_at < min(blocked, default=99) for one in new.values())
