"""ALERT_WEBHOOK_URL: any web address except a cloud's metadata service, which gives away secrets."""

import pytest

from app.config.settings import ConfigError, load_config

REQUIRED = {
    "LIVEKIT_URL": "ws://livekit.test",
    "LIVEKIT_API_KEY": "devkey",
    "LIVEKIT_API_SECRET": "dev-secret-of-at-least-32-characters",
    "AGENT_NAME": "agent",
}


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.170.2",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "user:password@169.254.169.254:80",
    ],
)
def test_a_metadata_service_is_rejected_without_showing_the_url(host: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(REQUIRED | {"ALERT_WEBHOOK_URL": f"http://{host}/a-secret"})
    assert refused.value.problems == ["ALERT_WEBHOOK_URL must not be a cloud's metadata service"]


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com/services/T/B/x",
        "http://alertmanager:9093/hook/",
        "http://127.0.0.1:8080/hook",
        "http://10.0.0.7/hook?key=value",
        "http://[fd00::1]/hook",
    ],
)
def test_any_other_address_is_accepted_unchanged(url: str) -> None:
    assert load_config(REQUIRED | {"ALERT_WEBHOOK_URL": url}).alert_webhook_url == url


@pytest.mark.parametrize(
    "url", ["hooks.slack.com/services", "ftp://example.com", "file:///etc/passwd", "https://"]
)
def test_anything_but_a_web_address_is_rejected(url: str) -> None:
    with pytest.raises(ConfigError):
        load_config(REQUIRED | {"ALERT_WEBHOOK_URL": url})
