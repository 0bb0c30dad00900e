"""Histories: what is kept of a session, how it is cut, and what the next agent is given."""

import json
import time
from typing import Any

import pytest
from livekit import rtc
from livekit.agents import llm
from reusable_agent.history import history_of, items_of, parse, resumed_context

NONE: list[dict[str, Any]] = []


def said(*texts: str) -> llm.ChatContext:
    context = llm.ChatContext.empty()
    for text in texts:
        context.add_message(role="user", content=text)
    return context


def texts(history: dict[str, Any]) -> list[str]:
    return [item["content"][0] for item in history["items"] if item["type"] == "message"]


def size(history: dict[str, Any]) -> int:
    return len(json.dumps(history, ensure_ascii=False, separators=(",", ":")).encode())


def tool(call_id: str = "call", output: str = "sunny") -> list[llm.ChatItem]:
    return [
        llm.FunctionCall(call_id=call_id, name="weather", arguments="{}"),
        llm.FunctionCallOutput(call_id=call_id, name="weather", output=output, is_error=False),
    ]


def test_earlier_items_come_first_and_none_comes_twice() -> None:
    """A second crash loses nothing of the time before the first one."""
    first = history_of(NONE, said("one", "two"))
    second = history_of(first["items"], said("three"))
    assert texts(second) == ["one", "two", "three"]
    again = history_of(second["items"], parse(second["items"]))
    assert again == second


def test_what_is_saved_is_what_the_next_agent_is_given() -> None:
    session = said("what is the weather?")
    session.items.extend(tool())
    session.add_message(role="assistant", content="It is sunny.", interrupted=True)
    history = json.loads(json.dumps(history_of(NONE, session)))
    given = parse(items_of(history))
    assert [item.type for item in given.items] == [
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]
    assert given.is_equivalent(session)
    assert [item.created_at for item in given.items] == [item.created_at for item in session.items]


def test_images_audio_instructions_and_metrics_are_not_kept() -> None:
    session = said("look")
    image = llm.ImageContent(image="data:image/png;base64,AAAA")
    frame = rtc.AudioFrame(b"\0\0" * 480, 48_000, 1, 480)
    session.items.append(llm.ChatMessage(role="user", content=["this", image], metrics={"e2e_latency": 1.5}))
    session.items.append(llm.ChatMessage(role="user", content=[llm.AudioContent(frame=[frame])]))
    session.items.append(llm.AgentConfigUpdate(instructions="be kind", tools_added=["weather"]))
    text = json.dumps(history_of(NONE, session))
    assert texts(json.loads(text)) == ["look", "this"]
    assert not any(word in text for word in ("base64", "be kind", "e2e_latency", "audio"))


@pytest.mark.parametrize("limit", [400, 1_000, 1_001, 5_000])
def test_the_oldest_items_are_cut(limit: int) -> None:
    every = [f"text {number} ä" for number in range(100)]
    cut = history_of(history_of(NONE, said(*every[:50]))["items"], said(*every[50:]), limit)
    kept = texts(cut)
    assert 0 < len(kept) < 100
    assert kept == every[-len(kept) :]
    assert size(cut) <= limit
    # It is not cut more than it must be.
    assert size(history_of(NONE, said(*every[-len(kept) - 1 :]), 10**6)) > limit


@pytest.mark.parametrize("limit", range(250, 900, 50))
def test_a_cut_leaves_no_output_without_its_call(limit: int) -> None:
    session = said("one")
    session.items.extend(tool("a"))
    session.items.extend(said("two").items)
    session.items.extend(tool("b"))
    session.items.extend(said("three").items)
    items = history_of(NONE, session, limit)["items"]
    calls, outputs = (
        [item["call_id"] for item in items if item["type"] == kind]
        for kind in ("function_call", "function_call_output")
    )
    assert calls == outputs
    assert items[-1]["content"] == ["three"]


def test_an_item_that_is_larger_than_everything_costs_only_itself() -> None:
    session = said("one", "x" * 2_000, "two")
    assert texts(history_of(NONE, session, 1_000)) == ["one", "two"]


def test_half_a_character_costs_only_itself() -> None:
    history = history_of(NONE, said("broken \ud83d", "whole"))
    assert texts(history) == ["broken ?", "whole"]
    json.dumps(history, ensure_ascii=False).encode()


@pytest.mark.parametrize("extra", [{"google": b"\xff\xfe"}, {"number": float("nan")}])
def test_what_json_does_not_have_costs_only_itself(extra: dict[str, Any]) -> None:
    session = said("one")
    session.items.append(llm.ChatMessage(role="user", content=["two"], extra=extra))
    session.items.extend(said("three").items)
    kept = texts(json.loads(json.dumps(history_of(NONE, session), allow_nan=False)))
    assert kept in (["one", "two", "three"], ["one", "three"])


@pytest.mark.parametrize("history", [{}, {"items": None}, {"items": ["text", 5]}])
def test_a_history_that_is_none_has_no_items(history: dict[str, Any]) -> None:
    assert items_of(history) == []


def test_items_of_another_version_are_left_out_and_still_kept() -> None:
    unknown = {"type": "dream", "id": "item_1", "content": "of the future"}
    items = [unknown, *history_of(NONE, said("one"))["items"]]
    assert [item.type for item in parse(items).items] == ["message"]
    assert unknown in history_of(items, said("two"))["items"]


def test_a_call_whose_output_was_lost_with_its_agent_is_left_out() -> None:
    call, output = tool("a")
    for items in ([call], [output], [*tool("b"), call]):
        given = parse(history_of(NONE, llm.ChatContext(items))["items"])
        assert "a" not in [getattr(item, "call_id", "") for item in given.items]


def test_the_time_of_a_clock_that_is_ahead_displaces_nothing() -> None:
    """livekit-agents places a new item by its time: it would come before those of the future."""
    item = llm.ChatMessage(role="user", content=["one"], created_at=time.time() + 3_600)
    given = parse(history_of(NONE, llm.ChatContext([item]))["items"])
    context = resumed_context(llm.ChatContext.empty(), given)
    context.insert(llm.ChatMessage(role="user", content=["two"]))
    assert [one.text_content for one in context.messages()] == ["one", "two"]


def test_the_agents_own_items_come_first_and_its_instructions_stay() -> None:
    own = llm.ChatContext.empty()
    own.add_message(role="system", content="speak French")
    shared = own.add_message(role="assistant", content="Bonjour")
    former = llm.ChatMessage(id="lk.agent_task.instructions", role="system", content=["speak German"])
    handoff = llm.AgentHandoff(new_agent_id="other")
    history = llm.ChatContext([former, handoff, shared, *said("one").items])
    context = resumed_context(own, history)
    assert [one.text_content for one in context.messages()] == ["speak French", "Bonjour", "one"]
    assert len(context.items) == 3
