"""EVENT_WEBHOOKS: URLs with secrets, and what is said about wrong ones."""

import base64

import pytest

from app.config.settings import Config, ConfigError, load_config

REQUIRED = {
    "LIVEKIT_URL": "ws://livekit.test",
    "LIVEKIT_API_KEY": "devkey",
    "LIVEKIT_API_SECRET": "dev-secret-of-at-least-32-characters",
    "AGENT_NAME": "agent",
}


def secret_of(length: int, letter: str = "k") -> str:
    return "whsec_" + base64.b64encode(letter.encode() * length).decode()


SECRET, OLD = secret_of(32), secret_of(24, "o")


def load(value: str) -> Config:
    return load_config(REQUIRED | {"EVENT_WEBHOOKS": value})


def problem(value: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(value)
    (found,) = refused.value.problems
    return found


def test_each_entry_has_an_address_and_its_secrets() -> None:
    crm, audit = load(
        f" https://CRM.example.com/hook?team=7#{SECRET}#{OLD} , http://audit:8080/#{SECRET},"
    ).event_endpoints
    assert (crm.name, audit.name) == ("https://crm.example.com/hook", "http://audit:8080/")
    assert crm.url == "https://CRM.example.com/hook?team=7"
    assert [f"whsec_{secret}" for secret in crm.secrets] == [SECRET, OLD]


def test_a_secret_may_lack_its_padding() -> None:
    (endpoint,) = load(f"https://example.com/#{SECRET.rstrip('=')}").event_endpoints
    assert SECRET.startswith(f"whsec_{endpoint.secrets[0]}")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("https://example.com/hook", "entry 1 has no secret; add one, such as #whsec_"),
        ("https://example.com/hook#secret", "entry 1 has a secret that does not begin with whsec_"),
        ("https://example.com/#whsec_~not-base64~", "entry 1 has a secret that is not base64"),
        (f"https://example.com/#{secret_of(23)}", "entry 1 has a secret of 23 bytes; it must have 24 to 64"),
        (f"https://example.com/#{secret_of(65)}", "entry 1 has a secret of 65 bytes"),
        (f"https://example.com/#{SECRET}#", "entry 1 has a secret that does not begin with whsec_"),
        (f"ftp://example.com/#{SECRET}", "entry 1 must be like https://example.com/path"),
        (f"http://169.254.169.254/#{SECRET}", "entry 1 must not be a cloud's metadata service"),
        (f"https://user:hunter2@example.com/#{SECRET}", "entry 1 has a user name or a password"),
        (f"https://example.com/{'x' * 512}#{SECRET}", "entry 1 has an address with a blank, or of more than"),
        (f"https://example.com/a b#{SECRET}", "entry 1 has an address with a blank"),
        (f"https://e.com/?a#{SECRET},https://E.com/?b#{OLD}", "two entries have the same address"),
        (",".join(f"https://e{n}.com/#{SECRET}" for n in range(17)), "it has more than 16 entries"),
    ],
)
def test_a_wrong_entry_is_named_without_its_secret(entry: str, words: str) -> None:
    found = problem(entry)
    assert found.startswith("EVENT_WEBHOOKS is invalid: ")
    assert words in found
    assert not any(part in found for part in (SECRET[6:], "~not-base64~", "hunter2"))


def test_all_wrong_entries_are_named_at_once() -> None:
    found = problem(f"https://a.com/,https://b.com/#{SECRET},c.com#{SECRET}")
    assert "entry 1 has no secret" in found
    assert "entry 3 must be like" in found
    assert "entry 2" not in found


def test_no_secret_is_shown_or_logged() -> None:
    config = load(f"https://example.com/hook?key=a-query-secret#{SECRET}#{OLD}")
    for secret in (SECRET[6:], OLD[6:], "a-query-secret"):
        assert secret not in repr(config)
        assert any(secret in hidden for hidden in config.secrets)
