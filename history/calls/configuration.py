"""The configuration of a deployment."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from torpor.history.calls.call import Call, Deployment, Keep, span_ms, to_moment, to_record, to_span
from torpor.history.compression import DICTIONARY, Compression, check_dictionary
from torpor.history.expiry import DEFAULT_IDLE
from torpor.history.keys import Keyspace, config_key
from torpor.history.overview import FenceToken
from torpor.history.policy import Policies
from torpor.history.scripts import script

# A flag as a script argument that records it; None leaves it.
_FLAGS = {None: b"", False: b"-", True: b"1"}
UNRECORDED = Compression.NONE
_COMPRESSIONS = {None: b"", Compression.NONE: b"-", Compression.ZSTD: b"zstd"}
# One token of the fence as move_fence.lua writes it: since when (ms), and the token.
_FENCE_TOKEN = re.compile(rb"(\d{1,15}):([0-9a-f]+)")


def configure(
    namespace: str,
    shards: int,
    idle: timedelta | None,
    max_age: timedelta | Keep | None,
    *,
    retention: timedelta | Keep | None,
    policies: Policies | None,
    require_owner: bool | None,
    compression: Compression | None,
    record: bool,
) -> Call[Deployment]:
    """Read the deployment's configuration; with `record`, first record the given values.

    A recorded shard count stays. None leaves `idle`, `policies`, `require_owner` and `compression` as they are, and
    KEEP leaves `max_age` and `retention`. For these two None records that there is none. Raises DictionaryUnknown.
    """

    def decode(reply: Any) -> Deployment:
        recorded, idle_ms, max_age_ms, rules, retention_ms, identity, archive, owner_required, fence, *rest = reply
        compressed, dictionary, kinds, now_ms = rest
        check_dictionary(int(dictionary or 0))
        return Deployment(
            Keyspace(namespace, int(recorded or shards)),
            to_span(idle_ms) or DEFAULT_IDLE,
            to_span(max_age_ms),
            to_span(retention_ms),
            Policies.parse(rules or b"[]"),
            recorded=recorded is not None,
            retention_known=retention_ms is not None,
            id=identity.decode() if identity else None,
            archive=archive.decode() if archive else None,
            owner_required=owner_required == b"1",
            fence=_to_fence(fence or b""),
            compression=Compression(compressed.decode()) if compressed else UNRECORDED,
            read_at=to_moment(now_ms),
            kinds_counted=kinds == b"1" or recorded is None,
        )

    return Call(
        script("configure"),
        [config_key(namespace)],
        [
            shards,
            int(record),
            span_ms(idle),
            to_record(max_age),
            b"" if policies is None else bytes(policies),
            to_record(retention),
            _FLAGS[require_owner],
            _COMPRESSIONS[compression],
            DICTIONARY,
        ],
        decode,
    )


def _to_fence(stored: bytes) -> tuple[FenceToken, ...]:
    return tuple(FenceToken(token.decode(), to_moment(since)) for since, token in _FENCE_TOKEN.findall(stored))
