"""SessionStore: runs each operation of `calls` on a Redis client."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import chain
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import redis
import redis.cluster
import redis.exceptions

from history import calls
from history.announcements import Announcements
from history.calls import KEEP, Call, Deployment, Keep
from history.errors import InvalidArgument, RedisRefused, ShardCountMismatch, TorporError, translate
from history.keys import DEFAULT_NAMESPACE, DEFAULT_SHARDS, check_namespace, check_shards, encode_session_id, events_key
from history.scripts import all_scripts
from history.session import (
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

T = TypeVar("T")

log = logging.getLogger("history.store")

PAGE_BYTES = 1024 * 1024
MAX_EPOCH = 2**53
# How many sessions that are to be left alone may be nearer to their due moment than those that are free.
_LEFT_ALONE = 200

# What was fixed for a deployment never changes, so each client asks for it once.
_deployments: WeakKeyDictionary[Any, dict[str, Deployment]] = WeakKeyDictionary()


class SessionStore:
    """The sessions of one deployment in Redis. No call but `configure` is made before the first operation.

    Each operation is one atomic round trip (a Lua script on one hash slot) unless it says otherwise.
    All raise RedisUnavailable or RedisMemoryFull, which may pass, or RedisRefused; every other error is named
    where it can occur. Safe to share among threads, as redis-py's clients are.
    """

    def __init__(
        self,
        client: redis.Redis | redis.cluster.RedisCluster,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        shards: int | None = None,
    ) -> None:
        """`shards` need only be given where it is not the deployment's recorded count or, for a new one, 256."""
        execute = getattr(client, "execute_command", None)
        if execute is None:
            raise InvalidArgument(f"expected a redis-py client, not {type(client).__name__}")
        if inspect.iscoroutinefunction(execute):
            raise InvalidArgument(f"{type(client).__module__} is an asyncio client; this store needs a sync one")
        self._client = client
        self._namespace = check_namespace(namespace)
        self._shards = None if shards is None else check_shards(shards)

    # The deployment

    @property
    def client(self) -> redis.Redis | redis.cluster.RedisCluster:
        """The client that the store was given."""
        return self._client

    @property
    def deployment(self) -> Deployment:
        """The shard count and defaults of the namespace; asks Redis once for each client, and records nothing.

        Raises ShardCountMismatch where the store was given another shard count than the recorded one.
        """
        return self._deployment(record=False)

    @property
    def _recorded(self) -> Deployment:
        """As `deployment`, for what may bring a first session into being: the shard count is fixed by then."""
        return self._deployment(record=True)

    def configure(self, *, idle: timedelta, max_age: timedelta | None) -> Deployment:
        """Record the deployment's default expiry; applications see it when they next start."""
        return self._remembered(self._configure(record=True, idle=idle, max_age=max_age))

    def _deployment(self, *, record: bool) -> Deployment:
        known = _deployments.setdefault(self._client, {}).get(self._namespace)
        return self._checked(known) if known else self._remembered(self._configure(record=record))

    def _configure(
        self, *, record: bool, idle: timedelta | None = None, max_age: timedelta | Keep | None = KEEP
    ) -> Deployment:
        shards = self._shards or DEFAULT_SHARDS
        return self.run(calls.configure(self._namespace, shards, idle, max_age, record=record))

    def _remembered(self, deployment: Deployment) -> Deployment:
        self._checked(deployment)
        if deployment.recorded:
            _deployments.setdefault(self._client, {})[self._namespace] = deployment
        return deployment

    def _checked(self, deployment: Deployment) -> Deployment:
        recorded = deployment.keyspace.shards
        if self._shards is not None and self._shards != recorded:
            raise ShardCountMismatch(
                f"this deployment ({self._namespace!r}) has {recorded} shards, not {self._shards}; "
                f"the count is fixed at first use: pass shards={recorded} or leave it out"
            )
        return deployment

    # What an application does

    def append(
        self,
        session_id: str,
        messages: Sequence[bytes],
        *,
        expiry: Expiry = Expiry(),  # noqa: B008 - frozen
        owner: str | None = None,
        only_new: bool = False,
    ) -> int:
        """Append the JSON bytes of one turn, at least one, oldest first; returns the length of the list in Redis.

        A retry by the client after a lost reply does not write the turn again. `expiry` and `owner` fill in
        what the session has not got yet. Raises OwnerMismatch, and SessionExists with `only_new`.
        """
        if not messages:
            raise InvalidArgument("a turn has at least one message")
        request = os.urandom(8)
        return self.run(
            calls.append(
                self._recorded,
                session_id,
                messages,
                request=request,
                expiry=expiry,
                owner=owner,
                only_new=only_new,
            )
        )

    def messages(self, session_id: str, *, touch: bool = True) -> list[bytes]:
        """The session's messages in Redis as JSON bytes, oldest first; empty where it is not there.

        Up to 1 MiB is one atomic round trip. A longer transcript is read in pages, all of one epoch.
        With `touch` it counts as activity.
        """
        while True:
            pages = list(self.pages(session_id, touch=touch))
            if not pages:
                return []
            one_state = len({(page.epoch, page.base) for page in pages}) == 1
            if one_state and pages[-1].stop == pages[-1].total:
                return [message for page in pages for message in page.messages]

    def pages(self, session_id: str, start: int = 0, stop: int | None = None, *, touch: bool = False) -> Iterator[Page]:
        """Messages `[start, stop)` in pages of about 1 MiB; each page tells the state that it belongs to.

        One round trip a page. Ends early where the session leaves Redis.
        """
        while page := self.run(calls.read(self.deployment, session_id, start, stop, PAGE_BYTES, touch=touch)):
            yield page
            start = page.stop
            if not page.messages or start >= (page.total if stop is None else min(stop, page.total)):
                return

    def info(self, session_id: str) -> SessionInfo | None:
        """Describe a session without counting as activity; None where it is not in Redis."""
        return self.run(calls.info(self.deployment, session_id))

    def update(
        self,
        session_id: str,
        *,
        idle: timedelta | Keep | None = KEEP,
        max_age: timedelta | Keep | None = KEEP,
    ) -> None:
        """Change the expiry of a session, None being the deployment's default; raises SessionNotFound."""
        self.run(calls.update(self.deployment, session_id, idle, max_age))

    def close(self, session_id: str) -> bool:
        """Make a session due now; False where it is not in Redis, or in quarantine."""
        return self.run(calls.close(self.deployment, session_id))

    def clear(self, session_id: str) -> int:
        """Empty a session at once, in a new epoch; the worker erases what the archive holds of older ones."""
        return self.run(calls.clear(self._recorded, session_id, request=os.urandom(8)))

    # What the worker does

    def due_counts(self) -> dict[int, int]:
        """Shard -> how many sessions are due, for the shards that have any; one pipeline.

        Shards that don't answer are left out, with a warning; raises where none answers.
        """
        shards = range(self.deployment.keyspace.shards)
        counts = self.run_many([calls.due(self.deployment, shard) for shard in shards])
        return {shard: count for shard, count in _answered(shards, counts) if count}

    def attend(self, shards: Sequence[int], hold: timedelta) -> list[Attendance]:
        """Look at shards for a listener; one pipeline. Of several listeners one is elected for each shard.

        Shards that don't answer are left out, with a warning; raises where none answers.
        """
        seen = self.run_many([calls.attend(self.deployment, shard, hold) for shard in shards])
        return [attendance for _, attendance in _answered(shards, seen)]

    def announcements(self) -> Announcements:
        """A subscription to what the scripts publish when the first due moment of a shard changes."""
        return Announcements(self._client, self.deployment.keyspace)

    def overview(self) -> list[ShardOverview]:
        """Describe every shard; one pipeline, each shard atomic for itself.

        Shards that don't answer are left out, with a warning; raises where none answers.
        """
        shards = range(self.deployment.keyspace.shards)
        described = self.run_many([calls.overview(self.deployment, shard) for shard in shards])
        return [overview for _, overview in _answered(shards, described)]

    def sessions(self, *, quarantined: bool = False, shards: Iterable[int] | None = None) -> Iterator[str]:
        """Walk the ids of the sessions in Redis, shard by shard, through the index; each id comes once.

        A session that comes or goes during the walk may be missed.
        """
        for shard in range(self.deployment.keyspace.shards) if shards is None else shards:
            seen: set[str] = set()
            cursor = b"0"
            while True:
                step = calls.list_sessions(self.deployment, shard, cursor, 500, quarantined=quarantined)
                cursor, found = self.run(step)
                new = dict.fromkeys(session for session in found if session not in seen)
                yield from new
                seen.update(new)
                if cursor == b"0":
                    break

    def infos(self, session_ids: Sequence[str]) -> list[SessionInfo | TorporError | None]:
        """Describe many sessions; one pipeline, each session atomic for itself. An error stands in its place."""
        return self.run_many([calls.info(self.deployment, session) for session in session_ids])

    def claim(self, shards: Sequence[int], limit: int, lease: timedelta) -> list[Lease]:
        """Lease up to `limit` due sessions of each shard, longest due first; one pipeline, and one for the listeners.

        Works at Redis's memory limit. Shards that don't answer are left out, with a warning; raises where none answers.
        """
        claims = [calls.claim(self.deployment, shard, limit, lease) for shard in shards]
        claimed = [(shard, leases) for shard, leases in _answered(shards, self.run_many(claims)) if leases]
        with suppress(TorporError):  # a hint: the election ends by itself, while the leases must not be lost
            self.run_many([calls.heard(self.deployment, shard) for shard, _ in claimed])
        return [lease for _, leases in claimed for lease in leases]

    def claim_nearest(self, shards: Sequence[int], limit: int, lease: timedelta) -> list[Lease]:
        """Lease the `limit` sessions of all these shards that are nearest to their due moment, due or not.

        What is not yet due is left alone while it is restored, erased or waits after a failure. Three pipelines.
        Shards that don't answer are left out, with a warning; raises where none answers.
        """
        wanted = limit + _LEFT_ALONE
        # More of a shard than its share, since the nearest of all may be in one.
        of_each = min(wanted, 4 + 4 * wanted // len(shards))
        ahead = self.run_many([calls.nearest(self.deployment, shard, of_each) for shard in shards])
        nearest = sorted(each for _, sessions in _answered(shards, ahead) for each in sessions)[:wanted]
        infos = self.infos([session for _, session in nearest])
        free = [info.session_id for info in infos if isinstance(info, SessionInfo) and _is_free(info)][:limit]
        seized = self.run_many([calls.seize(self.deployment, session, lease) for session in free])
        return [each for each in seized if isinstance(each, Lease)]

    def seize(self, session_id: str, lease: timedelta) -> Lease | SeizeOutcome:
        """Lease one named session, due or not, unless a worker holds it."""
        return self.run(calls.seize(self.deployment, session_id, lease))

    def snapshots(self, leases: Sequence[Lease]) -> list[SessionInfo | TorporError | None]:
        """Begin an attempt at each claimed session; one pipeline, each session atomic for itself.

        None where the lease is lost or nothing is there; an error stands in its session's place.
        """
        return self.run_many([calls.snapshot(self.deployment, lease) for lease in leases])

    def renew(self, leases: Sequence[Lease], by: timedelta) -> list[Lease | TorporError | None]:
        """Prolong leases `by` so much; one pipeline. The new lease replaces the old; None where it is lost.

        Where an error stands in its place, renewing the same lease by the same span again finds out.
        """
        return self.run_many([calls.renew(self.deployment, lease, by) for lease in leases])

    def commit(self, lease: Lease, archived: SessionInfo) -> CommitOutcome:
        """Delete the session if it still is exactly what `archived` describes; else note how far it is safe."""
        return self.run(calls.commit(self.deployment, lease, archived))

    def release(self, lease: Lease, delay: timedelta, *, counted: bool, error: str = "") -> bool:
        """Give a session back, due after `delay`; False where the lease is lost."""
        return self.run(calls.release(self.deployment, lease, delay, counted=counted, error=error))

    def quarantine(self, lease: Lease, error: str) -> bool:
        """Put a session aside, untouched, with the reason; False where the lease is lost."""
        return self.run(calls.release(self.deployment, lease, None, counted=True, error=error))

    def requeue(self, session_id: str) -> bool:
        """Take a session out of quarantine: due now, its attempts forgotten; False where it is not there."""
        return self.run(calls.requeue(self.deployment, session_id))

    def stored_sessions(self) -> Iterator[str]:
        """Walk the ids of all sessions that have keys, indexed or not; an id may come twice.

        The only operation that walks the key space (SCAN): for repairs.
        """
        keyspace = self.deployment.keyspace
        try:
            for key in self._client.scan_iter(keyspace.pattern, count=1000):
                session = keyspace.session_of(key if isinstance(key, bytes) else key.encode())
                if session is not None:
                    yield session
        except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException) as exc:
            raise translate(exc) from exc

    def reindex(self, session_id: str) -> IndexOutcome:
        """Add the index entry that a session lacks, or drop the one that lacks a session."""
        return self.run(calls.reindex(self.deployment, session_id))

    def mend(self, session_id: str, mending: Mending) -> bool:
        """Give messages whose metadata was lost new metadata, due now; False where the session has changed."""
        return self.run(calls.mend(self.deployment, session_id, mending))

    def cleaned(self, lease: Lease, floor: int) -> CleanOutcome:
        """Note that the archive below `floor` is erased; the session can be archived again once it is done."""
        return self.run(calls.cleaned(self.deployment, lease, floor))

    def begin_restore(self, session_id: str, lease: timedelta) -> RestoreTicket | None:
        """Leave a restore's token; None where nothing of the session is in the archive alone.

        Raises SessionDamaged where the session's metadata was lost.
        """
        token = os.urandom(8).hex().encode()
        return self.run(calls.restore(self._recorded, session_id, token, lease))

    def stage(self, ticket: RestoreTicket, staged: int, messages: Sequence[bytes], lease: timedelta) -> bool:
        """Add a page to a restore, `staged` messages being there before; False where it was superseded."""
        return self.run(calls.stage(self.deployment, ticket, staged, messages, lease))

    def swap(self, ticket: RestoreTicket, staged: int, origin: Origin) -> SwapOutcome:
        """Finish a restore: the staged messages come before whatever was written meanwhile."""
        return self.run(calls.swap(self.deployment, ticket, staged, origin))

    def abandon(self, ticket: RestoreTicket) -> bool:
        """Give up a restore and leave the session as it was before; False where it was superseded."""
        return self.run(calls.abandon(self.deployment, ticket))

    def rewound_before(self) -> int:
        """The epoch before which sessions may lack writes that others have seen; INFO, which needs no key.

        Redis may have lost its last writes when it started, and a replica those that it had not got when it was
        promoted, whenever that was. 0 where the server does not tell.
        """
        nodes = (
            {"target_nodes": redis.cluster.RedisCluster.PRIMARIES}
            if isinstance(self._client, redis.cluster.RedisCluster)
            else {}
        )
        try:
            with _translated():
                told: Any = self._client.info(**nodes)
        except RedisRefused:
            return 0
        each = told.values() if nodes and "redis_version" not in told else [told]
        return max(map(_rewound_before, each), default=0)

    def add_events(self, events: Sequence[Mapping[str, str]], *, keep: int) -> None:
        """Append to the deployment's stream, of which about the last `keep` stay; one pipeline."""
        pipeline = self._client.pipeline(transaction=False)
        for fields in events:
            pipeline.xadd(events_key(self._namespace), cast(Any, fields), maxlen=keep, approximate=True)
        with _translated():
            pipeline.execute()

    def last_events(self, count: int) -> list[tuple[str, dict[str, str]]]:
        """The stream's last events with their ids, oldest first."""
        with _translated():
            found: Any = self._client.xrevrange(events_key(self._namespace), count=count)
        return [_event(each) for each in reversed(found)]

    def events_after(self, last: str, *, seconds: float) -> list[tuple[str, dict[str, str]]]:
        """The events after the one with id `last`, "0" for all; waits up to so many seconds for the first."""
        key = events_key(self._namespace)
        with _translated():
            streams: Any = self._client.xread({key: last}, block=int(seconds * 1000))
        # RESP3: {stream: [events]}, RESP2: [[stream, events]]; https://redis.io/docs/latest/commands/xread
        by_stream = streams.values() if isinstance(streams, dict) else [[events] for _, events in streams or ()]
        found = chain.from_iterable(by_stream)
        return [_event(event) for events in found for event in events]

    def load_scripts(self) -> None:
        """Load every script, so that a first pipeline need not be sent twice; one round trip a script."""
        with _translated():
            for each in all_scripts():
                self._client.script_load(each.source)

    # How a call is run

    def run(self, call: Call[T]) -> T:
        """Run one call: EVALSHA, and EVAL where the server has lost the script."""
        with _translated():
            try:
                reply = self._evaluate("EVALSHA", call.script.sha, call)
            except redis.exceptions.NoScriptError:
                reply = self._evaluate("EVAL", call.script.source, call)
        return call.decode(reply)

    def run_many(self, many: Sequence[Call[T]]) -> list[T | TorporError]:
        """Run independent calls in one pipeline; an error stands in its call's place."""
        if not many:
            return []
        with _translated():
            # transaction=False: the calls are independent and may be of different slots.
            pipeline = self._client.pipeline(transaction=False)
            for call in many:
                arguments = _arguments(call.script.sha, call)
                pipeline.execute_command("EVALSHA", *arguments, NEVER_DECODE=[], **self._target(call))
            replies = pipeline.execute(raise_on_error=False)
        return [self._outcome(call, reply) for call, reply in zip(many, replies, strict=True)]

    def _evaluate(self, command: str, body: str | bytes, call: Call[T]) -> Any:
        # NEVER_DECODE: replies are bytes whatever decode_responses says, so that stored bytes stay untouched.
        return self._client.execute_command(command, *_arguments(body, call), NEVER_DECODE=[])

    def _target(self, call: Call[Any]) -> dict[str, Any]:
        """Which node of a Cluster a pipeline sends a call to; redis-py would ask one for the keys of each call."""
        if isinstance(self._client, redis.cluster.RedisCluster):
            return {"target_nodes": self._client.get_node_from_key(call.keys[0])}
        return {}

    def _outcome(self, call: Call[T], reply: Any) -> T | TorporError:
        try:
            if isinstance(reply, redis.exceptions.NoScriptError):
                return self.run(call)
            if isinstance(reply, Exception):
                raise translate(reply) from reply
            return call.decode(reply)
        except TorporError as error:
            return error


def _arguments(body: str | bytes, call: Call[Any]) -> list[str | bytes | int]:
    return [body, len(call.keys), *call.keys, *call.args]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException) as exc:
        raise translate(exc) from exc


def _event(found: tuple[bytes | str, dict[bytes | str, bytes | str]]) -> tuple[str, dict[str, str]]:
    identity, fields = found
    return _text(identity), {_text(name): _text(value) for name, value in fields.items()}


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


def _answered(shards: Iterable[int], outcomes: Sequence[T | TorporError]) -> list[tuple[int, T]]:
    """The shards that have answered, with what; raises the first error where none has."""
    answered: list[tuple[int, T]] = []
    errors: list[TorporError] = []
    for shard, outcome in zip(shards, outcomes, strict=True):
        if isinstance(outcome, TorporError):
            errors.append(outcome)
        else:
            answered.append((shard, outcome))
    if errors and not answered:
        raise errors[0]
    if errors:
        log.warning("%d of %d shards did not answer: %s", len(errors), len(outcomes), errors[0])
    return answered


def _is_free(info: SessionInfo) -> bool:
    """Can the session be archived before it is due?"""
    idle = info.status is Status.LIVE and info.attempts == 0 and info.floor is None
    return info.status is Status.DUE or idle


def _rewound_before(info: Mapping[str, Any]) -> int:
    """What INFO tells of one node; https://redis.io/docs/latest/commands/info."""
    if set(str(info.get("master_replid2", "0"))) != {"0"}:  # the id of the primary that it had followed
        return MAX_EPOCH
    now_us, up_seconds = info.get("server_time_usec"), info.get("uptime_in_seconds")
    if now_us is None or up_seconds is None:
        return 0
    return int(now_us) - (int(up_seconds) - 1) * 1_000_000  # it is told in whole seconds


def check_session_id(session_id: str) -> str:
    """The session id itself, where it is one; raises InvalidSessionId."""
    encode_session_id(session_id)
    return session_id
