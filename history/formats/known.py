"""The formats that Torpor knows, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from torpor.history.elements import Shape
from torpor.history.errors import InvalidArgument
from torpor.history.formats.community import Community
from torpor.history.formats.langchain_js import LangChainJs
from torpor.history.formats.langchain_redis import LangChainRedis
from torpor.history.formats.layout import Layout
from torpor.history.formats.llamaindex import LlamaIndex
from torpor.history.formats.memorystore import Memorystore
from torpor.history.formats.openai_agents import OpenAIAgents

FORMATS: Mapping[str, Layout] = MappingProxyType(
    {
        "memorystore": Memorystore(),
        "community": Community(),
        "langchain-js": LangChainJs(),
        "langchain-redis": LangChainRedis(),
        "llamaindex": LlamaIndex(),
        "openai-agents": OpenAIAgents(),
    }
)

# The class for each way in which elements are written, other than Python's LangChain.
_CLASSES = {each.elements: type(each) for each in FORMATS.values() if each.elements != Layout.elements}


def recorded(elements: str, prefix: str, *, newest_first: bool) -> Layout:
    """The layout that the record of an adoption names; raises ValueError."""
    if elements == Layout.elements:
        return Layout(prefix, newest_first)
    if elements not in _CLASSES:
        raise ValueError(f"this version of Torpor knows no format {elements!r}")
    return _CLASSES[elements](prefix, newest_first)


def other_format(layout: Layout, key: bytes) -> str | None:
    """The name of the known format that a key belongs to by its name, if its prefix is longer than the layout's."""
    alike = [(name, each) for name, each in FORMATS.items() if each.storage is layout.storage]
    longer = (name for name, each in alike if len(each.prefix) > len(layout.prefix) and each.claims(key))
    return next(longer, None)


def stored_otherwise(layout: Layout) -> Iterator[tuple[str, Layout]]:
    """The formats whose messages may stand below the prefix that an application has named, in another storage."""
    if type(layout) is Layout and layout.prefix:
        for name, each in FORMATS.items():
            if each.storage is not layout.storage:
                yield name, replace(each, prefix=layout.prefix)


def to_layout(layout: str | Layout, reader: Shape) -> Layout:
    """A layout, given itself or the name of its format; raises InvalidArgument, also if the `reader` can't read it."""
    found = FORMATS.get(layout) if isinstance(layout, str) else layout
    if not isinstance(found, Layout):
        names = ", ".join(name for name, each in FORMATS.items() if each.shape is reader)
        raise InvalidArgument(f"the layout to adopt must be a Layout or one of {names}, not {layout!r}")
    if found.shape is not reader:
        other = "MemorystoreSession" if found.shape is Shape.ITEM else "MemorystoreChatMessageHistory"
        raise InvalidArgument(f"{layout!r} has {found.shape}s, which a {other} adopts and reads")
    return found
