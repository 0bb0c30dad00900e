"""The doctor's report, as lines and as JSON."""

import io
import json

import pytest

from app.cli.commands import Terminal
from app.cli.doctor.checks import CHECKS, NAMES
from app.cli.doctor.findings import Finding, Verdict, fault, ok, warning
from app.cli.doctor.report import line, summary, to_json
from app.logs.formats import printable


class Screen(io.StringIO):
    """A terminal that takes any character."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_a_fault_has_its_fix_under_it() -> None:
    assert line("keys", fault("wrong", "do this"), colour=False) == (
        "fault   keys        wrong\n        fix: do this"
    )


def test_an_ok_is_one_line() -> None:
    assert line("keys", ok("right"), colour=False) == "ok      keys        right"


def test_other_peoples_names_cannot_move_the_cursor() -> None:
    assert line("rooms", warning("room \033[2J\n", "\a"), colour=False).count("\n") == 1
    assert printable("caf\u00e9 \033[2J\u202e") == "caf\u00e9 \\x1b[2J\\u202e"


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([Verdict.OK, Verdict.SKIPPED], "no faults, no warnings"),
        ([Verdict.FAULT, Verdict.WARNING, Verdict.WARNING], "1 fault, 2 warnings"),
    ],
)
def test_the_summary_counts(verdicts: list[Verdict], said: str) -> None:
    assert summary(verdicts) == said


@pytest.mark.parametrize(
    ("finding", "healthy"), [(warning("so so", "do"), True), (fault("bad", "do"), False)]
)
def test_json_says_whether_there_is_a_fault(finding: Finding, *, healthy: bool) -> None:
    told = json.loads(to_json([("keys", finding)]))
    assert told["healthy"] is healthy
    assert told["findings"][0] == {
        "check": "keys",
        "verdict": str(finding.verdict),
        "message": finding.message,
        "fix": "do",
    }


@pytest.mark.parametrize(
    ("stream", "environ", "is_rich"),
    [(Screen(), {}, True), (Screen(), {"NO_COLOR": "1"}, False), (io.StringIO(), {}, False)],
)
def test_colour_is_for_a_terminal(stream: io.StringIO, environ: dict[str, str], *, is_rich: bool) -> None:
    assert Terminal(stream, environ).is_rich is is_rich


def test_a_pipe_gets_plain_ascii() -> None:
    stream = io.StringIO()
    Terminal(stream, {}).write("caf\u00e9 \u2713")
    assert stream.getvalue() == "caf\\xe9 \\u2713\n"


def test_a_check_needs_only_earlier_checks() -> None:
    for position, check in enumerate(CHECKS):
        assert set(check.needs) <= set(NAMES[:position])
