"""Graphs of LangGraph that stop until a person has answered, and models that need no network.

Each is made anew for each saver, as in a process of its own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt


class Clerk(BaseChatModel):
    """A model that pays a refund with a tool, and then says so."""

    @property
    def _llm_type(self) -> str:
        return "clerk"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **options: Any) -> ChatResult:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            said = AIMessage(f"done: {last.text}", id=f"ai-{len(messages)}")
        else:
            call = {"name": "refund", "args": {"euros": len(messages)}, "id": f"call-{len(messages)}"}
            said = AIMessage("", tool_calls=[call], id=f"ai-{len(messages)}")
        return ChatResult(generations=[ChatGeneration(message=said)])


@tool
def refund(euros: int) -> str:
    """Pay money back."""
    return f"{euros} euros are paid"


def agent(saver: Any) -> Any:
    """An agent whose tool needs an approval."""
    approval = HumanInTheLoopMiddleware(interrupt_on={"refund": True})
    return create_agent(Clerk(), [refund], middleware=[approval], checkpointer=saver)


class State(TypedDict, total=False):
    """The state of the graphs below."""

    messages: Annotated[list[AnyMessage], add_messages]
    notes: Annotated[list[str], operator.add]
    number: int


def _ask(state: State) -> State:
    answer = interrupt(f"go on after {len(state['messages'])}?")
    return {"messages": [AIMessage(f"answered: {answer}", id=f"ai-{len(state['messages'])}")]}


def subgraph(saver: Any) -> Any:
    """A graph whose subgraph stops, with a memory of its own."""
    inner = StateGraph(State)
    inner.add_node("prepare", lambda state: {"notes": [f"prepared {len(state['messages'])}"]})
    inner.add_node("ask", _ask)
    inner.add_edge(START, "prepare")
    inner.add_edge("prepare", "ask")
    inner.add_edge("ask", END)
    outer = StateGraph(State)
    outer.add_node("inner", inner.compile(checkpointer=True))
    outer.add_edge(START, "inner")
    outer.add_edge("inner", END)
    return outer.compile(checkpointer=saver)


def _look(state: State) -> State:
    if state["number"] == 1:
        interrupt("may I look?")
    return {"notes": [f"branch {state['number']}"]}


def parallel(saver: Any) -> Any:
    """Three branches at once, one of which stops: the others' writes wait for it."""
    graph = StateGraph(State)
    graph.add_node("look", _look)
    graph.add_node("join", lambda state: {"messages": [AIMessage(", ".join(state["notes"]), id="joined")]})
    graph.add_conditional_edges(START, lambda _: [Send("look", {"number": number}) for number in range(3)], ["look"])
    graph.add_edge("look", "join")
    graph.add_edge("join", END)
    return graph.compile(checkpointer=saver)


# Name -> the graph, and what resumes it.
GRAPHS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "agent": (agent, {"decisions": [{"type": "approve"}]}),
    "subgraph": (subgraph, "yes"),
    "parallel": (parallel, "yes"),
}


def begin(name: str, saver: Any, thread: str = "s") -> Any:
    """Play until the graph stops; returns what it asks."""
    where = {"configurable": {"thread_id": thread}}
    found = GRAPHS[name][0](saver).invoke({"messages": [HumanMessage("I want my money back", id="human")]}, where)
    return [each.value for each in found["__interrupt__"]]


def resume(name: str, saver: Any, thread: str = "s") -> Any:
    """Answer, and play to the end; returns the state."""
    make, answer = GRAPHS[name]
    return make(saver).invoke(Command(resume=answer), {"configurable": {"thread_id": thread}})
