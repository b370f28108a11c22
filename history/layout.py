"""How other libraries store chat sessions in Redis: each session is a list of messages under its own key."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from torpor.history.errors import InvalidArgument, InvalidSessionId, NotAdoptable
from torpor.history.keys import encode_session_id, of_namespace

_GLOB = re.compile(rb"[*?\[\]\\]")


def _encoded(text: str, what: str) -> bytes:
    if not isinstance(text, str):
        raise InvalidArgument(f"the {what} must be text, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidArgument(f"the {what} has a lone surrogate, which has no UTF-8 form") from exc


@dataclass(frozen=True, slots=True)
class Layout:
    """A list under the key `prefix` + session id; each element is the JSON of LangChain's `message_to_dict`.

    Messages that look as if they stood in the other order are refused, unless `check_order` is False.
    """

    prefix: str = ""
    newest_first: bool = False
    check_order: bool = field(default=True, compare=False)

    def __post_init__(self) -> None:
        _encoded(self.prefix, "prefix")

    def key(self, session_id: str) -> bytes:
        """The key of a session; raises InvalidSessionId."""
        return self.prefix.encode() + encode_session_id(session_id)

    def session_id(self, key: bytes) -> str:
        """The session id in a key; raises NotAdoptable if it is not a valid one."""
        try:
            session_id = key.removeprefix(self.prefix.encode()).decode()
            encode_session_id(session_id)
        except (UnicodeDecodeError, InvalidSessionId) as exc:
            raise NotAdoptable(key, "its name is no session id") from exc
        return session_id

    def pattern(self, match: str) -> bytes:
        """The pattern for SCAN that finds the keys whose session ids match the glob-style pattern `match`."""
        return _GLOB.sub(rb"\\\g<0>", self.prefix.encode()) + _encoded(match, "pattern")


# Sources: MemorystoreChatMessageHistory of langchain-google-memorystore-redis 0.3.0, and RedisChatMessageHistory of
# langchain-community 0.4.
LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {"memorystore": Layout(), "community": Layout("message_store:", newest_first=True)}
)

# Where sessions that are given back stand unless somebody names another place: below it no other program has a key.
RETURN_PREFIX = "returned:"

# The keys of kombu and Celery in a Redis that is their broker or has their results, in whatever application: queues
# and their priorities, bindings, unacknowledged messages, remote control, events, results and chords.
# Sources: kombu/transport/redis.py of kombu 5.6, celery/backends/base.py of Celery 5.7.
_CELERY = re.compile(
    rb"_kombu\.|unacked|celery(\x06\x16\d+)?$|celery-task(set)?-meta-|chord-unlock-|celeryev\b|(.*\.)?celery\.pidbox"
)
_PRIORITY = re.compile(rb"\x06\x16\d+$")


def is_celerys(key: bytes, queues: Collection[str] = ()) -> bool:
    """True if a broker of Celery, or one of its results, has keys of such a name; `queues` are queues by name."""
    return _CELERY.match(key) is not None or _PRIORITY.sub(b"", key) in {queue.encode() for queue in queues}


def check_return_key(namespace: str, key: bytes, queues: Collection[str] = ()) -> bytes:
    """A key to which a session may be given back; raises InvalidArgument for one of this deployment or of a broker."""
    if of_namespace(namespace, key):
        whose = "a deployment of Torpor"
    elif is_celerys(key, queues):
        whose = "Celery"
    else:
        return key
    raise InvalidArgument(f"the key {key.decode(errors='replace')!r} belongs to {whose}: give another --prefix")


def other_format(layout: Layout, key: bytes) -> str | None:
    """The name of the known layout that a key belongs to by its prefix, if the prefix is longer than the layout's."""
    longer = (name for name, each in LAYOUTS.items() if len(each.prefix) > len(layout.prefix))
    return next((name for name in longer if key.startswith(LAYOUTS[name].prefix.encode())), None)


def to_layout(layout: str | Layout) -> Layout:
    """A layout, given itself or its name; raises InvalidArgument."""
    found = LAYOUTS.get(layout) if isinstance(layout, str) else layout
    if not isinstance(found, Layout):
        raise InvalidArgument(f"the layout to adopt must be a Layout or one of {', '.join(LAYOUTS)}, not {layout!r}")
    return found
