"""The settings: one frozen object that is read from the environment at start."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from app.config.agents import AgentPolicy, MemberEnd, room_timeout_s
from app.config.agents_file import AgentsFile, AgentsFileError, Running, read_agents_file
from app.config.environment import (
    Network,
    api_keys,
    between,
    boolean,
    log_level,
    member,
    memory_keys,
    names,
    origins,
    parse_database_url,
    parse_livekit_url,
    pattern,
    proxies,
    receiver_url,
    setting,
    settings,
    unknown,
    web_url,
)
from app.config.event_endpoints import EventEndpoint, event_endpoints
from app.config.short_secrets import short_secrets
from app.config.tracing import TraceExporter, misspelt, trace_fields
from app.lifecycle import Policy, Restart
from app.lifecycle.mode import Mode

#: The secrets of each key that may sign for this LiveKit, the likeliest first.
Secrets: TypeAlias = Mapping[str, tuple[str, ...]]

#: A container's server is for its outside, and some platforms reach it by IPv6 only.
ANY_HOST = "::"


class Environment(StrEnum):
    """Where the service runs: `dev` opens the token endpoint and has other defaults."""

    PRODUCTION = "production"
    DEV = "dev"


class SessionRoomsBy(StrEnum):
    """How a frontend that names neither room nor identity is recognised."""

    OFF = "off"
    COOKIE = "cookie"


class ConfigError(Exception):
    """All problems of the environment, by name and without secret values."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Keypair:
    key: str
    secret: str = field(repr=False)


def _keypairs(text: str) -> tuple[Keypair, ...]:
    pairs = []
    for number, part in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        key, colon, secret = part.partition(":")
        if not (key and colon and secret):
            raise ValueError(f"pair {number} must be key:secret")
        pairs.append(Keypair(key=key, secret=secret))
    return tuple(pairs)


@settings
class Config:
    """One line for each variable: field, name, parser, default. docs/configuration.md describes them."""

    livekit_url: str = setting("LIVEKIT_URL", parse_livekit_url)
    #: What browsers get; None: the same.
    livekit_public_url: str | None = setting("LIVEKIT_PUBLIC_URL", parse_livekit_url, default=None)
    livekit_api_key: str = setting("LIVEKIT_API_KEY", str)
    livekit_api_secret: str = setting("LIVEKIT_API_SECRET", str, secret=True)
    #: Further keys that webhooks and participant tokens may be signed with, for rotation.
    webhook_keys: tuple[Keypair, ...] = setting("LIVEKIT_WEBHOOK_KEYS", _keypairs, default=())
    #: The first is the default.
    agent_names: tuple[str, ...] = setting("AGENT_NAME", names)
    #: Those of them whose workers are of type PUBLISHER.
    publisher_agents: tuple[str, ...] = setting("PUBLISHER_AGENTS", names, default=())
    database_url: str = setting("DATABASE_URL", parse_database_url, secret=True)
    #: `::` is every address, IPv4 as well.
    host: str = setting("HOST", str, default=ANY_HOST)
    port: int = setting("PORT", between(0, 65_535), default=8080)
    agent_ttl_s: int = setting("AGENT_TTL_SECONDS", between(1, 7 * 86_400), default=300)
    cleanup_interval_ms: int = setting("CLEANUP_INTERVAL_MS", between(100, 3_600_000), default=60_000)
    join_timeout_s: int = setting("AGENT_JOIN_TIMEOUT_SECONDS", between(6, 600), default=15)
    #: 0: agents are not probed on a clock.
    liveness_interval_s: int = setting("LIVENESS_INTERVAL_SECONDS", between(0, 3_600), default=10)
    restart: Restart = setting("AGENT_RESTART", member(Restart), default=Restart.ON_FAILURE)
    #: None: every name that LiveKit takes.
    room_name_pattern: re.Pattern[str] | None = setting("ROOM_NAME_PATTERN", pattern, default=None)
    #: Whether a participant may say what the agent is told; else only an API key may.
    member_metadata: bool = setting("MEMBER_METADATA", boolean, default=False)
    member_end: MemberEnd = setting("MEMBER_END", member(MemberEnd), default=MemberEnd.ALWAYS)
    #: Whether a participant's call restarts the TTL of an agent with nobody in.
    member_extends_ttl: bool = setting("MEMBER_EXTENDS_TTL", boolean, default=True)
    #: 0: no limit, as in LiveKit.
    member_token_max_days: int = setting("MEMBER_TOKEN_MAX_DAYS", between(0, 36_500), default=0)
    #: Whether a token that this service issues may start recordings.
    token_egress: bool = setting("TOKEN_EGRESS", boolean, default=False)
    #: Whether it may have attributes that LiveKit's own programs act on.
    token_lk_attributes: bool = setting("TOKEN_LK_ATTRIBUTES", boolean, default=False)
    agent_closes_with_user: bool = setting("AGENT_CLOSES_WITH_USER", boolean, default=True)
    mode: Mode = setting("LIFECYCLE_MODE", member(Mode), default=Mode.ENFORCE)
    environment: Environment = setting("LIFECYCLE_ENV", member(Environment), default=Environment.PRODUCTION)
    demo_page: bool = setting("DEMO_PAGE", boolean, default=False, dev=True)
    session_rooms: SessionRoomsBy = setting(
        "SESSION_ROOMS", member(SessionRoomsBy), default=SessionRoomsBy.OFF, dev=SessionRoomsBy.COOKIE
    )
    api_keys: tuple[str, ...] = setting("API_KEYS", api_keys, default=(), secret=True)
    cors_origins: tuple[str, ...] = setting("CORS_ORIGINS", origins, default=())
    #: Whose X-Forwarded-For is believed.
    trusted_proxies: tuple[Network, ...] = setting("TRUSTED_PROXIES", proxies, default=())
    #: Calls of one caller; 0: no limit.
    rate_limit_per_minute: int = setting("RATE_LIMIT_PER_MINUTE", between(0, 1_000_000), default=60)
    #: False: `/metrics` needs an API key.
    metrics_public: bool = setting("METRICS_PUBLIC", boolean, default=True)
    event_endpoints: tuple[EventEndpoint, ...] = setting("EVENT_WEBHOOKS", event_endpoints, default=())
    #: How long events can be read and sent again: longer than they are retried.
    event_days: int = setting("EVENT_DAYS", between(2, 90), default=7)
    #: How long the usage ledger is kept.
    usage_days: int = setting("USAGE_DAYS", between(1, 3_650), default=90)
    #: Whether what agents remember of conversations is kept for the agents that follow them.
    conversation_memory: bool = setting("CONVERSATION_MEMORY", boolean, default=False)
    #: What it is encrypted with: the first encrypts, all decrypt; none: LiveKit's secrets.
    memory_keys: tuple[str, ...] = setting("MEMORY_KEY", memory_keys, default=(), secret=True)
    #: How long it is kept after the last turn.
    memory_ttl_s: int = setting("MEMORY_TTL_SECONDS", between(60, 30 * 86_400), default=86_400)
    log_level: str = setting("LOG_LEVEL", log_level, default="INFO")
    #: Lines a second; 0: no limit.
    log_rate_limit: int = setting("LOG_RATE_LIMIT", between(0, 1_000_000), default=400)
    log_aggregation: bool = setting("ENABLE_LOG_AGGREGATION", boolean, default=True)
    #: Room names and identities are logged as hashes.
    log_redact: bool = setting("LOG_REDACT", boolean, default=False)
    #: None: alerts are logged and counted only. It may hold a secret, as Slack's does.
    alert_webhook_url: str | None = setting("ALERT_WEBHOOK_URL", receiver_url, default=None, secret=True)
    alert_max_agents: int = setting("ALERT_MAX_AGENTS", between(1, 1_000_000), default=20)
    alert_cleanup_failure_percent: int = setting("ALERT_CLEANUP_FAILURE_PERCENT", between(1, 100), default=10)
    #: Of the slots of an agent's workers; 0: no alert.
    alert_free_slots_percent: int = setting("ALERT_FREE_SLOTS_PERCENT", between(0, 100), default=10)
    alert_log_drop_percent: int = setting("ALERT_LOG_DROP_PERCENT", between(1, 100), default=5)
    alert_create_failures: int = setting("ALERT_CREATE_FAILURES", between(1, 1_000), default=3)
    #: For the metric of desired workers.
    worker_spare_slots: int = setting("WORKER_SPARE_SLOTS", between(0, 10_000), default=1)
    #: Where LiveKit reaches this service; None: not known.
    public_url: str | None = setting("PUBLIC_URL", web_url, default=None)
    #: TOML with a policy for each agent; None: the variables alone.
    agents_file: Path | None = setting("AGENTS_FILE", Path, default=None)
    #: The policies of agents, where AGENTS_FILE says something.
    agents: Mapping[str, AgentPolicy] = field(default_factory=dict)
    #: Where each value of a policy comes from, by agent name and key.
    policy_sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict, compare=False)
    running: Running = Running.KEEP
    #: By OpenTelemetry's own variables; None: nothing is traced.
    traces: TraceExporter | None = None
    trace_secrets: tuple[str, ...] = field(default=(), repr=False)
    #: Not errors, but logged at start.
    warnings: tuple[str, ...] = ()

    @property
    def livekit_key(self) -> Keypair:
        return Keypair(key=self.livekit_api_key, secret=self.livekit_api_secret)

    @property
    def browser_livekit_url(self) -> str:
        return self.livekit_public_url or self.livekit_url

    @property
    def policies(self) -> dict[str, AgentPolicy]:
        """The policy of every agent name."""
        return {name: self.agents.get(name, self.default_policy) for name in self.agent_names}

    @property
    def default_policy(self) -> AgentPolicy:
        """What the environment says of all agents."""
        return AgentPolicy(
            ttl_s=self.agent_ttl_s,
            join_timeout_s=self.join_timeout_s,
            restart=self.restart,
            closes_with_user=self.agent_closes_with_user,
            members_may_end=self.member_end,
        )

    @property
    def lifecycle_policy(self) -> Policy:
        """What does not depend on the agent."""
        return Policy(
            default=self.default_policy.terms(),
            interval_us=self.cleanup_interval_ms * 1_000,
            publisher_agents=frozenset(self.publisher_agents),
            restarts=self.mode.keeps_one,
            ends_sessions=self.mode.ends,
        )

    @property
    def room_timeout_s(self) -> int:
        return room_timeout_s(self.policies.values())

    @property
    def keys(self) -> Secrets:
        """All keys that may sign for this LiveKit; the main secret of a key comes before its others."""
        secrets: dict[str, dict[str, None]] = {}
        for pair in (self.livekit_key, *self.webhook_keys):
            secrets.setdefault(pair.key, {})[pair.secret] = None
        return {key: tuple(of_key) for key, of_key in secrets.items()}

    @property
    def livekit_secrets(self) -> tuple[str, ...]:
        """The secrets of all keys, the main one first."""
        return tuple(secret for secrets in self.keys.values() for secret in secrets)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be logged. The path of an alert webhook lets anybody post to it."""
        password = urlsplit(self.database_url).password or ""
        return (
            *self.livekit_secrets,
            *self.memory_keys,
            *self.api_keys,
            *self.trace_secrets,
            password,
            unquote(password),
            *urlsplit(self.alert_webhook_url or "")[2:4],
            *(secret for endpoint in self.event_endpoints for secret in endpoint.hidden),
        )


def load_config(environ: Mapping[str, str]) -> Config:
    """Read the settings.

    Raises:
        ConfigError: naming every problem, not only the first.
    """
    environ = {**environ, "DATABASE_URL": _database(environ)}
    is_dev = environ.get("LIFECYCLE_ENV", "").strip().lower() == Environment.DEV
    declared = {entry.name: entry for entry in fields(Config) if entry.metadata}
    values: dict[str, Any] = {}
    problems = []
    for field_name, entry in declared.items():
        name = entry.metadata["name"]
        text = environ.get(name, "").strip()
        try:
            if text:
                values[field_name] = entry.metadata["parse"](text)
            elif entry.default is MISSING:
                problems.append(f"{name} is required")
            elif is_dev:
                values[field_name] = entry.metadata["dev"]
        except ValueError as problem:
            problems.append(f"{name} {problem}")
    values |= trace_fields(environ, problems)
    problems.extend(short_secrets(values, is_dev=is_dev))
    agent_names = values.get("agent_names", ())
    if agent_names and not set(values.get("publisher_agents", ())) <= set(agent_names):
        problems.append("PUBLISHER_AGENTS has a name that is not one of AGENT_NAME")
    file = AgentsFile()
    if values.get("agents_file"):
        try:
            file = read_agents_file(values["agents_file"], agent_names)
        except AgentsFileError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    known = [entry.metadata["name"] for entry in declared.values()]
    config = Config(**values, warnings=(*unknown(environ, known), *misspelt(environ)))
    return replace(
        config,
        agents=file.policies(agent_names, config.default_policy),
        policy_sources=file.sources(agent_names, [name for name in known if environ.get(name, "").strip()]),
        running=file.running,
    )


def database_url(environ: Mapping[str, str]) -> str:
    """The database URL alone, for commands that need nothing else; raises ValueError if it is invalid."""
    return parse_database_url(_database(environ))


def _database(environ: Mapping[str, str]) -> str:
    volume = environ.get("RAILWAY_VOLUME_MOUNT_PATH") or "data"
    return environ.get("DATABASE_URL", "").strip() or f"{volume}/lifecycle.db"
