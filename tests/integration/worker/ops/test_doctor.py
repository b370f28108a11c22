"""torpor doctor: after any change to the keys behind Torpor's back, a repair loses and doubles nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import redis
from langchain_core.messages import BaseMessage, HumanMessage

from support.keyspace import dump, raw
from torpor import MemorystoreChatMessageHistory, SessionArchive
from torpor.history.protocol import SessionDamaged, TorporError
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders
from torpor.worker.erasure.order import Order
from torpor.worker.ops.doctor import Assumption, examine
from torpor.worker.ops.finding import Ailment, Finding
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.drain import drain
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.slow

OLD, NEW = HumanMessage("old", id="1"), HumanMessage("new", id="2")


@pytest.fixture
def chat(client: redis.Redis) -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(client, "s", 3600)


def key(client: redis.Redis, kind: str, session_id: str = "s") -> bytes:
    [found] = raw(client, "KEYS", f"*:{kind}:{session_id}")
    return bytes(found)


def due(client: redis.Redis) -> bytes:
    [found] = raw(client, "KEYS", "*:due")
    return bytes(found)


def repaired(services: Services) -> list[Ailment]:
    found = list(examine(services, repair=True))
    assert all(finding.repaired for finding in found)
    assert list(examine(services)) == []
    return [finding.ailment for finding in found]


def transcript_after_a_sleep(services: Services, chat: MemorystoreChatMessageHistory) -> list[BaseMessage]:
    assert archive_session(services, "s").outcome is Outcome.ARCHIVED
    restore_session(services, "s")
    return chat.messages


def test_a_healthy_deployment_has_no_findings(services: Services, chat: MemorystoreChatMessageHistory) -> None:
    assert list(examine(services)) == []
    chat.add_message(OLD)
    archive_session(services, "s")
    restore_session(services, "s")
    chat.add_message(NEW)
    chat.close()
    MemorystoreChatMessageHistory(services.sessions.client, "cleared").clear()
    assert list(examine(services, repair=True)) == []


def test_an_index_entry_without_a_session_is_dropped(
    client: redis.Redis, services: Services, chat: MemorystoreChatMessageHistory
) -> None:
    chat.add_message(OLD)
    client.delete(key(client, "m"), key(client, "s"))
    before = dump(client)
    assert list(examine(services)) == [Finding("s", Ailment.GHOST)]
    assert dump(client) == before
    assert repaired(services) == [Ailment.GHOST]
    assert not raw(client, "KEYS", "*:due")


def test_a_session_without_an_index_entry_is_due_when_it_should_be(
    client: redis.Redis, services: Services, chat: MemorystoreChatMessageHistory
) -> None:
    chat.add_message(OLD)
    before = chat.info()
    client.delete(due(client))
    assert list(examine(services)) == [Finding("s", Ailment.UNINDEXED)]
    assert repaired(services) == [Ailment.UNINDEXED]
    assert chat.info() == before


def test_a_session_that_is_known_absent_is_healthy_and_must_be_indexed(client: redis.Redis, services: Services) -> None:
    archive = SessionArchive(services.archive.url)
    assert MemorystoreChatMessageHistory(client, "s", archive=archive).messages == []
    before = dump(client)
    assert list(examine(services)) == []
    assert list(examine(services, repair=True)) == []
    assert dump(client) == before, "Redis still remembers it"
    client.delete(due(client))
    assert list(examine(services)) == [Finding("s", Ailment.UNINDEXED)]
    assert repaired(services) == [Ailment.UNINDEXED]


@pytest.mark.parametrize("way", ["asleep", "woken"])
def test_lost_metadata_is_made_anew_from_what_the_archive_has(
    client: redis.Redis, services: Services, chat: MemorystoreChatMessageHistory, way: str
) -> None:
    chat.add_message(OLD)
    archive_session(services, "s")
    if way == "woken":
        restore_session(services, "s")
    chat.add_message(NEW)
    client.delete(key(client, "s"))
    [finding] = examine(services)
    assert finding.ailment is Ailment.METADATA_LOST
    assert repaired(services) == [Ailment.METADATA_LOST]
    assert transcript_after_a_sleep(services, chat) == [OLD, NEW]


@pytest.mark.parametrize("woken", [False, True], ids=["written to", "woken"])
def test_messages_that_may_be_archived_ones_by_chance_are_left_to_a_person(
    client: redis.Redis, services: Services, chat: MemorystoreChatMessageHistory, *, woken: bool
) -> None:
    hello = HumanMessage("hello")  # has no id, so that two of them are equal
    chat.add_message(hello)
    archive_session(services, "s")
    if woken:
        restore_session(services, "s")
    else:
        chat.add_message(hello)
    chat.add_message(NEW)
    client.delete(key(client, "s"))
    before = dump(client)
    [finding] = examine(services, repair=True)
    assert not finding.repaired
    assert "--assume woken" in (finding.detail or "")
    assert dump(client) == before
    [finding] = examine(services, repair=True, assume=Assumption.WOKEN if woken else Assumption.NEW)
    assert finding.repaired
    assert transcript_after_a_sleep(services, chat) == ([hello, NEW] if woken else [hello, hello, NEW])


def test_a_shard_whose_index_is_not_torpor_s_is_named_and_the_others_are_examined(
    client: redis.Redis, services: Services, chat: MemorystoreChatMessageHistory
) -> None:
    chat.add_message(OLD)
    client.delete(key(client, "m"), key(client, "s"))
    shard = services.sessions.deployment.keyspace.shard_of(b"s")
    broken = (shard + 1) % 256
    raw(client, "SET", f"{{torpor:{broken}}}:due", "not ours")
    findings = {finding.ailment: finding for finding in examine(services, repair=True)}
    assert set(findings) == {Ailment.SHARD_UNREADABLE, Ailment.GHOST}
    assert findings[Ailment.GHOST].repaired
    assert f"shard {broken}: " in (findings[Ailment.SHARD_UNREADABLE].detail or "")


def test_lost_metadata_of_a_session_that_had_grown_during_its_archive_doubles_nothing(
    client: redis.Redis, services: Services, chat: MemorystoreChatMessageHistory
) -> None:
    chat.add_message(HumanMessage("asleep"))
    archive_session(services, "s")
    chat.add_message(OLD)
    [lease] = [services.sessions.claim_one("s", services.settings.lease)]
    assert not isinstance(lease, str)
    [attempt] = services.sessions.begin_attempts([lease])
    put = services.archive.put

    def put_and_write(*args: object, **options: object) -> object:
        stored = put(*args, **options)  # type: ignore[arg-type]
        chat.add_message(NEW)
        return stored

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services.archive, "put", put_and_write)
        from torpor.worker.sleep.attempt import archive_claimed
        from torpor.worker.sleep.leases import LeaseKeeper

        with LeaseKeeper(services.sessions, services.settings.lease) as keeper:
            assert archive_claimed(services, keeper, lease, attempt, rewound_before=0).outcome is Outcome.KEPT
    client.delete(key(client, "s"))
    assert repaired(services) == [Ailment.METADATA_LOST]
    assert transcript_after_a_sleep(services, chat) == [HumanMessage("asleep"), OLD, NEW]


def test_a_session_that_lost_its_metadata_is_put_aside_until_it_is_repaired(
    client: redis.Redis, services: Services, chat: MemorystoreChatMessageHistory
) -> None:
    chat.add_message(OLD)
    client.delete(key(client, "s"))
    chat.add_message(NEW)
    assert chat.messages == [OLD, NEW]
    with pytest.raises(SessionDamaged):
        restore_session(services, "s")
    for _ in range(services.settings.max_attempts):
        drain(services, list(services.sessions.due_counts()))
        client.zadd(due(client), {"s": 1}, xx=True) if raw(client, "KEYS", "*:due") else None
    assert list(services.sessions.sessions(quarantined=True)) == ["s"]
    assert repaired(services) == [Ailment.METADATA_LOST]
    assert list(services.sessions.sessions(quarantined=True)) == []
    assert transcript_after_a_sleep(services, chat) == [OLD, NEW]


@pytest.mark.parametrize("kind", ["m", "s"])
def test_a_key_of_another_type_is_named_and_left_alone(
    client: redis.Redis, services: Services, chat: MemorystoreChatMessageHistory, kind: str
) -> None:
    chat.add_message(OLD)
    name = key(client, kind)
    client.delete(name)
    client.set(name, "not ours")
    before = dump(client)
    [finding] = examine(services, repair=True)
    assert (finding.ailment, finding.repaired) == (Ailment.UNREADABLE, False)
    assert "WRONGTYPE" in (finding.detail or "")
    assert dump(client) == before


def test_damaged_metadata_is_named_and_left_alone(
    client: redis.Redis, services: Services, chat: MemorystoreChatMessageHistory
) -> None:
    chat.add_message(OLD)
    client.hset(key(client, "s"), "epoch", "yesterday")
    [finding] = examine(services, repair=True)
    assert (finding.ailment, finding.repaired) == (Ailment.UNREADABLE, False)


def test_messages_that_nobody_can_read_are_named_and_left_alone(
    client: redis.Redis, services: Services, chat: MemorystoreChatMessageHistory
) -> None:
    chat.add_message(OLD)
    services.sessions.append("s", [b"not JSON", b'{"role":"user","content":"an item"}', b'{"type":"?","data":{}}'])
    MemorystoreChatMessageHistory(client, "long").add_message(OLD)
    services.sessions.append("long", [b""] * 30)
    before = dump(client)
    first = ", ".join(map(str, range(1, 21)))
    for repair in (False, True):
        found = {finding.session_id: finding for finding in examine(services, repair=repair)}
        assert found == {
            "s": Finding("s", Ailment.CORRUPT, detail="message 1, 3; 2 of 4"),
            "long": Finding("long", Ailment.CORRUPT, detail=f"message {first}, ...; 30 of 31"),
        }
        assert dump(client) == before
    assert list(examine(services, messages=False)) == []


def test_a_purge_that_was_ordered_and_that_redis_knows_nothing_of_is_named_and_not_carried_out(
    services: Services, chat: MemorystoreChatMessageHistory
) -> None:
    chat.add_message(OLD)
    minutes_ago = datetime.now(UTC) - timedelta(minutes=6)
    forgotten = Order.of(session="s", id="forgotten").model_copy(update={"requested_at": minutes_ago})
    for order in (forgotten, Order.of(session="s", id="young")):
        orders.place(services, order)
    for repair in (False, True):
        [finding] = examine(services, repair=repair)
        assert (finding.session_id, finding.ailment, finding.repaired) == (None, Ailment.PURGE_FORGOTTEN, False)
        assert "torpor purge --resume forgotten" in (finding.detail or "")
    assert chat.messages == [OLD]

    with services.sessions.purging("forgotten", timedelta(minutes=1)) as lock:
        assert lock
        assert list(examine(services)) == [], "somebody carries it out"
        with pytest.raises(TorporError), lock.noting_failure(timedelta()):
            raise TorporError("the bucket is away")
    assert list(examine(services)) == [], "it has failed, and purge-status says why"
