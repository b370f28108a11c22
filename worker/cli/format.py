"""The formats of other libraries as the command names them."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """The libraries whose sessions Torpor adopts and gives back: the names of all formats."""

    MEMORYSTORE = "memorystore"
    COMMUNITY = "community"
    LANGCHAIN_JS = "langchain-js"
    LANGCHAIN_REDIS = "langchain-redis"
    LLAMAINDEX = "llamaindex"
    OPENAI_AGENTS = "openai-agents"
