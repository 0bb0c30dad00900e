"""What is worth an alert: the rules, their thresholds, and what to do about each."""

from collections import deque
from collections.abc import Iterable

from app.alerts.model import GOOD, UNSURE, Figures, Level, Rule, RuleResult
from app.config.settings import Config
from app.lifecycle import SECOND_US, Dispatch, State

MINUTE_US = 60 * SECOND_US

#: The states in which there is, or may be, an agent that costs something.
_COSTLY = (State.STARTING, State.ACTIVE, State.IDLE, State.ENDING)
#: A dispatch whose removal has failed this often gets an alert of its own.
STUCK_AFTER = 3
CLEANUP_WINDOW_US, MIN_CLEANUPS = 10 * MINUTE_US, 10
LOG_WINDOW_US, MIN_LINES = 5 * MINUTE_US, 200
#: Creations that failed longer ago say nothing about now.
CREATIONS_STALE_US = 30 * MINUTE_US
#: LiveKit sends a webhook at once, and again for some 15 s; clocks may differ by some of it.
WEBHOOK_PATIENCE_US = MINUTE_US
#: A join from before our start, told by a clock that differs, is not to be taken for one after it.
START_MARGIN_US = 10 * SECOND_US
_ROOMS_TOLD = 5


def rules_for(config: Config, started_at: int) -> list[Rule]:
    """Every rule there is, with the thresholds of the configuration."""
    return [
        DatabaseFailing(),
        NoWebhooks(config, started_at),
        NoWorker(),
        CreationFailing(config.alert_create_failures),
        CleanupStuck(),
        CleanupFailures(config.alert_cleanup_failure_percent),
        TooManyAgents(config.alert_max_agents),
        LogDrops(config.alert_log_drop_percent),
    ]


class DatabaseFailing:
    name = "database_failing"
    advice = (
        "Look at /readyz and the log for the reason: disk full, read-only, or Postgres away. Nothing is "
        "acknowledged meanwhile and agents are left alone; the service goes on by itself when the database "
        "does."
    )

    def __init__(self) -> None:
        self._failures = 0

    def judge(self, figures: Figures) -> RuleResult:
        """A single failure may be a restart of the server, which the next look does not meet any more."""
        failing = figures.facts is None or figures.last_commit_failed
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
            "LiveKit has to be told where to send its webhooks. Add to livekit-server's YAML and restart it "
            "(LiveKit Cloud: Settings, Webhooks):\n"
            "webhook:\n"
            f"  api_key: {config.livekit_key.key}\n"
            "  urls:\n"
            f"    - {url}\n"
            "If it is there already: is the URL right, https, and reachable from LiveKit? "
            "agent_lifecycle_webhooks_total counts those that were refused."
        )
        self._started_at = started_at

    def judge(self, figures: Figures) -> RuleResult:
        """The proof is a person whom LiveKit has when it is asked, and whose join it has not told us of."""
        joined_at, facts = figures.newest_join_at, figures.facts
        if facts is None:
            return UNSURE
        told_at = facts.last_webhook_at
        if told_at is not None and (joined_at is None or told_at >= joined_at - WEBHOOK_PATIENCE_US):
            return GOOD
        if joined_at is None or joined_at < self._started_at + START_MARGIN_US:
            return UNSURE
        if figures.at - joined_at < WEBHOOK_PATIENCE_US:
            return UNSURE
        return RuleResult(level=Level.BAD, summary="People are in rooms, and no webhook tells of them.")


class NoWorker:
    name = "no_worker"
    advice = (
        "Does a worker run, and is it registered with this LiveKit under an AGENT_NAME of ours? Is it at "
        "its load limit? Its log says so. People get their agent within 10 s once a worker takes jobs."
    )

    def judge(self, figures: Figures) -> RuleResult:
        if figures.facts is None:
            return UNSURE
        unserved = figures.facts.unserved
        if not unserved:
            return GOOD
        summary = f"People wait for an agent that no worker brings, in rooms: {len(unserved)}."
        return RuleResult(level=Level.BAD, summary=summary, rooms=_rooms(unserved))


class CreationFailing:
    name = "creation_failing"
    advice = (
        "LiveKit refuses dispatches or cannot be reached: agent_lifecycle_creation_failures_total says by "
        "which code, /readyz whether LiveKit answers. Check LIVEKIT_URL, LIVEKIT_API_KEY and "
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
        return RuleResult(
            level=Level.BAD, summary=f"Creations of dispatches that failed in a row: {failures}."
        )


class CleanupStuck:
    name = "cleanup_stuck"
    advice = (
        "An agent stays in LiveKit and costs money. The log says why its removal fails (action "
        "cleanup_failed); it is tried again in every CLEANUP_INTERVAL_MS. By hand: lk room participants "
        "remove."
    )

    def judge(self, figures: Figures) -> RuleResult:
        if figures.facts is None:
            return UNSURE
        stuck = figures.facts.stuck
        if not stuck:
            return GOOD
        summary = f"Agents that could not be removed in {STUCK_AFTER} tries or more: {len(stuck)}."
        return RuleResult(level=Level.BAD, summary=summary, rooms=_rooms(stuck))


class CleanupFailures:
    name = "cleanup_failures"
    advice = (
        "LiveKit is slow, away or refuses: agent_lifecycle_livekit_calls_total says which calls fail and "
        "how. Failed removals are tried again in every CLEANUP_INTERVAL_MS."
    )

    def __init__(self, percent: int) -> None:
        self._share = _Share(percent, CLEANUP_WINDOW_US, MIN_CLEANUPS)

    def judge(self, figures: Figures) -> RuleResult:
        level = self._share.judge(figures.at, figures.cleanup_failures, figures.cleanups)
        return RuleResult(level=level, summary=f"Of the removals of agents fail: {self._share.percent} %.")


class TooManyAgents:
    name = "too_many_agents"
    advice = (
        "More people than expected, or agents that nobody needs: GET /api/livekit/agents and /dashboard "
        "show each with its room. If it is as it should be, raise ALERT_MAX_AGENTS."
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
        return RuleResult(level=Level.BAD, summary=f"Agents: {agents}; the limit is {self._limit}.")


class LogDrops:
    name = "log_drops"
    advice = (
        "The log is incomplete. The summaries (action log_summary) say which lines were most; raise "
        "LOG_RATE_LIMIT if the platform takes more, set LOG_LEVEL higher, or leave ENABLE_LOG_AGGREGATION "
        "on."
    )

    def __init__(self, percent: int) -> None:
        self._share = _Share(percent, LOG_WINDOW_US, MIN_LINES)

    def judge(self, figures: Figures) -> RuleResult:
        level = self._share.judge(figures.at, figures.log_drops, figures.log_lines)
        return RuleResult(level=level, summary=f"Of the log lines are dropped: {self._share.percent} %.")


class _Share:
    """How many of all were bad within a sliding window, from counts that only grow."""

    def __init__(self, limit_percent: int, window_us: int, least: int) -> None:
        self._limit_percent = limit_percent
        self._window_us = window_us
        self._least = least
        #: Time, bad, all: the last one from before the window, and those in it.
        self._samples: deque[tuple[int, int, int]] = deque()
        self.percent = 0

    def judge(self, at: int, bad_ever: int, all_ever: int) -> Level:
        """Bad above the limit, among enough to say so; good again at half of it."""
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
    return tuple(names)[:_ROOMS_TOLD]
