"""The formats that Torpor knows, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torpor.history.errors import InvalidArgument
from torpor.history.formats.community import Community
from torpor.history.formats.langchain_js import LangChainJs
from torpor.history.formats.layout import Layout
from torpor.history.formats.memorystore import Memorystore

FORMATS: Mapping[str, Layout] = MappingProxyType(
    {"memorystore": Memorystore(), "community": Community(), "langchain-js": LangChainJs()}
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
    """The name of the known format that a key belongs to by its prefix, if the prefix is longer than the layout's."""
    longer = (name for name, each in FORMATS.items() if len(each.prefix) > len(layout.prefix))
    return next((name for name in longer if key.startswith(FORMATS[name].prefix.encode())), None)


def to_layout(layout: str | Layout) -> Layout:
    """A layout, given itself or the name of its format; raises InvalidArgument."""
    found = FORMATS.get(layout) if isinstance(layout, str) else layout
    if not isinstance(found, Layout):
        raise InvalidArgument(f"the layout to adopt must be a Layout or one of {', '.join(FORMATS)}, not {layout!r}")
    return found
