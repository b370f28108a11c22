"""The sessions in Redis are counted by kind, as they come and go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import redis

from support.keyspace import raw
from support.savers import checkpoint, config
from support.sessions import purge_session
from torpor import MemorystoreSaver, SessionArchive
from torpor.history.conversation import Conversation
from torpor.history.protocol import Expiry, run_sync
from torpor.worker.deployment.services import Services
from torpor.worker.monitoring.exposition import Exposition
from torpor.worker.monitoring.figures import gather
from torpor.worker.ops import kind_counts
from torpor.worker.ops.doctor import examine
from torpor.worker.ops.finding import Ailment
from torpor.worker.ops.status import overview
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.wake.restore import restore_session

SAID = b'{"type": "human", "data": {"content": "hello"}}'

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("archive_url", ["folder"], indirect=True)]


def counted(services: Services) -> tuple[int, int]:
    """Chats and threads as the figures have them, which a walk over the sessions confirms."""
    assert list(kind_counts.examine(services.sessions, repair=False)) == []
    kinds = gather(services).kinds
    assert kinds is not None
    assert overview(services).kinds == kinds
    return kinds["chat"], kinds["thread"]


def chat(services: Services, session_id: str = "chat") -> None:
    services.sessions.append(session_id, [SAID, SAID], expiry=Expiry(idle=timedelta(hours=1)), allow_reuse=True)


def thread(services: Services, session_id: str = "thread") -> None:
    MemorystoreSaver(services.sessions.client).put(config(session_id), checkpoint({}, {}), {}, {})


def sleep(services: Services) -> None:
    for session_id in ("chat", "thread"):
        archive_session(services, session_id)


def clear(services: Services) -> None:
    for session_id in ("chat", "thread"):
        services.sessions.clear(session_id)


def purge(services: Services) -> None:
    for session_id in ("chat", "thread"):
        purge_session(services, session_id)


@pytest.mark.parametrize("leave", [sleep, clear, purge], ids=["sleep", "clear", "purge"])
def test_a_session_counts_from_its_first_message_to_its_last(
    services: Services, leave: Callable[[Services], None]
) -> None:
    assert counted(services) == (0, 0)
    for _ in range(2):
        chat(services)
        thread(services)
        assert counted(services) == (1, 1), "a second turn counts nothing"
    leave(services)
    assert counted(services) == (0, 0)
    leave(services)
    assert counted(services) == (0, 0), "what has left does not leave again"


def test_a_restored_session_counts_once_also_beside_newer_messages(services: Services) -> None:
    chat(services)
    thread(services)
    sleep(services)
    thread(services)
    for session_id in ("chat", "thread"):
        restore_session(services, session_id)
    assert counted(services) == (1, 1)


def test_a_session_whose_last_message_is_taken_back_counts_no_more(client: redis.Redis, services: Services) -> None:
    chat(services)
    conversation = Conversation(client, "chat", archive=SessionArchive(services.archive.url))
    for left in (1, 0, 0):
        run_sync(conversation.pop(lambda page: page.messages))
        assert counted(services) == (left, 0)


def forget_counts(client: redis.Redis, services: Services) -> None:
    """Make the deployment one that had its sessions before the shards counted them."""
    for key in raw(client, "KEYS", "{torpor:*}:t"):
        raw(client, "HDEL", key, "chats", "chats_left", "threads", "threads_left")
    raw(client, "HDEL", "torpor:config", "kinds")
    services.sessions.identity()  # reads the configuration anew


def test_a_deployment_that_is_older_than_the_counts_shows_none_until_the_doctor_has_counted(
    client: redis.Redis, services: Services
) -> None:
    chat(services)
    chat(services, "another")
    thread(services)
    forget_counts(client, services)
    archive_session(services, "another")
    chat(services, "newer")
    text = Exposition(lambda: services).text().decode()
    assert 'torpor_sessions_by_kind{kind="unknown"} 3.0' in text
    assert 'kind="chat"' not in text
    assert overview(services).kinds is None
    [finding] = examine(services)
    assert (finding.ailment, finding.repaired) == (Ailment.KINDS_MISCOUNTED, False)
    assert gather(services).kinds is None
    [finding] = examine(services, repair=True)
    assert finding.repaired
    assert counted(services) == (2, 1)
    text = Exposition(lambda: services).text().decode()
    assert 'torpor_sessions_by_kind{kind="chat"} 2.0' in text
    assert 'kind="unknown"' not in text


def test_the_doctor_corrects_the_counts_after_somebody_has_deleted_keys(
    client: redis.Redis, services: Services
) -> None:
    chat(services)
    thread(services)
    raw(client, "DEL", *raw(client, "KEYS", "*:[ms]:chat"))
    assert [each.ailment for each in examine(services, repair=True)] == [Ailment.GHOST]
    assert counted(services) == (0, 1)


def test_counts_are_not_corrected_by_who_has_counted_before_a_session_came(services: Services) -> None:
    chat(services)
    shard = services.sessions.shard_of("chat")
    before = services.sessions.kinds(shard)
    services.sessions.clear("chat")
    chat(services)
    assert services.sessions.kinds(shard).there() == before.there() == (1, 0)
    assert not services.sessions.set_kinds(shard, before, 0, 0)
    assert counted(services) == (1, 0)
