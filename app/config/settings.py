"""The settings: one frozen object, read once from the environment, or a list of all that is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.config.environment import (
    Network,
    Reader,
    alert_url,
    api_keys,
    between,
    boolean,
    livekit_url,
    log_level,
    member,
    names,
    origins,
    parse_database_url,
    proxies,
    sqlite_url,
    web_url,
)
from app.lifecycle import SECOND_US, Policy, Restart
from app.lifecycle.mode import Mode

_NOBODY: tuple[str, ...] = ()

#: Python's `$` alone would let a last newline through; other dialects read it the same way.
ROOM_NAME_PATTERN = r"^[A-Za-z0-9_\-.:@#~+=](?:[A-Za-z0-9_\-.:@#~+= ]{0,126}[A-Za-z0-9_\-.:@#~+=])?$(?!\n)"


class Environment(StrEnum):
    """Where the service runs: `dev` opens the token endpoint, and has other defaults."""

    PRODUCTION = "production"
    DEV = "dev"


class SessionRoomsBy(StrEnum):
    """By what a frontend that names neither room nor identity is known again."""

    OFF = "off"
    COOKIE = "cookie"


class ConfigError(Exception):
    """Everything that is wrong with the environment, by name and without showing a value that is secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Keypair:
    key: str
    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Config:
    livekit_url: str
    livekit_key: Keypair
    #: Further keys that webhooks and participant tokens may be signed with, for rotation.
    webhook_keys: tuple[Keypair, ...] = ()
    #: The first is the default.
    agent_names: tuple[str, ...]
    database_url: str = field(repr=False)
    host: str = "0.0.0.0"  # noqa: S104 - a server in a container listens to its outside
    port: int = 8080
    agent_ttl_s: int = 300
    cleanup_interval_ms: int = 60_000
    join_timeout_s: int = 15
    #: 0: agents are not probed on a clock.
    liveness_interval_s: int = 10
    restart: Restart = Restart.ON_FAILURE
    agent_closes_with_user: bool = True
    mode: Mode = Mode.ENFORCE
    environment: Environment = Environment.PRODUCTION
    demo_page: bool = False
    log_level: str = "INFO"
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    cors_origins: tuple[str, ...] = ()
    session_rooms: SessionRoomsBy = SessionRoomsBy.OFF
    #: Whose word about the caller's address is taken.
    trusted_proxies: tuple[Network, ...] = ()
    #: Calls of one caller; 0: no limit.
    rate_limit_per_minute: int = 60
    #: False: `/metrics` needs an API key.
    metrics_public: bool = True
    #: Lines a second; 0: no limit.
    log_rate_limit: int = 400
    log_aggregation: bool = True
    #: Room names and identities are logged as hashes.
    log_redact: bool = False
    #: None: alerts are logged and counted only. It may hold a secret, as Slack's does.
    alert_webhook_url: str | None = field(default=None, repr=False)
    alert_max_agents: int = 20
    alert_cleanup_failure_percent: int = 10
    alert_log_drop_percent: int = 5
    alert_create_failures: int = 3
    #: Where the outside reaches this service; None: not known.
    public_url: str | None = None
    #: Not errors, but worth a line at start.
    warnings: tuple[str, ...] = ()

    @property
    def policy(self) -> Policy:
        return Policy(
            ttl_us=self.agent_ttl_s * SECOND_US,
            join_timeout_us=self.join_timeout_s * SECOND_US,
            interval_us=self.cleanup_interval_ms * 1_000,
            restart=self.restart if self.mode.keeps_one else Restart.NEVER,
        )

    @property
    def room_timeout_s(self) -> int:
        """How long a room without people has to stay open, so that it outlives an agent's TTL."""
        return self.agent_ttl_s + 60

    @property
    def keys(self) -> Mapping[str, str]:
        """Secrets by key, of all that may sign for this LiveKit."""
        return {pair.key: pair.secret for pair in (self.livekit_key, *self.webhook_keys)}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never stand in a log. Whoever has the path of an alert webhook may post to it."""
        password = urlsplit(self.database_url).password or ""
        alerts = urlsplit(self.alert_webhook_url or "")
        return (*self.keys.values(), *self.api_keys, password, unquote(password), alerts.path, alerts.query)


def database_url(environ: Mapping[str, str]) -> str:
    """The database alone, for what needs nothing else; raises ValueError where it is none of ours."""
    return parse_database_url(environ.get("DATABASE_URL", "").strip() or _default_database_url(environ))


def _default_database_url(environ: Mapping[str, str]) -> str:
    volume = Path(environ.get("RAILWAY_VOLUME_MOUNT_PATH") or "data")
    return sqlite_url(volume / "lifecycle.db")


def load_config(environ: Mapping[str, str]) -> Config:
    """Read the settings.

    Raises:
        ConfigError: naming every problem, not only the first.
    """
    reader = Reader(environ)
    environment = reader.take("LIFECYCLE_ENV", member(Environment), Config.environment)
    dev = environment is Environment.DEV
    values = {
        "livekit_url": reader.require("LIVEKIT_URL", livekit_url, ""),
        "livekit_key": Keypair(
            key=reader.require("LIVEKIT_API_KEY", str, ""),
            secret=reader.require("LIVEKIT_API_SECRET", str, ""),
        ),
        "webhook_keys": reader.take("LIVEKIT_WEBHOOK_KEYS", _keypairs, Config.webhook_keys),
        "agent_names": reader.require("AGENT_NAME", names, _NOBODY),
        "database_url": reader.take("DATABASE_URL", parse_database_url, _default_database_url(environ)),
        "host": reader.take("HOST", str, Config.host),
        "port": reader.take("PORT", between(0, 65_535), Config.port),
        "agent_ttl_s": reader.take("AGENT_TTL_SECONDS", between(1, 7 * 86_400), Config.agent_ttl_s),
        "cleanup_interval_ms": reader.take(
            "CLEANUP_INTERVAL_MS", between(100, 3_600_000), Config.cleanup_interval_ms
        ),
        "join_timeout_s": reader.take("AGENT_JOIN_TIMEOUT_SECONDS", between(6, 600), Config.join_timeout_s),
        "liveness_interval_s": reader.take(
            "LIVENESS_INTERVAL_SECONDS", between(0, 3_600), Config.liveness_interval_s
        ),
        "restart": reader.take("AGENT_RESTART", member(Restart), Config.restart),
        "agent_closes_with_user": reader.take("AGENT_CLOSES_WITH_USER", boolean, True),
        "mode": reader.take("LIFECYCLE_MODE", member(Mode), Config.mode),
        "environment": environment,
        "demo_page": reader.take("DEMO_PAGE", boolean, dev),
        "trusted_proxies": reader.take("TRUSTED_PROXIES", proxies, Config.trusted_proxies),
        "rate_limit_per_minute": reader.take(
            "RATE_LIMIT_PER_MINUTE", between(0, 1_000_000), Config.rate_limit_per_minute
        ),
        "metrics_public": reader.take("METRICS_PUBLIC", boolean, Config.metrics_public),
        "log_rate_limit": reader.take("LOG_RATE_LIMIT", between(0, 1_000_000), Config.log_rate_limit),
        "log_aggregation": reader.take("ENABLE_LOG_AGGREGATION", boolean, Config.log_aggregation),
        "log_redact": reader.take("LOG_REDACT", boolean, Config.log_redact),
        "alert_webhook_url": reader.take("ALERT_WEBHOOK_URL", alert_url, None),
        "alert_max_agents": reader.take("ALERT_MAX_AGENTS", between(1, 1_000_000), Config.alert_max_agents),
        "alert_cleanup_failure_percent": reader.take(
            "ALERT_CLEANUP_FAILURE_PERCENT", between(1, 100), Config.alert_cleanup_failure_percent
        ),
        "alert_log_drop_percent": reader.take(
            "ALERT_LOG_DROP_PERCENT", between(1, 100), Config.alert_log_drop_percent
        ),
        "alert_create_failures": reader.take(
            "ALERT_CREATE_FAILURES", between(1, 1_000), Config.alert_create_failures
        ),
        "public_url": reader.take("PUBLIC_URL", web_url, None),
        "log_level": reader.take("LOG_LEVEL", log_level, Config.log_level),
        "api_keys": reader.take("API_KEYS", api_keys, _NOBODY),
        "cors_origins": reader.take("CORS_ORIGINS", origins, Config.cors_origins),
        "session_rooms": reader.take(
            "SESSION_ROOMS", member(SessionRoomsBy), SessionRoomsBy.COOKIE if dev else SessionRoomsBy.OFF
        ),
    }
    if reader.problems:
        raise ConfigError(reader.problems)
    return Config(**values, warnings=tuple(reader.unknown()))  # type: ignore[arg-type]


def _keypairs(text: str) -> tuple[Keypair, ...]:
    pairs = []
    for number, part in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        key, colon, secret = part.partition(":")
        if not (key and colon and secret):
            raise ValueError(f"pair {number} must be key:secret")
        pairs.append(Keypair(key=key, secret=secret))
    return tuple(pairs)
