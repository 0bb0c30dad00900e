"""All log calls of the service: a constant message, and fields that the manual explains."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted((ROOT / "app").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "logger"
                and node.func.attr in {*LEVELS, "log"}
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


CALLS = dict(calls())


@pytest.fixture(scope="module")
def explained() -> set[str]:
    """The fields in the table of docs/operations.md."""
    manual = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = manual.split("\n## Logs\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize("place", CALLS)
def test_a_message_is_constant_and_its_fields_are_documented(place: str, explained: set[str]) -> None:
    call = CALLS[place]
    sentence, *arguments = call.args[1:] if ast.unparse(call.func).endswith(".log") else call.args
    assert isinstance(sentence, ast.Constant), "a message with values can contain anything"
    assert isinstance(sentence.value, str)
    assert "%" not in sentence.value
    assert not arguments
    for keyword in call.keywords:
        if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict):
            names = {ast.literal_eval(key) for key in keyword.value.keys if key is not None}
            assert names <= explained, "docs/operations.md, Logs, explains every field"
            assert "action" in names or None in keyword.value.keys


def test_there_are_calls_to_look_at() -> None:
    assert len(CALLS) > 20
