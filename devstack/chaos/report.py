"""Report of a run: the figures and every violation of a promise."""

import time
from collections import Counter
from dataclasses import dataclass, field

from devstack.chaos.options import Options


@dataclass(frozen=True, kw_only=True)
class Violation:
    kind: str
    room: str
    detail: str


@dataclass(kw_only=True)
class Report:
    options: Options
    violations: list[Violation] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    #: The longest that something took, in seconds.
    longest: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    _reported: int = 0

    @property
    def killed(self) -> int:
        return self.kills.total()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    def violate(self, kind: str, room: str, detail: str) -> None:
        self.violations.append(Violation(kind=kind, room=room, detail=f"{_clock()} {detail}"))

    def new_violations(self) -> list[Violation]:
        """The violations since the last call."""
        fresh, self._reported = self.violations[self._reported :], len(self.violations)
        return fresh

    def took(self, what: str, seconds: float) -> None:
        self.longest[what] = max(seconds, self.longest.get(what, 0.0))

    def text(self) -> str:
        options = self.options
        lines = [
            f"seed {options.seed}, {options.database}, {options.database.replicas} service process(es)",
            f"{self.killed} kills survived in {self.elapsed_s:.0f} s ({_listed(self.kills)})"
            if not self.violations
            else f"{self.killed} kills in {self.elapsed_s:.0f} s ({_listed(self.kills)})",
            f"counted: {_listed(self.counts)}",
            f"answers: {_listed(self.answers)}",
            "longest: " + ", ".join(f"{what} {s:.1f} s" for what, s in sorted(self.longest.items())),
            f"violations: {len(self.violations)}",
        ]
        kinds = Counter(violation.kind for violation in self.violations)
        lines += [f"  {number} x {kind}" for kind, number in kinds.most_common()]
        lines += [f"  - {v.kind} [{v.room}] {v.detail}" for v in self.violations]
        if self.violations:
            lines.append(f"logs and database: {options.folder}")
        return "\n".join(lines)


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{number} {what}" for what, number in counter.most_common()) or "none"


def _clock() -> str:
    return time.strftime("%H:%M:%S", time.gmtime())
