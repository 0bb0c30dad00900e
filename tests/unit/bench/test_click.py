"""What the figures of a click compare: the same stretch of time with the same."""

import pytest

from bench.click import Begun, Times, _figures


def times(*, join: float, called: float, answered: float) -> Times:
    """A person joins from 0 to `join`; the agent is called for at `called`. In seconds."""
    some = Times()
    some.add(Begun(join_s=0, in_s=join, called_s=called), answered)
    return some


def test_like_is_compared_with_like() -> None:
    figures = _figures(
        {
            "LiveKit's own": times(join=0.1, called=0, answered=0.5),
            "ours": times(join=0.1, called=0.1, answered=0.6),
            "warm": times(join=0.1, called=0.1, answered=0.2),
        },
        "loading 0 s",
    )
    p50 = [figure for figure in figures if figure.what.endswith("p50")]
    assert [figure.value for figure in p50] == pytest.approx([500, 500, 100, 100, 200, 100])
    assert [figure.ratio for figure in p50] == [
        None,
        pytest.approx(500 / 500),
        pytest.approx(100 / 500),
        pytest.approx(100 / 400),
        pytest.approx(200 / 500),
        None,
    ]
    assert [figure.is_met for figure in p50] == [None, None, True, None, None, True]
