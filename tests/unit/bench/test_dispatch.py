"""What a call takes beyond LiveKit's own answers."""

import pytest

from bench.dispatch import Comparison


def test_the_figures_of_a_call_are_those_beyond_livekits_own() -> None:
    compared = Comparison(
        what="reuse",
        at_most_ms=5.0,
        ours_s=[0.010] * 97 + [0.020] * 3,
        livekits_s=[0.004] * 97 + [0.016] * 3,
    )
    total, livekits, beyond_p99, beyond_p50 = compared.figures()
    assert [one.value for one in (total, livekits)] == pytest.approx([20.0, 16.0])
    assert [one.value for one in (beyond_p99, beyond_p50)] == pytest.approx([4.0, 6.0])
    assert [one.is_met for one in (beyond_p99, beyond_p50)] == [True, None]
