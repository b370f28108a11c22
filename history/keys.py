"""Every key name: which shard a session belongs to, and what its keys are called."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from itertools import count

from redis.crc import key_slot

from torpor.history.ids import MAX_ID_BYTES, encode_owner

# The keys of all deployments.
_KEYS = re.compile(
    rb"\{[A-Za-z0-9_.:-]{1,64}:\d{1,5}\}:((due|q|t|l|h|a)$|[mswori]:)"
    rb"|\{[A-Za-z0-9_.:-]{1,64}:events\}:(archive|measures|seen|samples)$"
    rb"|[A-Za-z0-9_.:-]{1,64}:(config$|events$|purge:|job:|console:|celery:|adopting:|returning:)"
)

# Those of them that a deployment has once.
_SINGLE = re.compile(
    rb"\{[A-Za-z0-9_.:-]{1,64}:events\}:(archive|measures|seen|samples)$|[A-Za-z0-9_.:-]{1,64}:(config|events)$"
)

# The ids of sessions that were put aside.
_ASIDE = re.compile(r"conflict:\d+\.\d+:(.+)", re.DOTALL)

# The lists of all deployments: messages, staged messages, taken messages, messages to give back.
_LISTS = re.compile(rb"\{[A-Za-z0-9_.:-]{1,64}:\d{1,5}\}:[mr]:|[A-Za-z0-9_.:-]{1,64}:(adopting|returning):\{")


def config_key(namespace: str) -> bytes:
    """Hash: the configuration of a deployment."""
    return f"{namespace}:config".encode()


def purge_lock_key(namespace: str, purge: str) -> bytes:
    """String: the lock of the worker that carries out a purge; expires."""
    return f"{namespace}:purge:{purge}".encode()


def purge_failure_key(namespace: str, purge: str) -> bytes:
    """String: why a purge failed when it was last tried; expires."""
    return f"{namespace}:purge:{purge}:failure".encode()


def job_lock_key(namespace: str, job: str, part: str) -> bytes:
    """String: the lock of the process that does a part of a job: lists or concludes it, does a batch; expires."""
    return f"{namespace}:job:{job}:{part}".encode()


def job_failure_key(namespace: str, job: str) -> bytes:
    """String: why a part of a job failed when it was last tried; expires."""
    return f"{namespace}:job:{job}:failure".encode()


def job_rate_key(namespace: str, job: str) -> bytes:
    """String: the moment from which on sessions may be taken for a job that has a rate; expires."""
    return f"{namespace}:job:{job}:rate".encode()


def console_ended_key(namespace: str, number: str) -> bytes:
    """String: a session of a browser in the console, which has ended before its cookie expires; expires with it."""
    return f"{namespace}:console:ended:{number}".encode()


def events_key(namespace: str) -> bytes:
    """Stream: the events of a deployment."""
    return f"{namespace}:events".encode()


def archive_health_key(namespace: str) -> bytes:
    """Hash: what the workers have noted of the archive; in the slot of the events."""
    return b"{%b}:archive" % events_key(namespace)


def measures_key(namespace: str) -> bytes:
    """Hash: what the processes of the deployment have measured, such as how long something took."""
    return b"{%b}:measures" % events_key(namespace)


def seen_key(namespace: str) -> bytes:
    """Hash: when beat, a sweep and each worker were last seen."""
    return b"{%b}:seen" % events_key(namespace)


def samples_key(namespace: str) -> bytes:
    """Stream: a sample of the deployment's figures for each of the last minutes."""
    return b"{%b}:samples" % events_key(namespace)


def single_keys(namespace: str) -> dict[bytes, str]:
    """The keys that a deployment has once, with their types."""
    return {
        config_key(namespace): "hash",
        events_key(namespace): "stream",
        archive_health_key(namespace): "hash",
        measures_key(namespace): "hash",
        seen_key(namespace): "hash",
        samples_key(namespace): "stream",
    }


def is_single(key: bytes) -> bool:
    """True if a deployment, in any namespace, has a key of this name once."""
    return _SINGLE.match(key) is not None


def is_torpors_list(key: bytes) -> bool:
    """True if a deployment of Torpor, in any namespace, keeps messages in a list of this name."""
    return _LISTS.match(key) is not None


def aside_of(session_id: str) -> str | None:
    """The session from whose id a session was put aside, because two owners used the id; None for any other."""
    match = _ASIDE.fullmatch(session_id)
    return match[1] if match else None


def looks_like_torpors(key: bytes) -> bool:
    """True if a deployment of Torpor, in any namespace, has keys of such a name. A session's id may look so, too."""
    return _KEYS.match(key) is not None


def own_keys(namespace: str) -> re.Pattern[bytes]:
    """A pattern of the beginning of each key of a deployment, and of each list of the other deployments."""
    name = re.escape(namespace.encode())
    single = rb"config$|events$|purge:|job:|console:|celery:"
    return re.compile(rb"\{%b:(\d+|events)\}:|%b:(%b)|%b" % (name, name, single, _LISTS.pattern))


def of_namespace(namespace: str, key: bytes) -> bool:
    """True if a deployment, or its broker, has keys that begin like this one; or any deployment a list of its name."""
    return key.startswith((f"{namespace}:".encode(), b"{%b:" % namespace.encode())) or is_torpors_list(key)


def slot_tag(key: bytes) -> bytes:
    """A hash tag for other keys in the slot of `key`; it has no closing brace.

    https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
    """
    tag, closed, _ = key.partition(b"{")[2].partition(b"}")
    if closed and tag:
        return tag
    if b"}" not in key:
        return key
    return _number_of_slot(key_slot(key))


@cache
def _number_of_slot(slot: int) -> bytes:
    """The first number whose digits hash to the slot; the search tries 16,384 numbers on average."""
    return next(digits for number in count() if key_slot(digits := b"%d" % number) == slot)


def adopting_key(namespace: str, key: bytes) -> bytes:
    """List: the messages that were taken from another library's `key` for an adoption, in the same slot.

    The last element is a mark, `token:remaining TTL (ms)`.
    """
    return b"%b:adopting:{%b}:%b" % (namespace.encode(), slot_tag(key), key)


def adopted_key(name: bytes) -> bytes:
    """The other library's key for the name of an `adopting_key`."""
    return name.partition(b"}:")[2]


def adopting_pattern(namespace: str, pattern: bytes) -> bytes:
    """A SCAN pattern for the `adopting_key` of each key that matches `pattern`."""
    return b"%b:adopting:{*}:%b" % (namespace.encode(), pattern)


def returning_key(namespace: str, key: bytes, token: bytes) -> bytes:
    """List: messages that will be given back to another library under `key`, in the same slot; expires."""
    return b"%b:returning:{%b}:%b:%b" % (namespace.encode(), slot_tag(key), token, key)


@dataclass(frozen=True)
class ShardKeys:
    """The keys of one shard and of its sessions; all carry the shard's hash tag."""

    tag: bytes

    @cached_property
    def due(self) -> bytes:
        """Sorted set: session id -> the moment (ms) at which the worker must look at the session."""
        return self.tag + b":due"

    @cached_property
    def quarantine(self) -> bytes:
        """Sorted set: id of a quarantined session -> since when (ms)."""
        return self.tag + b":q"

    @cached_property
    def tally(self) -> bytes:
        """Hash: the highest epoch that has left Redis; counts of archived and restored sessions, and of tombstones."""
        return self.tag + b":t"

    @cached_property
    def elected(self) -> bytes:
        """String: a listener was elected to send for the due sessions; expires with the election."""
        return self.tag + b":l"

    @cached_property
    def holds(self) -> bytes:
        """Hash: legal holds of sessions and owners."""
        return self.tag + b":h"

    @cached_property
    def adoptions(self) -> bytes:
        """Hash: session id -> its unfinished adoption."""
        return self.tag + b":a"

    @property
    def beside_the_indexes(self) -> dict[bytes, str]:
        """The keys of the shard itself other than the due index and the quarantine, with their types."""
        return {self.tally: "hash", self.elected: "string", self.holds: "hash", self.adoptions: "hash"}

    def messages(self, session: bytes) -> bytes:
        """List: one JSON message per element, oldest first."""
        return self.tag + b":m:" + session

    def metadata(self, session: bytes) -> bytes:
        """Hash: the fields of a session (see history/fields.py)."""
        return self.tag + b":s:" + session

    def recent_requests(self, session: bytes) -> bytes:
        """String: recent requests of a session, kept after it leaves Redis; expires within a minute."""
        return self.tag + b":w:" + session

    def owners(self, owner: str | None) -> list[bytes]:
        """The set of an owner's sessions, as the keys that a script is given for it: none without an owner."""
        return [] if owner is None else [self.owner(encode_owner(owner))]

    def owner(self, owner: bytes) -> bytes:
        """Set: the owner's sessions in this shard."""
        return self.tag + b":o:" + owner

    def record_index(self, session: bytes) -> bytes:
        """Hash: where the list of a LangGraph thread has the records of each checkpoint; derived from the list."""
        return self.tag + b":i:" + session

    def staging(self, session: bytes, token: bytes) -> bytes:
        """List: the messages that the restore with this token has read from the archive; expires."""
        return self.tag + b":r:" + token + b":" + session


@cache
def _shard(namespace: str, number: int) -> ShardKeys:
    return ShardKeys(b"{%b:%d}" % (namespace.encode(), number))


@dataclass(frozen=True, slots=True)
class Keyspace:
    """The keys of one deployment: a namespace and a fixed number of shards."""

    namespace: str
    shards: int

    def shard_of(self, session: bytes) -> int:
        """The shard of an encoded session id: the CRC-32 of the id modulo the shard count."""
        return zlib.crc32(session) % self.shards

    def shard(self, number: int) -> ShardKeys:
        """The keys of one shard."""
        return _shard(self.namespace, number)

    @property
    def due_pattern(self) -> bytes:
        """The PSUBSCRIBE pattern of all shards' channels; each channel has the name of the shard's due key."""
        return b"{%b:*}:due" % self.namespace.encode()

    def shard_of_channel(self, channel: bytes) -> int | None:
        """The shard of a channel, which has the name of its due key; None for a channel of another deployment."""
        number = channel.removeprefix(b"{%b:" % self.namespace.encode()).removesuffix(b"}:due")
        return int(number) if number.isdigit() and channel == self.shard(int(number)).due else None

    @property
    def pattern(self) -> bytes:
        """The SCAN pattern of the keys of all shards."""
        return b"{%b:*}:*" % self.namespace.encode()

    def session_of(self, key: bytes) -> str | None:
        """The session id in the name of a messages or metadata key; None for every other key."""
        tag, _, rest = key.partition(b"}:")
        kind, colon, session = rest.partition(b":")
        if not colon or kind not in (b"m", b"s") or tag + b"}" != self.of(session).tag:
            return None
        return session.decode(errors="replace")

    def aside(self, session: bytes, epoch: int) -> bytes:
        """The id, in the same shard, under which a session is put aside in an epoch; `aside_of` reads it."""
        kept = session if len(session) <= MAX_ID_BYTES - 64 else b"sha256=" + sha256(session).hexdigest().encode()
        ids = (b"conflict:%d.%d:%b" % (epoch, number, kept) for number in count())
        return next(each for each in ids if self.shard_of(each) == self.shard_of(session))

    def of(self, session: bytes) -> ShardKeys:
        """The keys of the shard that an encoded session id belongs to."""
        return self.shard(self.shard_of(session))
