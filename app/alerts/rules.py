"""The alert rules: what raises each alert, its thresholds, and what to do about it."""

from collections import deque
from collections.abc import Iterable, Mapping

from app.alerts.model import GOOD, UNSURE, Figures, Level, Rule, RuleResult
from app.alerts.worker_rules import CapacityLow, counted, fleet_in_words
from app.config.settings import Config
from app.lifecycle import SECOND_US, Dispatch, Event, State

MINUTE_US = 60 * SECOND_US

#: The states in which there is, or may be, an agent that costs something.
_COSTLY = (State.STARTING, State.ACTIVE, State.IDLE, State.ENDING)
#: A dispatch whose removal has failed this often gets an alert of its own.
STUCK_AFTER = 3
CLEANUP_WINDOW_US, MIN_CLEANUPS = 10 * MINUTE_US, 10
LOG_WINDOW_US, MIN_LINES = 5 * MINUTE_US, 200
#: Creations that failed longer ago say nothing about the present.
CREATIONS_STALE_US = 30 * MINUTE_US
#: LiveKit sends a webhook at once and retries it for about 15 s; the rest is for clocks that differ.
WEBHOOK_PATIENCE_US = MINUTE_US
#: By LiveKit's clock, which may differ, a join from before our start may seem to be after it.
START_MARGIN_US = 10 * SECOND_US
_ROOMS_SHOWN = 5


def rules_for(config: Config, started_at: int) -> list[Rule]:
    """Every rule there is, with the thresholds of the configuration."""
    return [
        DatabaseReplaced(),
        DatabaseFailing(),
        NoWebhooks(config, started_at),
        NoWorker(),
        CapacityLow(config.alert_free_slots_percent),
        CreationFailing(config.alert_create_failures),
        CleanupStuck(),
        CleanupFailures(config.alert_cleanup_failure_percent),
        TooManyAgents(config.alert_max_agents),
        LogDrops(config.alert_log_drop_percent),
    ]


class DatabaseReplaced:
    name = "database_replaced"
    advice = (
        "Somebody deleted, moved or replaced the SQLite file under the running service. What it would store "
        "now would be lost at a restart, so it stores nothing and acknowledges nothing. If you have the "
        "original, move it back (a copy is another file), and the service recovers by itself. Otherwise "
        "restart the service: it goes on with the file that is there, and finds the agents in LiveKit."
    )

    def judge(self, figures: Figures) -> RuleResult:
        if figures.file_problem is None:
            return GOOD
        return RuleResult(level=Level.BAD, summary=f"{figures.file_problem}.")


class DatabaseFailing:
    name = "database_failing"
    advice = (
        "Find the reason at /readyz and in the log: disk full, file system read-only, or Postgres down. "
        "Until the database works again, no webhook is acknowledged and agents are left alone. The service "
        "recovers by itself."
    )

    def __init__(self) -> None:
        self._failures = 0

    def judge(self, figures: Figures) -> RuleResult:
        """A single failure may be a restart of the server, which is over at the next check."""
        if figures.file_problem:
            # That has an alert of its own, with other advice.
            return UNSURE
        failing = figures.facts is None or figures.commits_fail
        self._failures = self._failures + 1 if failing else 0
        if self._failures < 2:  # noqa: PLR2004 - said above
            return UNSURE if failing else GOOD
        done = "read" if figures.facts is None else "written"
        return RuleResult(level=Level.BAD, summary=f"The database cannot be {done}.")


class NoWebhooks:
    name = "no_webhooks"

    def __init__(self, config: Config, started_at: int) -> None:
        url = f"{config.public_url or 'https://your-service'}/api/livekit/webhook"
        self.advice = (
            "LiveKit needs the URL for its webhooks. Add this to livekit-server's YAML and restart it "
            "(LiveKit Cloud: Settings, Webhooks):\n"
            "webhook:\n"
            f"  api_key: {config.livekit_key.key}\n"
            "  urls:\n"
            f"    - {url}\n"
            "If it is there already, check that the URL is right, https, and reachable from LiveKit. "
            "agent_lifecycle_webhooks_total counts rejected webhooks."
        )
        self._started_at = started_at

    def judge(self, figures: Figures) -> RuleResult:
        """The proof is a person whom LiveKit lists, and whose join no webhook has reported."""
        joined_at, facts = figures.newest_join_at, figures.facts
        if facts is None:
            return UNSURE
        heard_at = facts.last_webhook_at
        if heard_at is not None and (joined_at is None or heard_at >= joined_at - WEBHOOK_PATIENCE_US):
            return GOOD
        if joined_at is None or joined_at < self._started_at + START_MARGIN_US:
            return UNSURE
        if figures.at - joined_at < WEBHOOK_PATIENCE_US:
            return UNSURE
        return RuleResult(
            level=Level.BAD, summary="People are in rooms, but no webhook about them has arrived."
        )


#: Why people wait, by the event that ended the last try.
_CAUSES: Mapping[str, str] = {
    Event.UNTAKEN: "no worker takes the job",
    Event.JOIN_OVERDUE: "workers take the job, but no agent joins in time",
    Event.AGENT_LOST: "agents fail",
}


def _cause(dispatch: Dispatch) -> str:
    cause = _CAUSES.get(dispatch.cause or "", _CAUSES[Event.AGENT_LOST])
    if dispatch.cause != Event.JOIN_OVERDUE or not dispatch.terms:
        return cause
    return f"{cause} ({dispatch.terms.join_timeout_us // SECOND_US} s)"


class NoWorker:
    name = "no_worker"
    advice = (
        "If no worker takes the job: check in the worker's log that it is running, that it is registered "
        "with this LiveKit under an AGENT_NAME of ours, and that it is below its load limit. If no agent "
        "joins in time: find out what the worker does before it connects; if it needs that time, raise "
        "AGENT_JOIN_TIMEOUT_SECONDS, or join_timeout_s of this agent in AGENTS_FILE. If agents fail: the "
        "worker's log has the exception. People get their agent within 10 s once that is mended."
    )

    def judge(self, figures: Figures) -> RuleResult:
        if figures.facts is None:
            return UNSURE
        unserved = figures.facts.unserved
        if not unserved:
            return GOOD
        rooms = counted(len({dispatch.room_name for dispatch in unserved}), "room")
        causes = {_cause(dispatch) for dispatch in unserved}
        summary = f"People are waiting for an agent in {rooms}: {'; '.join(sorted(causes))}."
        names = {dispatch.agent_name for dispatch in unserved}
        summary += fleet_in_words([one for one in figures.fleet if one.agent_name in names])
        return RuleResult(level=Level.BAD, summary=summary, rooms=_rooms(unserved))


class CreationFailing:
    name = "creation_failing"
    advice = (
        "LiveKit rejects dispatches or cannot be reached: agent_lifecycle_creation_failures_total shows the "
        "codes, /readyz whether LiveKit answers. Check LIVEKIT_URL, LIVEKIT_API_KEY and "
        "LIVEKIT_API_SECRET."
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._failures = 0
        self._grown_at = 0

    def judge(self, figures: Figures) -> RuleResult:
        failures = figures.failed_creations_in_a_row
        if failures != self._failures:
            self._failures, self._grown_at = failures, figures.at
        if not failures or figures.at - self._grown_at >= CREATIONS_STALE_US:
            return GOOD
        if failures < self._limit:
            return UNSURE
        summary = f"The last {counted(failures, 'dispatch creation')} failed."
        return RuleResult(level=Level.BAD, summary=summary)


class CleanupStuck:
    name = "cleanup_stuck"
    advice = (
        "An agent stays in its room and costs money. The log shows why its removal fails (action "
        "cleanup_failed). The service retries every CLEANUP_INTERVAL_MS. To remove it by hand: lk room "
        "participants remove."
    )

    def judge(self, figures: Figures) -> RuleResult:
        if figures.facts is None:
            return UNSURE
        stuck = figures.facts.stuck
        if not stuck:
            return GOOD
        summary = f"{counted(len(stuck), 'agent')} could not be removed in {STUCK_AFTER} or more attempts."
        return RuleResult(level=Level.BAD, summary=summary, rooms=_rooms(stuck))


class CleanupFailures:
    name = "cleanup_failures"
    advice = (
        "LiveKit is slow, unreachable or rejects the calls: agent_lifecycle_livekit_calls_total shows which "
        "calls fail and how. The service retries failed removals every CLEANUP_INTERVAL_MS."
    )

    def __init__(self, percent: int) -> None:
        self._share = _Share(percent, CLEANUP_WINDOW_US, MIN_CLEANUPS)

    def judge(self, figures: Figures) -> RuleResult:
        level = self._share.judge(figures.at, figures.cleanup_failures, figures.cleanups)
        return RuleResult(level=level, summary=f"{self._share.percent} % of agent removals are failing.")


class TooManyAgents:
    name = "too_many_agents"
    advice = (
        "There are more people than expected, or agents that nobody needs. GET /api/livekit/agents and "
        "/dashboard list each agent with its room. If the number is right, raise ALERT_MAX_AGENTS."
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def judge(self, figures: Figures) -> RuleResult:
        if figures.facts is None:
            return UNSURE
        agents = sum(figures.facts.agents.get(state, 0) for state in _COSTLY)
        if agents <= self._limit * 9 // 10:
            return GOOD
        if agents <= self._limit:
            return UNSURE
        return RuleResult(level=Level.BAD, summary=f"There are {agents} agents; the limit is {self._limit}.")


class LogDrops:
    name = "log_drops"
    advice = (
        "The log is incomplete. The summaries (action log_summary) show how many lines of each level were "
        "dropped. Raise LOG_RATE_LIMIT if the platform takes more, set a higher LOG_LEVEL, or leave "
        "ENABLE_LOG_AGGREGATION on."
    )

    def __init__(self, percent: int) -> None:
        self._share = _Share(percent, LOG_WINDOW_US, MIN_LINES)

    def judge(self, figures: Figures) -> RuleResult:
        level = self._share.judge(figures.at, figures.log_drops, figures.log_lines)
        return RuleResult(level=level, summary=f"{self._share.percent} % of log lines are being dropped.")


class _Share:
    """The share that was bad within a sliding window, from counts that only grow."""

    def __init__(self, limit_percent: int, window_us: int, least: int) -> None:
        self._limit_percent = limit_percent
        self._window_us = window_us
        self._least = least
        #: Time, bad, all: the last one from before the window, and those in it.
        self._samples: deque[tuple[int, int, int]] = deque()
        self.percent = 0

    def judge(self, at: int, bad_ever: int, all_ever: int) -> Level:
        """Bad above the limit, with enough samples; good again at half of the limit."""
        self._samples.append((at, bad_ever, all_ever))
        while len(self._samples) > 1 and self._samples[1][0] <= at - self._window_us:
            self._samples.popleft()
        _, bad_before, all_before = self._samples[0]
        bad, total = bad_ever - bad_before, all_ever - all_before
        self.percent = 100 * bad // total if total else 0
        if total >= self._least and bad * 100 > self._limit_percent * total:
            return Level.BAD
        return Level.GOOD if bad * 200 <= self._limit_percent * total else Level.UNSURE


def _rooms(dispatches: Iterable[Dispatch]) -> tuple[str, ...]:
    names = dict.fromkeys(dispatch.room_name for dispatch in dispatches)
    return tuple(names)[:_ROOMS_SHOWN]
