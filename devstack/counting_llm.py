"""A model that needs no cloud: it answers `turn N: <text>`, where N counts the user's turns.

The number proves two things: that an agent answers, and that the conversation is still the same.
"""

from typing import Any, Literal

from livekit.agents import APIConnectOptions, llm
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr


class CountingLLM(llm.LLM[Literal["counting"]]):
    """Use it instead of `openai.LLM(...)` and the like."""

    def reply(self, turn: int, text: str) -> str:
        return f"turn {turn}: {text}"

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,  # noqa: ARG002 - part of the interface
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,  # noqa: ARG002
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,  # noqa: ARG002
    ) -> llm.LLMStream:
        return _CountingStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _CountingStream(llm.LLMStream):
    def __init__(
        self,
        model: CountingLLM,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
        conn_options: APIConnectOptions,
    ) -> None:
        super().__init__(model, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)
        self._model = model

    async def _run(self) -> None:
        turns = [item for item in self.chat_ctx.items if item.type == "message" and item.role == "user"]
        text = (turns[-1].text_content or "") if turns else ""
        delta = llm.ChoiceDelta(role="assistant", content=self._model.reply(len(turns), text))
        self._event_ch.send_nowait(llm.ChatChunk(id="counting", delta=delta))
