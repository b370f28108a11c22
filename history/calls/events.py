"""What has happened to sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from torpor.history.calls.call import Call, Deployment
from torpor.history.keys import events_key
from torpor.history.scripts import script


def add_events(deployment: Deployment, events: Sequence[Mapping[str, str]], *, keep: int) -> Call[None]:
    """Add events to the deployment's stream, which keeps about the last `keep` of them."""
    args: list[bytes | int] = [keep]
    for event in events:
        args.append(2 * len(event))
        args += [part.encode(errors="replace") for part in chain.from_iterable(event.items())]
    stream = events_key(deployment.keyspace.namespace)
    return Call(script("add_events"), [stream], args, lambda _: None, repeatable=False)
