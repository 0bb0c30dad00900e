"""docs/lifecycle.md against the code. Run this file with Python to rewrite the table."""

import re
from pathlib import Path

from app.lifecycle import TABLE, EndReason, Event, Rule, State, Successor

DOC = Path(__file__).parents[3] / "docs" / "lifecycle.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def render_table() -> str:
    """One row for each event, one column for each state; an empty cell means that the event is ignored."""
    states = [state for state in State if state is not State.ENDED]
    lines = [
        "| event | " + " | ".join(f"in `{state}`" for state in states) + " |",
        "|---" * (len(states) + 1) + "|",
    ]
    for event in Event:
        cells = [_cell(TABLE[event].get(state)) for state in states]
        lines.append(f"| `{event}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(rule: Rule | None) -> str:
    if rule is None:
        return ""
    parts = [f"**{rule.to}**"]
    parts += [f"`{effect}`" for effect in rule.effects]
    if rule.reason:
        parts.append(f"_{rule.reason}_")
    if rule.successor is not Successor.NONE:
        parts.append(f"+ {rule.successor}")
    return "<br>".join(parts)


def _documented(begin: str, end: str) -> str:
    return DOC.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]


def test_the_documented_table_matches_the_code() -> None:
    assert _documented(BEGIN, END) == render_table(), f"rewrite it: python {Path(__file__).name}"


def test_no_event_changes_an_ended_dispatch() -> None:
    """Therefore the table has no column for `ended`."""
    assert not any(State.ENDED in rules for rules in TABLE.values())


def test_the_diagram_has_every_state_and_no_other() -> None:
    diagram = _documented("```mermaid\n", "```")
    arrows = re.findall(r"^ *(\S+) --> ([^\s:]+)", diagram, re.MULTILINE)
    assert {name for arrow in arrows for name in arrow if name != "[*]"} == set(State)


def test_the_diagram_has_every_transition_with_a_fixed_target() -> None:
    """Targets that depend on the row are not in the diagram."""
    diagram = set(re.findall(r"^ *(\w+) --> (\w+)", _documented("```mermaid\n", "```"), re.MULTILINE))
    named = {
        (state, rule.to)
        for rules in TABLE.values()
        for state, rule in rules.items()
        if isinstance(rule.to, State) and state is not rule.to
    }
    assert named <= diagram


def test_every_event_and_every_end_reason_is_explained() -> None:
    text = DOC.read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `(\w+)` \|", text.replace(_documented(BEGIN, END), ""), re.MULTILINE))
    assert set(Event) | set(EndReason) | set(State) <= explained


if __name__ == "__main__":
    written = DOC.read_text(encoding="utf-8")
    head, _, rest = written.partition(BEGIN)
    DOC.write_text(head + BEGIN + render_table() + END + rest.partition(END)[2], encoding="utf-8")
