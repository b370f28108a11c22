"""The main job on real input: a real Redis, the Cloud Storage emulator, and a real Celery worker with beat."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from support.compose import archived, deployment_of, image
from support.keyspace import lasting_keys
from support.paths import CONVERSATIONS
from support.servers import RedisServer, missing
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import Status
from torpor.worker.archive.contents import look
from torpor.worker.deployment.services import Services
from torpor.worker.transfer.json_lines import read_conversations
from torpor.worker.wake.restore import restore_session

pytestmark = pytest.mark.slow


@pytest.fixture
def deployment(client: redis.Redis, redis_server: RedisServer, archive_url: str) -> Services:
    return deployment_of(redis_server, archive_url)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
def test_seven_hundred_real_conversations_go_to_sleep_and_wake_up_equal(
    client: redis.Redis, deployment: Services, tmp_path: Path
) -> None:
    if not CONVERSATIONS.exists():
        missing("shared/data/conversations.jsonl")
    played = list(read_conversations(CONVERSATIONS))
    assert (len(played), sum(len(conversation.messages) for conversation in played)) == (700, 8_389)
    with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
        for conversation in played:
            MemorystoreChatMessageHistory(client, conversation.session_id, 1).add_messages(conversation.messages)
        wait_until(lambda: archived(deployment) == 700, 120, "700 sessions are archived")
    kinds = {key.split(b":")[2] for key in lasting_keys(client) if key.startswith(b"{")}
    assert kinds == {b"t", b"archive", b"measures", b"seen", b"samples"}, "nothing of a session is left in Redis"
    for conversation in played:
        assert restore_session(deployment, conversation.session_id).messages == len(conversation.messages)
        assert MemorystoreChatMessageHistory(client, conversation.session_id).messages == conversation.messages


def test_a_worker_archives_by_itself_what_goes_idle_and_leaves_what_does_not(
    client: redis.Redis, deployment: Services, tmp_path: Path
) -> None:
    idle = MemorystoreChatMessageHistory(client, "idle", 1)
    busy = MemorystoreChatMessageHistory(client, "busy", 3600)
    with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
        idle.add_user_message("good night")
        busy.add_user_message("still here")
        wait_until(lambda: idle.info() is None, 60, "the idle session is gone from Redis")
        assert busy.info()
        assert busy.close()
        wait_until(lambda: busy.info() is None, 60, "the closed session is gone from Redis")
    assert look(deployment.archive, "idle")
    assert look(deployment.archive, "busy")
    assert archived(deployment) == 2


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_tasks_can_be_sent_by_their_names(client: redis.Redis, deployment: Services, tmp_path: Path) -> None:
    from torpor.worker.deployment.celery_config import make_app

    app = make_app(lambda: deployment.settings)
    chat = MemorystoreChatMessageHistory(client, "s", 3600)
    chat.add_user_message("hello")
    with image("worker", deployment, tmp_path):
        app.send_task("torpor.archive_session", ["s"])
        wait_until(lambda: chat.info() is None, 60, "the session is archived")
        app.send_task("torpor.restore_session", ["s"])
        wait_until(lambda: (info := chat.info()) and info.complete, 60, "the session is restored")
        assert [message.content for message in chat.messages] == ["hello"]
        app.send_task("torpor.purge_session", ["s"])
        wait_until(lambda: (info := chat.info()) and info.status is Status.PURGED, 60, "the session is purged")
        wait_until(lambda: not look(deployment.archive, "s"), 60, "its segments are gone")
    app.close()
