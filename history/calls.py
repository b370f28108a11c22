"""Every operation as a pure function that returns a Call: which script, which keys, which arguments, which reply.

The stores only run them, so that no logic is written twice for sync and async clients.
Sources: the script of the same name in `lua/`, whose head documents keys, arguments and replies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from history.errors import MessageCorrupt, OwnerMismatch, SessionDamaged, SessionExists, SessionNotFound, StagingLost
from history.keys import Keyspace, config_key, encode_owner, encode_session_id
from history.scripts import Script, script
from history.session import (
    DEFAULT_IDLE,
    Attendance,
    CleanOutcome,
    CommitOutcome,
    Expiry,
    IndexOutcome,
    Lease,
    Mending,
    Origin,
    Page,
    RestoreTicket,
    SeizeOutcome,
    SessionInfo,
    ShardOverview,
    Status,
    SwapOutcome,
)

T_co = TypeVar("T_co", covariant=True)

# More at once would keep Redis from everybody else for milliseconds.
PAGE_MESSAGES = 1_000
MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """One script call. `decode` turns the reply (bytes, never text) into the result, or raises what it means."""

    script: Script
    keys: Sequence[bytes]
    args: Sequence[bytes | int]
    decode: Callable[[Any], T_co]


@dataclass(frozen=True, slots=True)
class Deployment:
    """What all users of one namespace share: its keys, and the expiry of sessions that have none of their own.

    `recorded` tells that it is fixed already: before the first session nothing is.
    """

    keyspace: Keyspace
    idle: timedelta = DEFAULT_IDLE
    max_age: timedelta | None = None
    recorded: bool = True

    @property
    def defaults(self) -> tuple[bytes | int, bytes | int]:
        """Default idle timeout and maximum age, as the scripts take them."""
        return _ms(self.idle), _ms(self.max_age)


@dataclass(frozen=True, slots=True)
class Keep:
    """Stands for an expiry value that is to stay as it is."""


KEEP = Keep()


def configure(
    namespace: str, shards: int, idle: timedelta | None, max_age: timedelta | Keep | None, *, record: bool
) -> Call[Deployment]:
    """Read the deployment's configuration; with `record` write down `shards` where none is, and a given default."""

    def decode(reply: Any) -> Deployment:
        recorded, idle_ms, max_age_ms = reply
        keyspace = Keyspace(namespace, int(recorded or shards))
        return Deployment(keyspace, _span(idle_ms) or DEFAULT_IDLE, _span(max_age_ms), recorded=recorded is not None)

    max_age_arg = b"" if isinstance(max_age, Keep) else _ms(max_age) or b"-"
    return Call(script("configure"), [config_key(namespace)], [shards, int(record), _ms(idle), max_age_arg], decode)


def append(
    deployment: Deployment,
    session_id: str,
    messages: Sequence[bytes],
    *,
    request: bytes,
    expiry: Expiry,
    owner: str | None,
    only_new: bool = False,
) -> Call[int]:
    """Append one turn; the result is the length of the transcript in Redis."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)
    encoded_owner = b"" if owner is None else encode_owner(owner)
    owner_keys = [keys.owner(encoded_owner)] if encoded_owner else []

    def decode(reply: Any) -> int:
        match reply[0]:
            case b"owner":
                raise OwnerMismatch(f"session {session_id!r} belongs to another owner than {owner!r}")
            case b"exists":
                raise SessionExists(f"session {session_id!r} is in Redis already")
        return int(reply[1])

    return Call(
        script("append"),
        [keys.messages(session), keys.metadata(session), keys.due, keys.tally, keys.seen(session), *owner_keys],
        [
            session,
            request,
            *deployment.defaults,
            _ms(expiry.idle),
            _ms(expiry.max_age),
            encoded_owner,
            int(only_new),
            *messages,
        ],
        decode,
    )


def read(
    deployment: Deployment, session_id: str, start: int, stop: int | None, page_bytes: int, *, touch: bool
) -> Call[Page | None]:
    """Read messages from `start` on until `stop` or until about `page_bytes` are read; None: not in Redis."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)

    def decode(reply: Any) -> Page | None:
        if not reply:
            return None
        epoch, base, total, *messages = reply
        return Page(int(epoch), int(base), int(total), start, messages)

    return Call(
        script("read"),
        [keys.messages(session), keys.metadata(session), keys.due],
        [session, int(touch), *deployment.defaults, start, b"" if stop is None else stop, page_bytes, PAGE_MESSAGES],
        decode,
    )


def info(deployment: Deployment, session_id: str) -> Call[SessionInfo | None]:
    """Describe a session; None: not in Redis."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)
    return Call(
        script("info"),
        [keys.messages(session), keys.metadata(session), keys.due],
        [session],
        lambda reply: _describe(deployment, session_id, reply),
    )


def update(
    deployment: Deployment, session_id: str, idle: timedelta | Keep | None, max_age: timedelta | Keep | None
) -> Call[None]:
    """Change the expiry of a session in Redis; None sets the deployment's default."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)

    def argument(value: timedelta | Keep | None) -> bytes | int:
        return b"" if isinstance(value, Keep) else _ms(value) or b"-"

    def decode(reply: Any) -> None:
        if not reply:
            raise SessionNotFound(f"session {session_id!r} is not in Redis; restore it first")

    return Call(
        script("update"),
        [keys.metadata(session), keys.due],
        [session, argument(idle), argument(max_age), *deployment.defaults],
        decode,
    )


def close(deployment: Deployment, session_id: str) -> Call[bool]:
    """Make a session due now; False: not in Redis, or in quarantine."""
    session = encode_session_id(session_id)
    return Call(script("close"), [deployment.keyspace.of(session).due], [session], bool)


def clear(deployment: Deployment, session_id: str, *, request: bytes) -> Call[int]:
    """Empty a session and forbid its older epochs to come back; the result is the new epoch."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)
    return Call(
        script("clear"),
        [
            keys.messages(session),
            keys.metadata(session),
            keys.due,
            keys.tally,
            keys.quarantine,
            keys.seen(session),
        ],
        [session, request],
        int,
    )


def due(deployment: Deployment, shard: int) -> Call[int]:
    """Count the due sessions of a shard."""
    return Call(script("due"), [deployment.keyspace.shard(shard).due], [], int)


def attend(deployment: Deployment, shard: int, hold: timedelta) -> Call[Attendance]:
    """Look at a shard for a listener; one that is elected is the only one for `hold`."""
    keys = deployment.keyspace.shard(shard)

    def decode(reply: Any) -> Attendance:
        now, due, elected, ahead = reply
        return Attendance(shard, int(now) / 1000, int(due), bool(elected), float(ahead) / 1000 if ahead else None)

    return Call(script("attend"), [keys.due, keys.elected], [_ms(hold)], decode)


def overview(deployment: Deployment, shard: int) -> Call[ShardOverview]:
    """Describe a shard."""
    keys = deployment.keyspace.shard(shard)

    def decode(reply: Any) -> ShardOverview:
        now, live, due, in_work, quarantined, oldest, archived, restored = reply
        return ShardOverview(
            shard=shard,
            live=int(live),
            due=int(due),
            in_work=int(in_work),
            quarantined=int(quarantined),
            oldest_due=_moment(oldest),
            archived=int(archived),
            restored=int(restored),
            now=_required_moment(now),
        )

    return Call(script("overview"), [keys.due, keys.quarantine, keys.tally], [], decode)


def list_sessions(
    deployment: Deployment, shard: int, cursor: bytes, count: int, *, quarantined: bool = False
) -> Call[tuple[bytes, list[str]]]:
    """One step of a walk over a shard: the next cursor, b"0" at the end, and session ids."""
    keys = deployment.keyspace.shard(shard)
    return Call(
        script("list"),
        [keys.quarantine if quarantined else keys.due],
        [cursor, count],
        lambda reply: (reply[0], [session.decode() for session in reply[1:]]),
    )


def claim(deployment: Deployment, shard: int, limit: int, lease: timedelta) -> Call[list[Lease]]:
    """Lease up to `limit` due sessions of a shard, longest due first."""

    def decode(reply: Any) -> list[Lease]:
        token, *sessions = reply
        return [Lease(session.decode(), token, token) for session in sessions]

    return Call(script("claim"), [deployment.keyspace.shard(shard).due], [limit, _ms(lease)], decode)


def heard(deployment: Deployment, shard: int) -> Call[bool]:
    """End a listener's election; False: none was elected."""
    return Call(script("heard"), [deployment.keyspace.shard(shard).elected], [], bool)


def nearest(deployment: Deployment, shard: int, limit: int) -> Call[list[tuple[float, str]]]:
    """The sessions of a shard that are nearest to their due moment (ms), due or not, unless they are leased."""

    def decode(reply: Any) -> list[tuple[float, str]]:
        return [(float(moment), session.decode()) for session, moment in zip(reply[::2], reply[1::2], strict=True)]

    return Call(script("nearest"), [deployment.keyspace.shard(shard).due], [limit], decode)


def seize(deployment: Deployment, session_id: str, lease: timedelta) -> Call[Lease | SeizeOutcome]:
    """Lease one named session, due or not, unless a worker holds it."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)

    def decode(reply: Any) -> Lease | SeizeOutcome:
        if reply[0] == b"token":
            return Lease(session_id, reply[1], reply[1])
        return SeizeOutcome(reply[0].decode())

    return Call(script("seize"), [keys.due, keys.quarantine], [session, _ms(lease)], decode)


def snapshot(deployment: Deployment, lease: Lease) -> Call[SessionInfo | None]:
    """Begin an attempt: count it and describe the session; None: the lease is lost or nothing is there."""
    session = encode_session_id(lease.session_id)
    keys = deployment.keyspace.of(session)
    return Call(
        script("snapshot"),
        [keys.messages(session), keys.metadata(session), keys.due],
        [session, lease.token, lease.claim],
        lambda reply: _describe(deployment, lease.session_id, reply),
    )


def renew(deployment: Deployment, lease: Lease, by: timedelta) -> Call[Lease | None]:
    """Prolong a lease `by` so much; None: it is lost."""
    session = encode_session_id(lease.session_id)
    renewed = replace(lease, token=b"%.1f" % (float(lease.token) + max(1, by // MILLISECOND)))
    return Call(
        script("renew"),
        [deployment.keyspace.of(session).due],
        [session, lease.token, renewed.token],
        lambda reply: renewed if reply else None,
    )


def commit(deployment: Deployment, lease: Lease, archived: SessionInfo) -> Call[CommitOutcome]:
    """Delete the session if it still is what `archived` describes; else note what is safe."""
    session = encode_session_id(lease.session_id)
    keys = deployment.keyspace.of(session)
    owner_keys = [keys.owner(archived.owner.encode())] if archived.owner else []
    return Call(
        script("commit"),
        [keys.messages(session), keys.metadata(session), keys.due, keys.tally, keys.seen(session), *owner_keys],
        [
            session,
            lease.token,
            archived.epoch,
            archived.base,
            archived.message_count,
            lease.claim,
            *deployment.defaults,
        ],
        lambda reply: CommitOutcome(reply.decode()),
    )


def release(deployment: Deployment, lease: Lease, delay: timedelta | None, *, counted: bool, error: str) -> Call[bool]:
    """Give a session back, due after `delay`, or to quarantine with None; False: the lease is lost.

    An attempt that the claim began is `counted`, or is as if it had not been.
    """
    session = encode_session_id(lease.session_id)
    keys = deployment.keyspace.of(session)
    delay_arg = b"" if delay is None else delay // MILLISECOND
    return Call(
        script("release"),
        [keys.metadata(session), keys.due, keys.quarantine],
        [session, lease.token, delay_arg, b"" if counted else lease.claim, error.encode(errors="replace")],
        bool,
    )


def requeue(deployment: Deployment, session_id: str) -> Call[bool]:
    """Take a session out of quarantine, due now; False: it is not there."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)
    return Call(script("requeue"), [keys.metadata(session), keys.due, keys.quarantine], [session], bool)


def reindex(deployment: Deployment, session_id: str) -> Call[IndexOutcome]:
    """Add the index entry that a session lacks, or drop the one that lacks a session."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)
    return Call(
        script("reindex"),
        [keys.messages(session), keys.metadata(session), keys.due, keys.quarantine],
        [session, *deployment.defaults],
        lambda reply: IndexOutcome(reply.decode()),
    )


def mend(deployment: Deployment, session_id: str, mending: Mending) -> Call[bool]:
    """Give messages whose metadata was lost new metadata; False: the session has changed."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)
    epoch = b"" if mending.epoch is None else mending.epoch
    counts = [mending.message_count, epoch, mending.base, mending.archived_count, int(mending.whole)]
    return Call(
        script("mend"),
        [keys.messages(session), keys.metadata(session), keys.due, keys.tally, keys.quarantine],
        [session, *counts],
        bool,
    )


def cleaned(deployment: Deployment, lease: Lease, floor: int) -> Call[CleanOutcome]:
    """Note that the archive below `floor` is erased."""
    session = encode_session_id(lease.session_id)
    keys = deployment.keyspace.of(session)
    return Call(
        script("cleaned"),
        [keys.messages(session), keys.metadata(session), keys.due],
        [session, lease.token, floor, *deployment.defaults],
        lambda reply: CleanOutcome(reply.decode()),
    )


def restore(deployment: Deployment, session_id: str, token: bytes, lease: timedelta) -> Call[RestoreTicket | None]:
    """Begin a restore; None: nothing of the session is in the archive alone."""
    session = encode_session_id(session_id)
    keys = deployment.keyspace.of(session)

    def decode(reply: Any) -> RestoreTicket | None:
        match reply[0]:
            case b"whole":
                return None
            case b"damaged":
                raise SessionDamaged(f"the metadata of session {session_id!r} was lost: see torpor doctor")
        return RestoreTicket(session_id, token, int(reply[1]), int(reply[2]))

    return Call(
        script("restore"),
        [keys.messages(session), keys.metadata(session), keys.due, keys.tally, keys.seen(session)],
        [session, token, _ms(lease)],
        decode,
    )


def stage(
    deployment: Deployment, ticket: RestoreTicket, staged: int, messages: Sequence[bytes], lease: timedelta
) -> Call[bool]:
    """Add a page to what was staged; False: a newer restore, a clear or a worker has taken over."""
    session = encode_session_id(ticket.session_id)
    keys = deployment.keyspace.of(session)

    def decode(reply: Any) -> bool:
        if reply == b"lost":
            raise _staging_lost(ticket)
        return bool(reply == b"staged")

    return Call(
        script("stage"),
        [keys.metadata(session), keys.due, keys.staging(session, ticket.token)],
        [session, ticket.token, _ms(lease), staged, *messages],
        decode,
    )


def swap(deployment: Deployment, ticket: RestoreTicket, staged: int, origin: Origin) -> Call[SwapOutcome]:
    """Finish a restore: what was staged comes before whatever was written meanwhile; raises OwnerMismatch."""
    session = encode_session_id(ticket.session_id)
    keys = deployment.keyspace.of(session)
    owner = b"" if origin.owner is None else encode_owner(origin.owner)
    owner_keys = [keys.owner(owner)] if owner else []

    def decode(reply: Any) -> SwapOutcome:
        match reply:
            case b"lost":
                raise _staging_lost(ticket)
            case b"owner":
                raise OwnerMismatch(f"the archive has session {ticket.session_id!r} for another owner than Redis")
        return SwapOutcome(reply.decode())

    return Call(
        script("swap"),
        [
            keys.messages(session),
            keys.metadata(session),
            keys.due,
            keys.tally,
            keys.staging(session, ticket.token),
            *owner_keys,
        ],
        [
            session,
            ticket.token,
            staged,
            *deployment.defaults,
            b"" if origin.created is None else to_ms(origin.created),
            _ms(origin.expiry.idle),
            _ms(origin.expiry.max_age),
            owner,
        ],
        decode,
    )


def abandon(deployment: Deployment, ticket: RestoreTicket) -> Call[bool]:
    """Give up a restore and what it staged; False: its token was gone already."""
    session = encode_session_id(ticket.session_id)
    keys = deployment.keyspace.of(session)
    return Call(
        script("abandon"),
        [
            keys.messages(session),
            keys.metadata(session),
            keys.due,
            keys.staging(session, ticket.token),
        ],
        [session, ticket.token, *deployment.defaults],
        bool,
    )


def to_ms(moment: datetime) -> int:
    """A moment as milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def _ms(span: timedelta | None) -> bytes | int:
    return b"" if span is None else span // MILLISECOND


def _span(ms: bytes | None) -> timedelta | None:
    return timedelta(milliseconds=int(ms)) if ms else None


def _moment(ms: bytes | int | None) -> datetime | None:
    return datetime.fromtimestamp(float(ms) / 1000, UTC) if ms else None


def _required_moment(ms: bytes | int) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)


def _staging_lost(ticket: RestoreTicket) -> StagingLost:
    return StagingLost(f"what the restore of {ticket.session_id!r} had staged is gone; start it again")


def _describe(deployment: Deployment, session_id: str, reply: Any) -> SessionInfo | None:
    """The reply of info and snapshot: {now, length, score, field, value, ...}."""
    if not reply:
        return None
    now, length, score, *pairs = reply
    fields: dict[bytes, bytes] = dict(zip(pairs[::2], pairs[1::2], strict=True))
    try:
        epoch = int(fields.get(b"epoch", 0))
        born = epoch // 1000
        active = int(fields.get(b"active", born))
        expiry = Expiry(_span(fields.get(b"idle")), _span(fields.get(b"max_age")))
        return SessionInfo(
            session_id=session_id,
            status=_status(fields, float(score or 0), int(now)),
            epoch=epoch,
            created=_required_moment(int(fields.get(b"created", born))),
            last_active=_required_moment(active),
            last_written=_required_moment(int(fields.get(b"written", active))),
            due_at=_moment(score),
            idle_timeout=expiry.idle or deployment.idle,
            max_age=expiry.max_age or deployment.max_age,
            expiry=expiry,
            owner=fields[b"owner"].decode() if b"owner" in fields else None,
            message_count=int(length),
            base=int(fields.get(b"base", 0)),
            archived_count=int(fields.get(b"archived", 0)),
            whole=b"whole" in fields,
            floor=int(fields[b"floor"]) if b"floor" in fields else None,
            attempts=int(fields.get(b"attempts", 0)),
            error=fields[b"error"].decode(errors="replace") if b"error" in fields else None,
        )
    except (ValueError, OverflowError, OSError) as exc:
        raise MessageCorrupt(f"the metadata of session {session_id!r} is damaged: {exc}") from exc


def _status(fields: dict[bytes, bytes], score: float, now: int) -> Status:
    if fields.get(b"state") == b"quarantined":
        return Status.QUARANTINED
    if score <= now:
        return Status.DUE
    if b"restoring" in fields:
        return Status.RESTORING
    return Status.IN_WORK if score % 1 else Status.LIVE
