"""Keys to which no session is given back, because another program has them."""

from __future__ import annotations

import re
from collections.abc import Collection

from torpor.history.errors import InvalidArgument
from torpor.history.keys import of_namespace

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
