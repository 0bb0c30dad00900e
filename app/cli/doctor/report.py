"""The doctor's report: a line for each finding, or all of them as JSON."""

from collections.abc import Sequence
from dataclasses import asdict

import msgspec

from app.cli.doctor.findings import Finding, Verdict
from app.logs.formats import printable

#: For a terminal: a sign and its colour (ECMA-48, SGR).
_SIGNS = {
    Verdict.OK: ("\u2713", "32"),
    Verdict.WARNING: ("!", "33"),
    Verdict.FAULT: ("\u2717", "31"),
    Verdict.SKIPPED: ("-", "2"),
}
_CHECK_WIDTH, _VERDICT_WIDTH = 12, 8


def line(check: str, finding: Finding, *, colour: bool) -> str:
    """One finding: its line, and the fix below."""
    sign = f"{finding.verdict:<{_VERDICT_WIDTH}}"
    if colour:
        mark, code = _SIGNS[finding.verdict]
        sign = f"\033[{code}m{mark}\033[0m "
    text = f"{sign}{check:<{_CHECK_WIDTH}}{printable(finding.message)}"
    return text if finding.fix is None else f"{text}\n{' ' * _VERDICT_WIDTH}fix: {printable(finding.fix)}"


def summary(verdicts: Sequence[Verdict]) -> str:
    faults, warnings = verdicts.count(Verdict.FAULT), verdicts.count(Verdict.WARNING)
    return f"{_counted(faults, 'fault')}, {_counted(warnings, 'warning')}"


def to_json(findings: Sequence[tuple[str, Finding]]) -> str:
    report = {
        "healthy": all(finding.verdict is not Verdict.FAULT for _, finding in findings),
        "findings": [{"check": check, **asdict(finding)} for check, finding in findings],
    }
    return msgspec.json.format(msgspec.json.encode(report)).decode()


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
