"""The settings: each variable's default, valid and invalid values; all problems at once, no secrets."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from app.config.agents import MemberEnd
from app.config.environment import parse_database_url
from app.config.event_endpoints import EventEndpoint
from app.config.settings import (
    Config,
    ConfigError,
    Environment,
    Keypair,
    SessionRoomsBy,
    load_config,
)
from app.lifecycle import SECOND_US, Restart

SECRET = "a-secret-of-at-least-thirty-two-characters"
NEEDED = {
    "LIVEKIT_URL": "wss://example.livekit.cloud",
    "LIVEKIT_API_KEY": "devkey",
    "LIVEKIT_API_SECRET": SECRET,
    "AGENT_NAME": "agent",
}


def load(**environ: str) -> Config:
    return load_config({**NEEDED, **environ})


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_config(environ)
    return error.value.problems


_EVENT_SECRET = "a" * 32

#: Variable, field, default, and texts with their values.
SETTINGS: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("HOST", "host", "::", {"127.0.0.1": "127.0.0.1", "0.0.0.0": "0.0.0.0"}),  # noqa: S104 - a test's
    ("PORT", "port", 8080, {"0": 0, "65535": 65_535, " 80 ": 80}),
    ("AGENT_TTL_SECONDS", "agent_ttl_s", 300, {"1": 1, "604800": 604_800}),
    ("CLEANUP_INTERVAL_MS", "cleanup_interval_ms", 60_000, {"100": 100, "3600000": 3_600_000}),
    ("AGENT_JOIN_TIMEOUT_SECONDS", "join_timeout_s", 15, {"6": 6, "600": 600}),
    ("LIVENESS_INTERVAL_SECONDS", "liveness_interval_s", 10, {"0": 0, "3600": 3_600}),
    (
        "AGENT_RESTART",
        "restart",
        Restart.ON_FAILURE,
        {"always": Restart.ALWAYS, "Never": Restart.NEVER, "on-failure": Restart.ON_FAILURE},
    ),
    (
        "AGENT_CLOSES_WITH_USER",
        "agent_closes_with_user",
        True,
        {
            "false": False,
            "0": False,
            "No": False,
            "off": False,
            "TRUE": True,
            "1": True,
            "yes": True,
            "on": True,
        },
    ),
    (
        "LIFECYCLE_MODE",
        "mode",
        "enforce",
        {"observe": "observe", "REUSE": "reuse", "enforce": "enforce"},
    ),
    ("LIFECYCLE_ENV", "environment", Environment.PRODUCTION, {"dev": Environment.DEV}),
    ("DEMO_PAGE", "demo_page", False, {"true": True, "off": False}),
    (
        "SESSION_ROOMS",
        "session_rooms",
        SessionRoomsBy.OFF,
        {"cookie": SessionRoomsBy.COOKIE, "Off": SessionRoomsBy.OFF},
    ),
    ("LOG_LEVEL", "log_level", "INFO", {"debug": "DEBUG", "WARNING": "WARNING", "Error": "ERROR"}),
    ("LOG_RATE_LIMIT", "log_rate_limit", 400, {"0": 0, "1000000": 1_000_000}),
    ("ENABLE_LOG_AGGREGATION", "log_aggregation", True, {"false": False}),
    ("LOG_REDACT", "log_redact", False, {"true": True}),
    ("RATE_LIMIT_PER_MINUTE", "rate_limit_per_minute", 60, {"0": 0, "600": 600}),
    (
        "TRUSTED_PROXIES",
        "trusted_proxies",
        (),
        {"10.0.0.0/8, ::1": (ip_network("10.0.0.0/8"), ip_network("::1"))},
    ),
    ("METRICS_PUBLIC", "metrics_public", True, {"false": False}),
    ("CONVERSATION_MEMORY", "conversation_memory", False, {"on": True, "true": True, "off": False}),
    (
        "MEMORY_KEY",
        "memory_keys",
        (),
        {"k" * 32: ("k" * 32,), f" {'a' * 32} , {'b' * 40},": ("a" * 32, "b" * 40)},
    ),
    ("MEMORY_TTL_SECONDS", "memory_ttl_s", 86_400, {"60": 60, "2592000": 2_592_000}),
    (
        "EVENT_WEBHOOKS",
        "event_endpoints",
        (),
        {
            f"https://example.com/hook?a#whsec_{_EVENT_SECRET}": (
                EventEndpoint(
                    name="https://example.com/hook",
                    url="https://example.com/hook?a",
                    secrets=(_EVENT_SECRET,),
                ),
            )
        },
    ),
    ("EVENT_DAYS", "event_days", 7, {"2": 2, "90": 90}),
    ("USAGE_DAYS", "usage_days", 90, {"1": 1, "3650": 3_650}),
    (
        "ALERT_WEBHOOK_URL",
        "alert_webhook_url",
        None,
        {"https://hooks.slack.com/services/T/B/x": "https://hooks.slack.com/services/T/B/x"},
    ),
    ("ALERT_MAX_AGENTS", "alert_max_agents", 20, {"1": 1, "1000": 1_000}),
    ("ALERT_CLEANUP_FAILURE_PERCENT", "alert_cleanup_failure_percent", 10, {"1": 1, "100": 100}),
    ("ALERT_FREE_SLOTS_PERCENT", "alert_free_slots_percent", 10, {"0": 0, "100": 100}),
    ("WORKER_SPARE_SLOTS", "worker_spare_slots", 1, {"0": 0, "10000": 10_000}),
    ("ALERT_LOG_DROP_PERCENT", "alert_log_drop_percent", 5, {"1": 1, "100": 100}),
    ("ALERT_CREATE_FAILURES", "alert_create_failures", 3, {"1": 1, "1000": 1_000}),
    ("PUBLIC_URL", "public_url", None, {"https://agents.example.com/": "https://agents.example.com"}),
    (
        "API_KEYS",
        "api_keys",
        (),
        {"a-key-of-sixteen": ("a-key-of-sixteen",), "a" * 16 + " , " + "b" * 20 + ",": ("a" * 16, "b" * 20)},
    ),
    (
        "CORS_ORIGINS",
        "cors_origins",
        (),
        {
            "*": ("*",),
            "https://app.example.com/, http://localhost:3000": (
                "https://app.example.com",
                "http://localhost:3000",
            ),
            "HTTPS://App.Example.COM:443,http://h:80/,https://h:80,http://h:443": (
                "https://app.example.com",
                "http://h",
                "https://h:80",
                "http://h:443",
            ),
            "https://b\u00fccher.example, https://stra\u00dfe.example, https://xn--bcher-kva.example": (
                "https://xn--bcher-kva.example",
                "https://xn--strae-oqa.example",
            ),
            "http://[0:0:0:0:0:0:0:1]:3000, http://127.0.0.1:3000": (
                "http://[::1]:3000",
                "http://127.0.0.1:3000",
            ),
        },
    ),
    (
        "LIVEKIT_WEBHOOK_KEYS",
        "webhook_keys",
        (),
        {
            f"old:{SECRET}": (Keypair(key="old", secret=SECRET),),
            "a:with:colons:in-it,": (Keypair(key="a", secret="with:colons:in-it"),),
            f"a:{SECRET},a:{SECRET}2": (
                Keypair(key="a", secret=SECRET),
                Keypair(key="a", secret=SECRET + "2"),
            ),
        },
    ),
    (
        "LIVEKIT_URL",
        "livekit_url",
        "wss://example.livekit.cloud",
        {"ws://localhost:7880/": "ws://localhost:7880", "https://lk.example.com": "https://lk.example.com"},
    ),
    (
        "LIVEKIT_PUBLIC_URL",
        "livekit_public_url",
        None,
        {"wss://lk.example.com/": "wss://lk.example.com"},
    ),
    ("AGENTS_FILE", "agents_file", None, {"/dev/null": Path("/dev/null")}),
    ("PUBLISHER_AGENTS", "publisher_agents", (), {"agent": ("agent",)}),
    ("ROOM_NAME_PATTERN", "room_name_pattern", None, {"org-[0-9]+": re.compile("org-[0-9]+")}),
    ("MEMBER_METADATA", "member_metadata", False, {"true": True}),
    (
        "MEMBER_END",
        "member_end",
        MemberEnd.ALWAYS,
        {"if_empty": MemberEnd.IF_EMPTY, "Never": MemberEnd.NEVER},
    ),
    ("MEMBER_EXTENDS_TTL", "member_extends_ttl", True, {"false": False}),
    ("MEMBER_TOKEN_MAX_DAYS", "member_token_max_days", 0, {"1": 1, "36500": 36_500}),
    ("TOKEN_EGRESS", "token_egress", False, {"true": True}),
    ("TOKEN_LK_ATTRIBUTES", "token_lk_attributes", False, {"true": True}),
    ("AGENT_NAME", "agent_names", ("agent",), {"a, b,a ,": ("a", "b"), "Ä name": ("Ä name",)}),
    (
        "DATABASE_URL",
        "database_url",
        "sqlite+aiosqlite:///data/lifecycle.db",
        {"postgres://u:p@h/d": "postgresql+asyncpg://u:p@h/d"},
    ),
]

BAD = {
    "PORT": ["-1", "65536", "80.0", "0x50", "eighty", "1_000", "٣", "9" * 400],
    "AGENTS_FILE": ["/no/such/file.toml"],
    "AGENT_TTL_SECONDS": ["0", "-1", "604801", "300s", "5m", "1e3"],
    "CLEANUP_INTERVAL_MS": ["99", "3600001", "x"],
    "AGENT_JOIN_TIMEOUT_SECONDS": ["5", "601"],
    "LIVENESS_INTERVAL_SECONDS": ["-1", "3601", "1.5"],
    "AGENT_RESTART": ["on_failure", "yes"],
    "AGENT_CLOSES_WITH_USER": ["maybe", "2"],
    "CONVERSATION_MEMORY": ["encrypted"],
    "MEMORY_KEY": ["short", f"{'k' * 32},{'k' * 31}"],
    "MEMORY_TTL_SECONDS": ["59", "2592001"],
    "MEMBER_END": ["sometimes", "true"],
    "MEMBER_TOKEN_MAX_DAYS": ["-1", "36501", "1.5"],
    "LIFECYCLE_MODE": ["dry-run"],
    "LIFECYCLE_ENV": ["staging"],
    "SESSION_ROOMS": ["true", "cookies"],
    "LOG_LEVEL": ["TRACE", "20"],
    "API_KEYS": ["short", "a-key-of-sixteen,short"],
    "CORS_ORIGINS": [
        "app.example.com",
        "https://app.example.com/path",
        "https://app.example.com//",
        "https://app.example.com?",
        "https://app.example.com/?q=1",
        "https://app.example.com/#top",
        "https://user:password@app.example.com",
        "https://@app.example.com",
        "https://*.example.com",
        "https://app.example.com:port",
        "https://app.example.com:65536",
        "https://app example.com",
        "https://app.example.com\\path",
        "ftp://x",
        "https://",
        "null",
        "null.example",
        "//app.example.com",
    ],
    "LIVEKIT_WEBHOOK_KEYS": ["key", "key:", f":{SECRET}", f"a:{SECRET},c", "a:fifteen-letters"],
    "LIVEKIT_API_SECRET": ["s", "fifteen-letters"],
    "LIVEKIT_URL": [
        "example.livekit.cloud",
        "ftp://example.com",
        "wss://",
        "7880",
        "wss://lk.example.com:port",
        "wss://lk.example.com:0",
        "wss://[::1",
    ],
    "LIVEKIT_PUBLIC_URL": ["lk.example.com", "wss://"],
    "PUBLISHER_AGENTS": ["another", ","],
    "ROOM_NAME_PATTERN": ["(", "[a-"],
    "AGENT_NAME": [",", " , ", "a" * 129, "a\tb", "a\0b"],
    "DATABASE_URL": ["mysql://h/d", "sqlite://", "sqlite:///", "://x"],
}


@pytest.mark.parametrize(("name", "field", "default"), [setting[:3] for setting in SETTINGS])
def test_a_variable_that_is_unset_or_empty_has_its_default(name: str, field: str, default: object) -> None:
    assert getattr(load(), field) == default
    if name not in NEEDED:
        assert getattr(load(**{name: "  "}), field) == default


@pytest.mark.parametrize(
    ("name", "field", "text", "value"),
    [(name, field, text, value) for name, field, _, good in SETTINGS for text, value in good.items()],
)
def test_a_valid_value_is_read(name: str, field: str, text: str, value: object) -> None:
    assert getattr(load(**{name: text}), field) == value


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_an_invalid_value_is_a_problem_with_its_name(name: str, text: str) -> None:
    (problem,) = problems({**NEEDED, name: text})
    assert problem.startswith(f"{name} ")


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("text", [None, "", "   "])
def test_four_variables_are_required(name: str, text: str | None) -> None:
    environ = {key: value for key, value in NEEDED.items() if key != name}
    assert problems(environ if text is None else {**environ, name: text}) == [f"{name} is required"]


def test_in_dev_rooms_are_kept_by_cookie_by_default() -> None:
    assert load(LIFECYCLE_ENV="dev").session_rooms is SessionRoomsBy.COOKIE
    assert load(LIFECYCLE_ENV="dev", SESSION_ROOMS="off").session_rooms is SessionRoomsBy.OFF


def test_in_dev_there_is_a_demo_page_by_default() -> None:
    assert load(LIFECYCLE_ENV="dev").demo_page
    assert not load(LIFECYCLE_ENV="dev", DEMO_PAGE="false").demo_page


def test_all_problems_are_reported_together() -> None:
    found = problems({"PORT": "x", "AGENT_RESTART": "x", "DATABASE_URL": "mysql://h"})
    assert {problem.split()[0] for problem in found} == {*NEEDED, "PORT", "AGENT_RESTART", "DATABASE_URL"}


def test_every_field_of_the_configuration_has_a_variable() -> None:
    ours = {field for _, field, _, _ in SETTINGS} | {
        "livekit_api_key",
        "livekit_api_secret",
        "agents",
        "policy_sources",
        "trace_secrets",
        "traces",
        "running",
        "warnings",
    }
    assert set(Config.__dataclass_fields__) == ours


def test_no_secret_is_in_a_problem() -> None:
    secrets = ["hunter2-hunter2", "hunter3"]
    found = problems(
        {
            "LIVEKIT_API_SECRET": secrets[0],
            "API_KEYS": secrets[1],
            "LIVEKIT_WEBHOOK_KEYS": f"key:{secrets[0]},{secrets[1]}",
            "DATABASE_URL": f"mysql://user:{secrets[0]}@host/name",
        }
    )
    assert not any(secret in problem for secret in secrets for problem in found)


def test_no_secret_is_in_the_representation() -> None:
    config = load(
        API_KEYS="an-api-key-of-ours",
        LIVEKIT_WEBHOOK_KEYS="old:an-old-secret-of-ours",
        ALERT_WEBHOOK_URL="https://hooks.example.com/a-hook-secret",
        DATABASE_URL="postgresql://user:a-password@host/name",
    )
    for secret in (SECRET, "an-api-key-of-ours", "an-old-secret-of-ours", "a-password", "a-hook-secret"):
        assert secret not in repr(config)
        assert secret not in str(config)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("AGENT_TTL_SECOND", "AGENT_TTL_SECONDS"),
        ("AGENT_TTL", "AGENT_TTL_SECONDS"),
        ("LIVEKIT_APIKEY", "LIVEKIT_API_KEY"),
        ("CORS_ORIGIN", "CORS_ORIGINS"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("API_KEY", "API_KEYS"),
        ("RATE_LIMIT_PER_MIN", "RATE_LIMIT_PER_MINUTE"),
        ("ENABLE_LOG_AGGREGATE", "ENABLE_LOG_AGGREGATION"),
        ("LOG_LEVELS", "LOG_LEVEL"),
    ],
)
def test_an_unknown_variable_with_one_of_our_prefixes_is_a_warning(name: str, nearest: str) -> None:
    (warning,) = load(**{name: "a-value"}).warnings
    assert name in warning
    assert f"did you mean {nearest}?" in warning
    assert "a-value" not in warning


def test_a_name_that_resembles_no_setting_has_no_hint() -> None:
    (warning,) = load(LIFECYCLE_XYZZY_PLUGH_FROTZ_BLORPLE="x").warnings
    assert "did you mean" not in warning


def test_variables_of_other_programs_give_no_warning() -> None:
    assert load(PATH="/bin", RAILWAY_SERVICE="x", LIVEKIT_LOG_LEVEL="debug").warnings == ()
    assert load(API_URL="x", ENABLE_BETA="1", RATE_SHEET="x", HOSTNAME="x").warnings == ()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("postgres://u:p@host:5432/name", "postgresql+asyncpg://u:p@host:5432/name"),
        ("postgresql://u:p@host/name", "postgresql+asyncpg://u:p@host/name"),
        ("postgresql+asyncpg://host/name", "postgresql+asyncpg://host/name"),
        ("postgresql:///name?host=/run/pg", "postgresql+asyncpg:///name?host=/run/pg"),
        ("postgresql://u@%2Frun%2Fpg/name", "postgresql+asyncpg://u@%2Frun%2Fpg/name"),
        ("postgresql://[::1]:5433/name", "postgresql+asyncpg://[::1]:5433/name"),
        ("postgresql://a:1,b:2/n?sslmode=require", "postgresql+asyncpg://a:1,b:2/n?sslmode=require"),
        ("sqlite:///relative.db", "sqlite+aiosqlite:///relative.db"),
        ("sqlite:////var/lib/absolute.db", "sqlite+aiosqlite:////var/lib/absolute.db"),
        ("sqlite+aiosqlite:///x.db", "sqlite+aiosqlite:///x.db"),
        ("folder/file.db", "sqlite+aiosqlite:///folder/file.db"),
        ("/var/lib/file.db", "sqlite+aiosqlite:////var/lib/file.db"),
    ],
)
def test_a_database_url_is_a_file_or_postgres_in_any_usual_form(text: str, url: str) -> None:
    assert parse_database_url(text) == url


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mysql://host/name", "must be sqlite"),
        ("postgresql://host:port/name", "a host that is not of the form name:port"),
        ("postgresql://host:70000/name", "a host that is not of the form name:port"),
        ("postgresql://host/name?sslmode=on", "sslmode"),
        ("postgresql://host/name?nothing", "a query"),
        ("postgresql://host/name?connect_timeout=soon", "connect_timeout"),
        ("postgresql://u:se#cret@host/name", "%23"),
    ],
)
def test_an_invalid_database_url_is_rejected_without_showing_it(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        parse_database_url(text)
    assert "cret" not in str(refused.value)


def test_the_default_database_is_on_railways_volume() -> None:
    assert (
        load(RAILWAY_VOLUME_MOUNT_PATH="/volume").database_url == "sqlite+aiosqlite:////volume/lifecycle.db"
    )
    chosen = load(RAILWAY_VOLUME_MOUNT_PATH="/volume", DATABASE_URL="/elsewhere.db")
    assert chosen.database_url == "sqlite+aiosqlite:////elsewhere.db"


def test_the_policy_is_in_microseconds() -> None:
    config = load(AGENT_TTL_SECONDS="60", AGENT_JOIN_TIMEOUT_SECONDS="10", CLEANUP_INTERVAL_MS="500")
    policy = config.lifecycle_policy
    assert (policy.default.ttl_us, policy.default.join_timeout_us) == (60 * SECOND_US, 10 * SECOND_US)
    assert policy.interval_us == SECOND_US // 2


def test_a_room_stays_open_longer_than_the_ttl() -> None:
    config = load(AGENT_TTL_SECONDS="900")
    assert config.room_timeout_s > config.agent_ttl_s


def test_all_keys_may_sign() -> None:
    assert load(LIVEKIT_WEBHOOK_KEYS="old:an-old-secret-of-ours").keys == {
        "devkey": (SECRET,),
        "old": ("an-old-secret-of-ours",),
    }


def test_a_former_secret_of_the_main_key_does_not_displace_the_main_one() -> None:
    config = load(LIVEKIT_WEBHOOK_KEYS=f"devkey:a-former-secret-1,devkey:{SECRET},devkey:a-former-secret-2")
    assert config.keys == {"devkey": (SECRET, "a-former-secret-1", "a-former-secret-2")}
    assert config.livekit_secrets == (SECRET, "a-former-secret-1", "a-former-secret-2")
    assert set(config.livekit_secrets) <= set(config.secrets)


def test_a_short_secret_is_rejected_without_showing_it() -> None:
    found = problems(
        {**NEEDED, "LIVEKIT_API_SECRET": "hunter2", "LIVEKIT_WEBHOOK_KEYS": f"a:{SECRET},b:hunter3"}
    )
    assert [problem.partition(" shorter than 16 characters")[0] for problem in found] == [
        "LIVEKIT_API_SECRET is",
        "LIVEKIT_WEBHOOK_KEYS has in pair 2 a secret",
    ]
    assert all("LIFECYCLE_ENV=dev" in problem and "hunter" not in problem for problem in found)


def test_in_dev_the_secret_of_livekit_servers_dev_mode_is_enough() -> None:
    config = load(LIFECYCLE_ENV="dev", LIVEKIT_API_SECRET="secret", LIVEKIT_WEBHOOK_KEYS="old:secret")
    assert config.keys == {"devkey": ("secret",), "old": ("secret",)}
    (problem,) = problems({**NEEDED, "LIFECYCLE_ENV": "dev", "LIVEKIT_API_SECRET": "12345"})
    assert problem == "LIVEKIT_API_SECRET is shorter than 6 characters, which can be guessed"


@pytest.mark.parametrize("name", ["LIVEKIT_URL", "LIVEKIT_PUBLIC_URL"])
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("wss://user:hunter2@lk.example.com", "user name"),
        ("wss://user@lk.example.com", "user name"),
        ("wss://@lk.example.com", "user name"),
        ("wss://user:12/hunter2@lk.example.com", "user name"),
        ("wss://lk.example.com?access_token=hunter2", "query"),
        ("wss://lk.example.com/?", "query"),
        ("wss://lk.example.com/#hunter2", "fragment"),
    ],
)
def test_what_every_client_gets_holds_no_password(name: str, url: str, problem: str) -> None:
    (found,) = problems({**NEEDED, name: url})
    assert found.startswith(f"{name} must have no ")
    assert problem in found
    assert not any(word in found for word in ("hunter2", "lk.example.com", "user:"))


@pytest.mark.parametrize("name", ["LIVEKIT_URL", "ALERT_WEBHOOK_URL", "PUBLIC_URL", "DATABASE_URL"])
def test_a_url_that_python_does_not_take_is_not_shown(name: str) -> None:
    scheme = "postgresql" if name == "DATABASE_URL" else "https"
    # Python's own message repeats it: this letter becomes `a/c` when it is normalised.
    (found,) = problems({**NEEDED, name: f"{scheme}://hunter2℀.example.com"})
    assert found == f"{name} is not a URL"


def test_an_origin_that_is_none_is_named_by_its_number() -> None:
    for wrong, problem in (
        ("https://user:hunter2@c.example", "with more than scheme, host and port"),
        ("hunter2", "that is not like https://app.example.com, or *"),
    ):
        found = problems({**NEEDED, "CORS_ORIGINS": f"https://a.example,, https://b.example , {wrong}"})
        assert found == [f"CORS_ORIGINS has an entry 3 {problem}"]


def test_a_configuration_does_not_change() -> None:
    config = load()
    with pytest.raises(AttributeError):
        config.port = 1  # type: ignore[misc]


def test_load_config_touches_no_file(tmp_path: Path) -> None:
    load(DATABASE_URL=str(tmp_path / "folder" / "file.db"))
    assert list(tmp_path.iterdir()) == []


def documented() -> str:
    """The section of docs/configuration.md that has the table."""
    page = Path(__file__).parents[3] / "docs" / "configuration.md"
    return page.read_text(encoding="utf-8").partition("## Environment")[2].partition("\n## ")[0]


def test_the_documented_table_has_every_variable_and_no_other() -> None:
    listed = [line.split("`")[1] for line in documented().splitlines() if line.startswith("| `")]
    reader_names = {name for name, *_ in SETTINGS} | {"LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"}
    assert sorted(listed) == sorted(reader_names)


def test_the_documented_table_has_the_defaults() -> None:
    cells = [line.split("|") for line in documented().splitlines() if line.startswith("| `")]
    told = {name.strip(" `"): default.strip() for _, name, default, *_ in cells}
    assert {name for name, default in told.items() if default == "required"} == set(NEEDED)
    fields = {name: field for name, field, *_ in SETTINGS}
    none = [fields[name] for name, default in told.items() if default == "none"]
    assert [field for field in none if getattr(load(), field)] == []
    in_words = ("required", "none", *(told[name] for name in ("DATABASE_URL", "SESSION_ROOMS", "DEMO_PAGE")))
    written = {name: default for name, default in told.items() if default not in in_words}
    assert len(written) > 15
    assert load(**written) == load()
