"""docs/security.md names a test for every threat, and each of them exists."""

import re
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def test_every_threat_names_a_test_that_exists() -> None:
    defined = {
        name
        for path in (_ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))
    }
    rows = [line for line in (_ROOT / "docs" / "security.md").read_text().splitlines() if line[:2] == "| "]
    lines = [row for row in rows if not row.startswith(("| who |", "| threat |"))]
    assert len(lines) > 20
    for line in lines:
        named = re.findall(r"`(test_\w+)`", line)
        assert named, line
        assert set(named) <= defined, line
