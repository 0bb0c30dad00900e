"""Environment variables: the declaration of a setting, and a parser for each kind of value."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from socket import inet_aton
from typing import Any, TypeAlias, TypeVar, dataclass_transform
from urllib.parse import SplitResult, parse_qsl, urlsplit

from yarl import URL

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

Network: TypeAlias = IPv4Network | IPv6Network

#: Typed Any, so that a default of any type can be left out.
_NONE: Any = MISSING

#: Shared with others' variables: here only a near miss of one of ours is worth a warning.
_SHARED_PREFIXES = ("API_", "ENABLE_", "EVENT_", "RATE_")

#: Metadata services of the large clouds, besides the link-local addresses that most use.
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data"})
_METADATA_ADDRESSES = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16"})

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

#: Variables of LiveKit's own tools, and of workers, in the same environment.
_NEIGHBOURS = frozenset(
    {
        "AGENT_LIFECYCLE_URL",
        "AGENT_VERSION",
        "LIVEKIT_AGENT_DEPLOYMENT",
        "LIVEKIT_AGENT_NAME",
        "LIVEKIT_LOG_LEVEL",
        "LIVEKIT_SERVER_BIN",
    }
)


def setting(
    name: str, parse: Callable[[str], T], *, default: T = _NONE, dev: T = _NONE, secret: bool = False
) -> T:
    """A field read from the variable `name`, required without `default`; `dev`: the default in dev."""
    metadata = {"name": name, "parse": parse, "dev": default if dev is MISSING else dev}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting, field))
def settings(cls: type[T]) -> type[T]:
    """A frozen dataclass whose fields are settings."""
    return dataclass(frozen=True, kw_only=True)(cls)


def unknown(environ: Iterable[str], known: Sequence[str]) -> Iterator[str]:
    """A warning for each variable that is probably a misspelt one of ours."""
    prefixes = tuple({name[: name.index("_") + 1] for name in known if "_" in name})
    for name in sorted(environ):
        if name in known or name in _NEIGHBOURS or not name.startswith(prefixes):
            continue
        # A name that was cut short is closest to the whole name.
        whole = [setting for setting in known if setting.startswith(name)]
        is_shared = name.startswith(_SHARED_PREFIXES)
        close = whole or difflib.get_close_matches(name, known, n=1, cutoff=0.8 if is_shared else 0.6)
        if close or not is_shared:
            hint = f"; did you mean {close[0]}?" if close else ""
            yield f"{name} is not a setting of this service and is ignored{hint}"


def between(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,15}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def member(kind: type[E]) -> Callable[[str], E]:
    def parse(text: str) -> E:
        try:
            return kind(text.lower())
        except ValueError:
            raise ValueError("must be one of " + ", ".join(kind)) from None

    return parse


def boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true or false")


def names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ValueError("must name at least one agent")
    for name in names:
        if len(name) > 128 or not name.isprintable():  # noqa: PLR2004 - as in the message
            raise ValueError("has a name longer than 128 characters or with an unprintable character")
    return names


def api_keys(text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if any(len(key) < 16 for key in keys):  # noqa: PLR2004 - as in the message
        raise ValueError("has a key shorter than 16 characters, which can be guessed")
    return keys


def memory_keys(text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if any(len(key) < 32 for key in keys):  # noqa: PLR2004 - as in the message
        raise ValueError("has a key shorter than 32 characters, such as `openssl rand -hex 32` makes")
    return keys


def pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None


def _split(url: str) -> SplitResult:
    """Raises: ValueError: it is no URL; the message does not repeat it, since it may hold a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is not a URL") from None
    return parts


def parse_livekit_url(text: str) -> str:
    """An address that every client may see."""
    # In a path too: there it is the rest of a password with a slash.
    if "@" in text:
        raise ValueError("must have no user name and no password: every client would get them")
    if "?" in text or "#" in text:
        raise ValueError("must have no query and no fragment, such as ?access_token=...")
    parts = _split(text)
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname or not _has_valid_port(parts):
        raise ValueError("must be like wss://example.livekit.cloud")
    return text.rstrip("/")


def _has_valid_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def origins(text: str) -> tuple[str, ...]:
    """Origins as a browser writes them, or `*`: they are compared with its header letter by letter."""
    entries = (entry.strip() for entry in text.split(",") if entry.strip())
    found = (_origin(entry, number) for number, entry in enumerate(entries, start=1))
    return tuple(dict.fromkeys(found))


def _origin(text: str, number: int) -> str:
    if text == "*":
        return text
    try:
        url = URL(text)
        origin = str(url.origin())
    except ValueError:
        raise ValueError(f"has an entry {number} that is not like https://app.example.com, or *") from None
    if set("@?#") & set(text) or url.raw_path != "/":
        raise ValueError(f"has an entry {number} with more than scheme, host and port")
    is_web = url.scheme in ("http", "https")
    if not is_web or not re.fullmatch(r"[a-z0-9._:-]+", url.raw_host or "", re.ASCII):
        raise ValueError(f"has an entry {number} that is not like https://app.example.com, or *")
    return origin


def proxies(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("must be addresses or networks like 10.0.0.0/8, comma separated") from None


def web_url(text: str) -> str:
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be like https://example.com/path")
    return text.rstrip("/")


def receiver_url(text: str) -> str:
    """A web URL, except a cloud's metadata service, which gives its secrets to any local caller."""
    web_url(text)
    host = (urlsplit(text).hostname or "").rstrip(".")
    if host in _METADATA_NAMES or _is_metadata(host):
        raise ValueError("must not be a cloud's metadata service")
    return text


def _is_metadata(host: str) -> bool:
    try:
        # Unlike ip_address it reads 2852039166 and 0xa9.0xfe.0xa9.0xfe, as connect does.
        address = ip_address(host if ":" in host else inet_aton(host))
    except (ValueError, OSError):
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_link_local or str(mapped or address) in _METADATA_ADDRESSES


def log_level(text: str) -> str:
    level = text.upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
    return level


def sqlite_url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def sqlite_path(url: str) -> Path | None:
    """The file of a URL from `parse_database_url`; None for a server."""
    scheme, _, rest = url.partition(":///")
    return Path(rest.partition("?")[0]) if scheme.startswith("sqlite") else None


def parse_database_url(text: str) -> str:
    """The URL in SQLAlchemy's form; raises ValueError for anything but SQLite and Postgres."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return sqlite_url(Path(text))
    if scheme in ("sqlite", "sqlite+aiosqlite") and rest.strip("/"):
        return f"sqlite+aiosqlite://{rest}"
    if scheme in ("postgres", "postgresql", "postgresql+asyncpg"):
        return f"postgresql+asyncpg://{_postgres_address(rest)}"
    raise ValueError("must be sqlite:///path/to/file or postgresql://user:password@host/name")


def _postgres_address(rest: str) -> str:
    """The part after the scheme, checked without a server; the driver accepts libpq's forms."""
    parts = _split(f"//{rest}")
    try:
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError("has a query that is not name=value&name=value") from None
    if parts.fragment:
        raise ValueError("contains a #; in a password write it as %23")
    if query.get("sslmode", "prefer") not in _SSL_MODES:
        raise ValueError("has an sslmode that is not one of " + ", ".join(_SSL_MODES))
    if not query.get("connect_timeout", "1").isdecimal():
        raise ValueError("has a connect_timeout that is not a whole number of seconds")
    for host in parts.netloc.rpartition("@")[2].split(","):
        port = re.fullmatch(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::(\d{1,5})?)?", host)
        if port is None or int(port[1] or 1) not in range(1, 65_536):
            raise ValueError("has a host that is not of the form name:port")
    return rest
