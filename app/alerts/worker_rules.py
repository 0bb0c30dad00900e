"""The alert rule about the workers that report themselves, and what other alerts say of them."""

from collections.abc import Sequence

from app.alerts.model import GOOD, Figures, Level, RuleResult
from app.state.workers import AgentFleet, WorkerState


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def fleet_in_words(fleets: Sequence[AgentFleet]) -> str:
    if not fleets:
        return ""
    known, active = sum(one.known for one in fleets), sum(one.active for one in fleets)
    accepting = sum(one.workers[WorkerState.ACCEPTING] for one in fleets)
    workers, agents = counted(known, "worker"), counted(active, "agent")
    return f" {workers} known, {accepting} accepting jobs, {agents} on them."


class CapacityLow:
    name = "capacity_low"
    advice = (
        "The workers of an agent are nearly full: GET /api/livekit/workers and /dashboard list them. Start "
        "more, or let an autoscaler do it (agent_lifecycle_workers_desired). When they are full, new calls "
        "wait or get 429 at_capacity. If fewer free slots are right, lower ALERT_FREE_SLOTS_PERCENT."
    )

    def __init__(self, percent: int) -> None:
        """`percent` 0: never."""
        self._percent = percent

    def judge(self, figures: Figures) -> RuleResult:
        shares = [(one.free / one.slots, one) for one in figures.fleet if one.slots and one.free is not None]
        share, worst = min(shares, key=lambda pair: pair[0], default=(1.0, None))
        if worst is None or share * 100 >= self._percent:
            return GOOD
        summary = f"The workers of an agent have {worst.free} of {counted(worst.slots or 0, 'slot')} free."
        return RuleResult(level=Level.BAD, summary=summary)
