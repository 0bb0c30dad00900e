"""Findings of a check: a verdict, a message and a fix."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    #: It works, but not as well or as long as expected.
    WARNING = "warning"
    #: It does not work.
    FAULT = "fault"
    #: Not checked: as requested, or until something else is fixed.
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Finding:
    verdict: Verdict
    message: str
    #: A command or setting to copy, or a change to make; None if there is nothing to do.
    fix: str | None = None


#: What a check yields: one finding or several.
Findings = AsyncIterator[Finding]


def ok(message: str) -> Finding:
    return Finding(verdict=Verdict.OK, message=message)


def skipped(message: str, fix: str | None = None) -> Finding:
    return Finding(verdict=Verdict.SKIPPED, message=message, fix=fix)


def warning(message: str, fix: str) -> Finding:
    return Finding(verdict=Verdict.WARNING, message=message, fix=fix)


def fault(message: str, fix: str) -> Finding:
    return Finding(verdict=Verdict.FAULT, message=message, fix=fix)
