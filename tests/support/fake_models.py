"""Models that need no network: each answers with the number of messages or items in its input."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from agents import ModelResponse, Usage
from agents.models.interface import Model
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
)


class ChatParrot(BaseChatModel):
    """A chat model of LangChain."""

    @property
    def _llm_type(self) -> str:
        return "parrot"

    def _generate(self, messages: list[BaseMessage], *args: Any, **options: Any) -> ChatResult:
        answer = AIMessage(f"{messages[-1].text} after {len(messages) - 1}")
        return ChatResult(generations=[ChatGeneration(message=answer)])


class AgentParrot(Model):
    """A model of the OpenAI Agents SDK, which calls a tool first if it has one.

    `inputs` has the items of each call.
    """

    def __init__(self) -> None:
        self.inputs: list[list[Any]] = []

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[Any],  # noqa: A002 - the SDK's
        model_settings: Any,
        tools: list[Any],
        *args: Any,
        **options: Any,
    ) -> ModelResponse:
        items = [input] if isinstance(input, str) else input
        self.inputs.append(items)
        asked = any(item.get("type") == "function_call_output" for item in items if isinstance(item, dict))
        said = self.call(tools[0].name) if tools and not asked else self.message(f"{len(items)} items")
        return ModelResponse(output=[said], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        raise NotImplementedError

    @staticmethod
    def call(tool: str) -> ResponseOutputItem:
        return ResponseFunctionToolCall(
            type="function_call", name=tool, arguments='{"city": "Zürich"}', call_id="call-1", id="fc-1"
        )

    @staticmethod
    def message(text: str) -> ResponseOutputItem:
        content = ResponseOutputText(type="output_text", text=text, annotations=[], logprobs=[])
        return ResponseOutputMessage(
            id="msg-1", type="message", role="assistant", status="completed", content=[content]
        )
