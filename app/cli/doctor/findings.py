"""What a check has found: a verdict, one sentence, and what to do where something is to be done."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    #: It works, but not as well or not as long as one would expect.
    WARNING = "warning"
    #: It does not work.
    FAULT = "fault"
    #: Not looked at: somebody said so, or something else has to be mended first.
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Finding:
    verdict: Verdict
    message: str
    #: Something to copy, or to change; None where nothing is to be done.
    fix: str | None = None


#: What the body of a check is: it says one thing or several.
Findings = AsyncIterator[Finding]


def ok(message: str) -> Finding:
    return Finding(verdict=Verdict.OK, message=message)


def skipped(message: str, fix: str | None = None) -> Finding:
    return Finding(verdict=Verdict.SKIPPED, message=message, fix=fix)


def warning(message: str, fix: str) -> Finding:
    return Finding(verdict=Verdict.WARNING, message=message, fix=fix)


def fault(message: str, fix: str) -> Finding:
    return Finding(verdict=Verdict.FAULT, message=message, fix=fix)
