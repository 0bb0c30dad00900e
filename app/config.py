"""The settings: one frozen object, read once from the environment, or a list of all that is wrong with it."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from app.lifecycle import SECOND_US, Policy, Restart
from app.mode import Mode

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

#: Our variables begin so; another one that does is most likely a typing error.
_PREFIXES = (
    "LIVEKIT_",
    "AGENT_",
    "CLEANUP_",
    "LIFECYCLE_",
    "LOG_",
    "ENABLE_LOG_",
    "API_KEY",
    "LIVENESS_",
    "CORS_",
    "DATABASE_",
)

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_NOBODY: tuple[str, ...] = ()

#: What LiveKit's own tools read from the same environment.
_NEIGHBOURS = frozenset({"LIVEKIT_SERVER_BIN", "LIVEKIT_AGENT_NAME", "LIVEKIT_LOG_LEVEL"})

#: Python's `$` alone would let a last newline through; other dialects read it the same way.
ROOM_NAME_PATTERN = r"^[A-Za-z0-9_\-.:@#~+=](?:[A-Za-z0-9_\-.:@#~+= ]{0,126}[A-Za-z0-9_\-.:@#~+=])?$(?!\n)"


class Surroundings(StrEnum):
    """Where the service runs: `dev` opens the token endpoint and serves the demo page."""

    PRODUCTION = "production"
    DEV = "dev"


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
    surroundings: Surroundings = Surroundings.PRODUCTION
    log_level: str = "INFO"
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    cors_origins: tuple[str, ...] = ()
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


class _Reader:
    """Takes variables one by one and remembers which, and what was wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.known: list[str] = []
        self.problems: list[str] = []

    def take(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """The value of a variable; `default` where it is unset, empty, or wrong."""
        self.known.append(name)
        text = self._environ.get(name, "").strip()
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as problem:
            self.problems.append(f"{name} {problem}")
            return default

    def require(self, name: str, parse: Callable[[str], T], placeholder: T) -> T:
        if not self._environ.get(name, "").strip():
            self.known.append(name)
            self.problems.append(f"{name} is required")
            return placeholder
        return self.take(name, parse, placeholder)

    def unknown(self) -> Iterator[str]:
        for name in sorted(self._environ):
            if name in self.known or name in _NEIGHBOURS or not name.startswith(_PREFIXES):
                continue
            # A name that was cut short is nearer to its whole than to any of like length.
            whole = [known for known in self.known if known.startswith(name)]
            close = whole or difflib.get_close_matches(name, self.known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            yield f"{name} is not a setting of this service and is ignored{hint}"


def load_config(environ: Mapping[str, str]) -> Config:
    """Read the settings.

    Raises:
        ConfigError: naming every problem, not only the first.
    """
    reader = _Reader(environ)
    volume = Path(environ.get("RAILWAY_VOLUME_MOUNT_PATH") or "data")
    values = {
        "livekit_url": reader.require("LIVEKIT_URL", _livekit_url, ""),
        "livekit_key": Keypair(
            key=reader.require("LIVEKIT_API_KEY", str, ""),
            secret=reader.require("LIVEKIT_API_SECRET", str, ""),
        ),
        "webhook_keys": reader.take("LIVEKIT_WEBHOOK_KEYS", _keypairs, Config.webhook_keys),
        "agent_names": reader.require("AGENT_NAME", _names, _NOBODY),
        "database_url": reader.take("DATABASE_URL", parse_database_url, _sqlite_url(volume / "lifecycle.db")),
        "host": reader.take("HOST", str, Config.host),
        "port": reader.take("PORT", _between(0, 65_535), Config.port),
        "agent_ttl_s": reader.take("AGENT_TTL_SECONDS", _between(1, 7 * 86_400), Config.agent_ttl_s),
        "cleanup_interval_ms": reader.take(
            "CLEANUP_INTERVAL_MS", _between(100, 3_600_000), Config.cleanup_interval_ms
        ),
        "join_timeout_s": reader.take("AGENT_JOIN_TIMEOUT_SECONDS", _between(6, 600), Config.join_timeout_s),
        "liveness_interval_s": reader.take(
            "LIVENESS_INTERVAL_SECONDS", _between(0, 3_600), Config.liveness_interval_s
        ),
        "restart": reader.take("AGENT_RESTART", _member(Restart), Config.restart),
        "agent_closes_with_user": reader.take("AGENT_CLOSES_WITH_USER", _boolean, True),
        "mode": reader.take("LIFECYCLE_MODE", _member(Mode), Config.mode),
        "surroundings": reader.take("LIFECYCLE_ENV", _member(Surroundings), Config.surroundings),
        "log_level": reader.take("LOG_LEVEL", _log_level, Config.log_level),
        "api_keys": reader.take("API_KEYS", _api_keys, _NOBODY),
        "cors_origins": reader.take("CORS_ORIGINS", _origins, Config.cors_origins),
    }
    if reader.problems:
        raise ConfigError(reader.problems)
    return Config(**values, warnings=tuple(reader.unknown()))  # type: ignore[arg-type]


def _between(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,15}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def _member(kind: type[E]) -> Callable[[str], E]:
    def parse(text: str) -> E:
        try:
            return kind(text.lower())
        except ValueError:
            raise ValueError("must be one of " + ", ".join(kind)) from None

    return parse


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true or false")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ValueError("names no agent")
    for name in names:
        if len(name) > 128 or not name.isprintable():  # noqa: PLR2004 - said in the message
            raise ValueError("has a name over 128 characters, or with a character that cannot be printed")
    return names


def _api_keys(text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if any(len(key) < 16 for key in keys):  # noqa: PLR2004 - said in the message
        raise ValueError("has a key of under 16 characters, which can be guessed")
    return keys


def _keypairs(text: str) -> tuple[Keypair, ...]:
    pairs = []
    for number, part in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        key, colon, secret = part.partition(":")
        if not (key and colon and secret):
            raise ValueError(f"pair {number} must be key:secret")
        pairs.append(Keypair(key=key, secret=secret))
    return tuple(pairs)


def _livekit_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        raise ValueError("must be like wss://example.livekit.cloud")
    return text.rstrip("/")


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip().rstrip("/") for origin in text.split(",") if origin.strip())
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path):
            raise ValueError("must be origins like https://app.example.com, or *")
    return origins


def _log_level(text: str) -> str:
    level = text.upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
    return level


def _sqlite_url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def parse_database_url(text: str) -> str:
    """Our engine's form of a database URL; raises ValueError for anything but SQLite and Postgres."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _sqlite_url(Path(text))
    if scheme in ("sqlite", "sqlite+aiosqlite") and rest.strip("/"):
        return f"sqlite+aiosqlite://{rest}"
    if scheme in ("postgres", "postgresql", "postgresql+asyncpg"):
        return f"postgresql+asyncpg://{_postgres_address(rest)}"
    raise ValueError("must be sqlite:///path/to/file or postgresql://user:password@host/name")


def _postgres_address(rest: str) -> str:
    """What follows the scheme, checked as far as that needs no server; the driver reads libpq's forms."""
    parts = urlsplit(f"//{rest}")
    try:
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError("has a query that is not name=value&name=value") from None
    if parts.fragment:
        raise ValueError("has a # in it; in a password write it as %23")
    if query.get("sslmode", "prefer") not in _SSL_MODES:
        raise ValueError("has an sslmode other than " + ", ".join(_SSL_MODES))
    if not query.get("connect_timeout", "1").isdecimal():
        raise ValueError("has a connect_timeout that is not in whole seconds")
    for host in parts.netloc.rpartition("@")[2].split(","):
        port = re.fullmatch(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::(\d{1,5})?)?", host)
        if port is None or int(port[1] or 1) not in range(1, 65_536):
            raise ValueError("has a host that is not like name:port")
    return rest
