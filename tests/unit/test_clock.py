"""The clock that deadlines are compared with."""

import pytest

from app.clock import SteadyClock

SECOND_NS = 1_000_000_000
HOUR_NS = 3_600 * SECOND_NS


class Machine:
    def __init__(self) -> None:
        self.wall_ns = 1_800_000_000 * SECOND_NS
        self.monotonic_ns = 77 * SECOND_NS

    def pass_time(self, span_ns: int) -> None:
        self.wall_ns += span_ns
        self.monotonic_ns += span_ns


@pytest.mark.parametrize("jump_ns", [HOUR_NS, -HOUR_NS])
def test_a_jump_of_the_wall_clock_does_not_move_the_clock(jump_ns: int) -> None:
    machine = Machine()
    clock = SteadyClock(lambda: machine.wall_ns, lambda: machine.monotonic_ns)
    started_at = clock.now()
    machine.wall_ns += jump_ns
    machine.pass_time(5 * SECOND_NS)
    assert clock.now() - started_at == 5_000_000


def test_the_clock_starts_at_the_wall_time() -> None:
    machine = Machine()
    assert SteadyClock(lambda: machine.wall_ns, lambda: machine.monotonic_ns).now() == 1_800_000_000_000_000
