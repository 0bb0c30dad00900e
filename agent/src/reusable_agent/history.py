"""Histories: what is kept of a session, and what a new agent is given of it."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from livekit.agents import llm
from pydantic import ValidationError

#: The most that is kept, as JSON in UTF-8: the service takes as much.
HISTORY_BYTES = 256 * 1024
#: `{"items":[]}`.
_FRAME_BYTES = 12

#: livekit-agents keeps an agent's instructions under these ids.
_INSTRUCTIONS = frozenset({"lk.agent_task.instructions", "lk.agent_task.instructions.dynamic"})
_CALL, _OUTPUT = "function_call", "function_call_output"

Item = dict[str, Any]


def history_of(earlier: Sequence[Item], session: llm.ChatContext, limit: int = HISTORY_BYTES) -> Item:
    """Earlier items and those of a session, cut to `limit` bytes: the oldest are left out.

    Without images, audio, and an agent's configuration. A call of a tool stays with its output.
    """
    known = {item.get("id") for item in earlier}
    newest_first = _newest_first([*earlier, *(one for one in session.items if one.id not in known)])
    kept: list[Item] = []
    left = limit - _FRAME_BYTES
    for item, size in newest_first:
        if size + 1 > limit - _FRAME_BYTES:
            # No cut of others would make room for it.
            continue
        left -= size + 1
        if left < 0:
            break
        kept.append(item)
    return {"items": _without_orphans(kept[::-1])}


def items_of(history: Mapping[str, Any]) -> list[Item]:
    """The items of a saved history."""
    items = history.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def parse(items: Iterable[Item]) -> llm.ChatContext:
    """The items that this version of livekit-agents knows; a call without its output is left out."""
    now = time.time()
    parsed: list[llm.ChatItem] = []
    for item in items:
        try:
            parsed += llm.ChatContext.from_dict({"items": [item]}).items
        except ValidationError:
            continue
    calls = {one.call_id for one in parsed if isinstance(one, llm.FunctionCall)}
    outputs = {one.call_id for one in parsed if isinstance(one, llm.FunctionCallOutput)}
    tools = (llm.FunctionCall, llm.FunctionCallOutput)
    kept = [one for one in parsed if not isinstance(one, tools) or one.call_id in calls & outputs]
    for one in kept:
        # The next item is placed by its time: one of a clock that is ahead would stay behind it for ever.
        one.created_at = min(one.created_at, now)
    return llm.ChatContext(kept)


def resumed_context(own: llm.ChatContext, history: llm.ChatContext) -> llm.ChatContext:
    """The agent's own first items, with its instructions, and then the history."""
    first = list(own.items)
    known = {item.id for item in first} | _INSTRUCTIONS
    later = [
        item
        for item in history.items
        if item.id not in known and item.type not in ("agent_handoff", "agent_config_update")
    ]
    return llm.ChatContext([*first, *later])


def _newest_first(items: Sequence[Item | llm.ChatItem]) -> Iterable[tuple[Item, int]]:
    """Each item with its size in bytes."""
    for one in reversed(items):
        dumped = one if isinstance(one, dict) else _dump(one)
        if dumped is None:
            continue
        try:
            text = json.dumps(dumped, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError):
            # A tool or a plugin has put something into it that JSON does not have.
            continue
        try:
            yield dumped, len(text.encode())
        except UnicodeEncodeError:
            # A text was cut in the middle of a character.
            encoded = text.encode("utf-8", "replace")
            yield json.loads(encoded), len(encoded)


def _dump(item: llm.ChatItem) -> Item | None:
    if item.type == "agent_config_update":
        return None
    try:
        (dumped,) = llm.ChatContext([item]).to_dict(exclude_timestamp=False, exclude_metrics=True)["items"]
    except ValueError:
        # A plugin's own data may be bytes that are no text.
        if not getattr(item, "extra", None):
            return None
        return _dump(item.model_copy(update={"extra": {}}))
    is_empty = item.type == "message" and not dumped.get("content")
    return None if is_empty else dict(dumped)


def _without_orphans(items: list[Item]) -> list[Item]:
    """Without the outputs whose calls were cut off; a call whose output is to come stays."""
    calls = {item.get("call_id") for item in items if item.get("type") == _CALL}
    return [item for item in items if item.get("type") != _OUTPUT or item.get("call_id") in calls]
