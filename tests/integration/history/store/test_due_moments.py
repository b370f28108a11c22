"""Every script in every state: when the session is due afterwards, and what always holds for its keys."""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import dataclass

import pytest
import redis

from support.keyspace import commands_run, dump, raw
from support.session_states import (
    ACTS,
    APART,
    CHANGED,
    CHECKPOINTS,
    DELAY,
    METADATA,
    OF_THREADS,
    STATES,
    Case,
    without_index,
)
from support.stored_sessions import DUE, HOUR, MINUTE, QUARANTINE
from torpor.history import calls
from torpor.history.fields import by_name
from torpor.history.protocol import SessionStore, TorporError

pytestmark = [pytest.mark.slow, pytest.mark.every_server]

DAY_MS, HOUR_MS, MINUTE_MS = 86_400_000, HOUR.total_seconds() * 1000, MINUTE.total_seconds() * 1000
# Whoever calls these says the moment: now, or after a delay.
NOW = {"close", "requeue", "rebuild_metadata"}
DELAYED = {"release"}
# A pending hold ends with its application; a clear or a purge, which the release allowed, deletes the objects.
END_OF_A_HOLD = {"note_hold_applied", "clear", "purge", "set_aside"}
# The erasure is done, or a later one includes it.
END_OF_AN_ERASURE = {"note_erased", "clear", "pop", "purge", "rebase", "rewrite", "set_aside"}


END_OF_A_TOMBSTONE = {"append with allow_reuse", "write_record with allow_reuse"}
# The idle timeout until the next activity.
SOONER = {"write_record that is an interrupt": MINUTE_MS}


@dataclass(frozen=True)
class Found:
    """What Redis has of the session."""

    fields: dict[str, bytes]
    length: int
    score: float | None
    quarantined: bool
    owned: bool
    now: int

    @classmethod
    def look(cls, client: redis.Redis) -> Found:
        seconds, micros = map(int, raw(client, "TIME"))
        pairs = raw(client, "HGETALL", METADATA)
        if isinstance(pairs, dict):
            pairs = [each for pair in pairs.items() for each in pair]
        score = raw(client, "ZSCORE", DUE, "s")
        return cls(
            by_name(pairs),
            raw(client, "LLEN", "{torpor:0}:m:s"),
            None if score is None else float(score),
            raw(client, "ZSCORE", QUARANTINE, "s") is not None,
            bool(raw(client, "SISMEMBER", "{torpor:0}:o:ann", "s")),
            seconds * 1000 + micros // 1000,
        )

    @property
    def exists(self) -> bool:
        return bool(self.fields or self.length)

    @property
    def is_pending(self) -> bool:
        """Has the worker something else to do than to archive it?"""
        return bool(self.fields.keys() & {"floor", "hold_pending"}) or "epoch" not in self.fields

    @property
    def is_held_only(self) -> bool:
        """Has the worker a legal hold to apply, and no erasure before it?"""
        return "hold_pending" in self.fields and "floor" not in self.fields

    @property
    def is_restoring(self) -> bool:
        return int(self.fields.get("restore_until", 0)) > self.now

    def idle_end(self, sooner: float | None = None) -> float:
        idle = sooner or int(self.fields.get("idle", DAY_MS))
        return max(int(self.fields["last_active"]) + idle, int(self.fields.get("restore_until", 0)))


def check(act: str, case: Case, before: Found, after: Found) -> None:
    """What must hold after any script, whatever came before."""
    state = after.fields.get("state")
    assert after.owned == (after.fields.get("owner") == b"ann"), "the owner's index and the session differ"
    if not after.exists:
        assert (after.score, after.quarantined) == (None, False), "an index entry without a session"
        return
    assert after.quarantined == (state == b"quarantined")
    if after.quarantined and (after.score is None or "hold_pending" not in after.fields):
        assert after.score is None, "quarantined, and in the due index"
        assert not after.is_held_only or act == "release to quarantine", "a legal hold that nobody will apply"
        return
    assert after.score is not None, "no worker will ever look at it"
    if after.score % 1 == 0.5:
        assert any(float(token) == after.score for token in case.leases), "a token that nobody was given"
        assert after.score - after.now <= 3 * MINUTE_MS
        return
    assert after.score % 1 in {0, 0.25}
    assert not after.score % 1 or "waiting_since" in after.fields, "postponed, and nobody knows since when"
    if act.partition(" ")[0] in DELAYED and after.score > after.now and after.score != before.score:
        assert after.score <= after.now + 2 * DELAY.total_seconds() * 1000
        return
    check_moment(act, before, after, after.score)


def check_moment(act: str, before: Found, after: Found, score: float) -> None:
    if after.fields.get("state") == b"purged":
        assert score <= int(after.fields["tombstone_until"]), "the tombstone outlives its time"
    elif after.is_pending:
        latest = int(after.fields.get("recheck_at", 0)) if "floor" in after.fields else 0
        assert score <= max(after.now, latest), "pending work was postponed"
    elif "known_absent" in after.fields:
        assert score <= after.now + MINUTE_MS
    elif after.is_restoring and act not in NOW:
        assert score >= int(after.fields["restore_until"]), "a worker would end the restore"
    elif after.length == 0:
        assert score <= max(after.now, int(after.fields.get("restore_until", 0))), "kept for nothing"
    else:
        assert score == after.idle_end(SOONER.get(act)) or (score <= after.now and (act in NOW or is_due(before)))


def is_due(found: Found) -> bool:
    return found.score is not None and found.score <= found.now


def check_what_remains(act: str, before: Found, after: Found) -> None:
    """Pending work ends only by being done, and a tombstone only by the end of its time or by allow_reuse."""
    if "hold_pending" in before.fields and "hold_pending" not in after.fields:
        assert act in END_OF_A_HOLD, "a legal hold was forgotten"
    if "floor" in before.fields and after.fields.get("floor") != before.fields["floor"]:
        assert act in END_OF_AN_ERASURE, "an erasure was forgotten"
    if before.fields.get("state") == b"purged" and after.fields.get("state") != b"purged":
        assert act in END_OF_A_TOMBSTONE, "a tombstone was lost"


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("state", STATES)
def test_every_script_leaves_every_state_with_the_right_due_moment(
    client: redis.Redis, store: SessionStore, monkeypatch: pytest.MonkeyPatch, state: str, act: str
) -> None:
    if act.partition(" ")[0] in OF_THREADS:
        for name, element in zip("ABC", CHECKPOINTS, strict=True):
            monkeypatch.setattr(f"support.session_states.{name}", element)
    case = Case(store)
    STATES[state](case)
    before, keys = Found.look(client), dump(client)
    check("", case, before, before)
    try:
        ACTS[act](case)
    except TorporError as refused:
        assert dump(client) == keys, refused
    after = Found.look(client)
    check(act, case, before, after)
    check_what_remains(act, before, after)
    client.flushall()


@pytest.mark.parametrize("act", ACTS)
def test_a_script_reads_the_clock_once(client: redis.Redis, store: SessionStore, act: str) -> None:
    """Two readings of one script differ before Redis 7.2: a session could be last active before its creation."""
    scripts, readings = commands_run(client, "evalsha"), commands_run(client, "time")
    case = Case(store)
    STATES["live"](case)
    with suppress(TorporError):
        ACTS[act](case)
    assert commands_run(client, "time") - readings <= commands_run(client, "evalsha") - scripts
    client.flushall()


@pytest.mark.parametrize("state", STATES)
def test_a_repaired_index_has_the_due_moment_of_the_state(client: redis.Redis, store: SessionStore, state: str) -> None:
    case = Case(store)
    without_index(STATES[state])(case)
    before = Found.look(client)
    store.reindex("s")
    after = Found.look(client)
    check("reindex", case, before, after)
    assert after.fields == before.fields
    client.flushall()


def test_a_legal_hold_is_not_postponed_by_a_longer_expiry(client: redis.Redis, store: SessionStore) -> None:
    case = Case(store)
    STATES["held"](case)
    store.update("s", idle=CHANGED)
    found = Found.look(client)
    assert found.score is not None
    assert found.score <= found.now


@pytest.mark.parametrize("then", ["a clear's end", "a longer expiry after a clear's end"])
def test_a_legal_hold_that_was_set_after_a_clear_is_due_as_soon_as_the_archive_is_erased(
    client: redis.Redis, store: SessionStore, then: str
) -> None:
    case = Case(store)
    STATES["held after a clear"](case)
    ACTS["note_erased"](case)
    if then != "a clear's end":
        store.update("s", idle=CHANGED)
    found = Found.look(client)
    assert "floor" not in found.fields
    assert found.score is not None
    assert found.score <= found.now


def test_every_operation_is_in_the_table_or_changes_no_session() -> None:
    operations = {
        name
        for name, each in inspect.getmembers(calls, inspect.isfunction)
        if str(each.__annotations__.get("return")).startswith("Call[")
    }
    named_acts = {act.split()[0].rstrip(",") for act in ACTS}
    assert operations == named_acts | APART
