"""Alerts against the manual and the log: each is listed, and its advice names actions that exist."""

import re
from pathlib import Path

from app.alerts.rules import rules_for
from app.config.settings import Config

APP = Path(__file__).parents[3] / "app"
DOC = APP.parent / "docs" / "operations.md"
CONFIG = Config(
    livekit_url="ws://livekit.test",
    livekit_api_key="devkey",
    livekit_api_secret="dev-secret-of-at-least-32-characters",
    agent_names=("agent",),
    database_url="sqlite://",
)


def test_every_alert_is_listed_with_when_and_what_to_do() -> None:
    section = DOC.read_text(encoding="utf-8").partition("\n## Alerts\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert [name for name, _, _ in rows] == [rule.name for rule in rules_for(CONFIG, started_at=0)]
    assert all(len(when) > 20 and len(advice) > 40 for _, when, advice in rows)


def test_advice_names_actions_that_are_logged() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in APP.rglob("*.py"))
    logged = set(re.findall(r"""(?:"action": |action=)"(\w+)\"""", code))
    advised = [
        name
        for rule in rules_for(CONFIG, started_at=0)
        for name in re.findall(r"\(action (\w+)\)", rule.advice)
    ]
    assert advised
    assert set(advised) <= logged
