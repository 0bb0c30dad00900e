"""docs/operations.md against the code: every alert is listed, with what to do, and no other."""

import re
from pathlib import Path

from app.alert_rules import rules_for
from app.config import Config, Keypair

DOC = Path(__file__).parents[2] / "docs" / "operations.md"
CONFIG = Config(
    livekit_url="ws://livekit.test",
    livekit_key=Keypair(key="devkey", secret="dev-secret-of-at-least-32-characters"),
    agent_names=("agent",),
    database_url="sqlite://",
)


def test_every_alert_is_listed_with_when_and_what_to_do() -> None:
    section = DOC.read_text(encoding="utf-8").partition("\n## Alerts\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert [name for name, _, _ in rows] == [rule.name for rule in rules_for(CONFIG, started_at=0)]
    assert all(len(when) > 20 and len(advice) > 40 for _, when, advice in rows)
