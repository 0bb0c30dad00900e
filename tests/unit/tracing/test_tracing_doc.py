"""docs/tracing.md against the code: the spans, their attributes, and the variables."""

import re
from pathlib import Path

from app.config import tracing
from app.state.trace_context import TRACE_ATTRIBUTES
from app.tracing import agent_spans, attributes

DOC = (Path(__file__).parents[3] / "docs" / "tracing.md").read_text(encoding="utf-8")


def quoted(document: str) -> set[str]:
    """What stands as code; `.end` after `agent_lifecycle.event` is short for `agent_lifecycle.end`."""
    words = set(re.findall(r"`([^`\n]+)`", document))
    return words | {f"agent_lifecycle{word}" for word in words if word.startswith(".")}


def test_every_attribute_is_explained() -> None:
    names = {value for name, value in vars(attributes).items() if name.isupper() and not name.startswith("_")}
    assert len(names) > 8
    assert names | set(TRACE_ATTRIBUTES) <= quoted(DOC)


def test_every_span_of_an_agent_is_explained() -> None:
    source = Path(agent_spans.__file__).read_text(encoding="utf-8")
    spans = set(re.findall(r'"(agent\.\w+)"', source))
    assert len(spans) == 3
    assert spans <= quoted(DOC)


def test_every_variable_that_decides_is_explained() -> None:
    table = DOC.partition("## Turn it on")[2].partition("## What a trace")[0]
    decisive = {name for name in tracing._DECISIVE if not name.endswith("TRACES_HEADERS")}
    assert decisive <= quoted(table)
