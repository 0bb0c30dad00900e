"""How findings are told: a line each for a person or a log, or all of them as JSON."""

from collections.abc import Iterable

import msgspec

from app.cli.doctor.findings import Finding, Verdict
from app.logs.formats import printable

#: For a terminal: a sign, and its colour (ECMA-48, SGR).
_SIGNS = {
    Verdict.OK: ("\u2713", "32"),
    Verdict.WARNING: ("!", "33"),
    Verdict.FAULT: ("\u2717", "31"),
    Verdict.SKIPPED: ("-", "2"),
}
_CHECK_WIDTH, _VERDICT_WIDTH = 12, 8


class JsonFinding(msgspec.Struct, kw_only=True):
    check: str
    verdict: Verdict
    message: str
    fix: str | None


class JsonReport(msgspec.Struct, kw_only=True):
    healthy: bool
    findings: list[JsonFinding]


def line(check: str, finding: Finding, *, colour: bool) -> str:
    """One finding: its line, and under it what to do."""
    sign = f"{finding.verdict:<{_VERDICT_WIDTH}}"
    if colour:
        mark, code = _SIGNS[finding.verdict]
        sign = f"\033[{code}m{mark}\033[0m "
    told = f"{sign}{check:<{_CHECK_WIDTH}}{printable(finding.message)}"
    return told if finding.fix is None else f"{told}\n{' ' * _VERDICT_WIDTH}fix: {printable(finding.fix)}"


def summary(verdicts: Iterable[Verdict]) -> str:
    listed = list(verdicts)
    faults, warnings = listed.count(Verdict.FAULT), listed.count(Verdict.WARNING)
    return f"{_counted(faults, 'fault')}, {_counted(warnings, 'warning')}"


def to_json(findings: Iterable[tuple[str, Finding]]) -> str:
    listed = [
        JsonFinding(check=check, verdict=one.verdict, message=one.message, fix=one.fix)
        for check, one in findings
    ]
    healthy = all(one.verdict is not Verdict.FAULT for one in listed)
    return msgspec.json.format(msgspec.json.encode(JsonReport(healthy=healthy, findings=listed))).decode()


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
