"""langchain-google-memorystore-redis as published, in an environment of its own: its sessions come and go back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from support.command import Torpor
from support.foreign import LAYOUTS
from support.keyspace import raw
from support.paths import TESTS
from support.servers import RedisServer, missing
from support.waiting import scaled
from torpor import MemorystoreChatMessageHistory
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import RestoreOutcome, restore_session

# The newest one, of March 2025, which needs langchain-core < 1.
PACKAGE = "langchain-google-memorystore-redis==0.3.0"
COUNT = 10

Peer = Callable[..., dict[str, str]]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.version_info >= (3, 13), reason=f"{PACKAGE} needs a NumPy that has no wheel for Python 3.13"
    ),
]


@pytest.fixture(scope="module")
def peer_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the package; made with uv, from its cache where it has been made before."""
    uv = shutil.which("uv", path=Path(sys.executable).parent) or shutil.which("uv") or missing("uv")
    environment = tmp_path_factory.mktemp("peer") / "venv"
    python = environment / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, environment], check=True)
    install = [uv, "pip", "install", "-q", "--python", str(python), PACKAGE]
    made = subprocess.run(install, check=False, capture_output=True, text=True)
    if made.returncode:
        missing(f"{PACKAGE} ({made.stderr.strip()})")
    return python


@pytest.fixture
def peer(client: redis.Redis, redis_server: RedisServer, peer_python: Path) -> Peer:
    """What runs tests/support/published_peer.py; the result is session id -> its messages as JSON."""
    cluster = str(isinstance(client, redis.cluster.RedisCluster))

    def run(what: str, *arguments: str) -> dict[str, str]:
        script = str(TESTS / "support" / "published_peer.py")
        command = [str(peer_python), script, what, redis_server.url, cluster, *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=scaled(60))
        assert done.returncode == 0, done.stderr
        return dict(json.loads(line) for line in done.stdout.splitlines())

    return run


def test_what_it_has_written_is_adopted_archived_restored_and_given_back_equal(
    client: redis.Redis, services: Services, torpor: Torpor, peer: Peer
) -> None:
    written = peer("write")
    assert {len(json.loads(messages)) for messages in written.values()} == {COUNT}
    at_first_use = {"plain": "memorystore", "{tagged}:1": "memorystore", "community": "community"}
    for session_id, layout in at_first_use.items():
        assert len(MemorystoreChatMessageHistory(client, session_id, adopt=layout).messages) == COUNT
    rest = written.keys() - at_first_use.keys()
    adopted = torpor("adopt", "--match", "*", "--format", "memorystore", "--json").json
    assert (adopted["sessions"], adopted["messages"]) == (len(rest), COUNT * len(rest))
    for session_id in written:
        assert not any(raw(client, "EXISTS", layout.key(session_id)) for layout in LAYOUTS.values())
        assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
        assert services.sessions.info(session_id) is None
        assert restore_session(services, session_id).outcome is RestoreOutcome.RESTORED
    assert torpor("export", "--all", "--to-memorystore", "--prefix", "").code == 0
    assert peer("read", *written) == written


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_what_ours_has_written_is_given_to_it_and_reads_the_same(
    client: redis.Redis, torpor: Torpor, peer: Peer
) -> None:
    written = peer("write")
    chat = MemorystoreChatMessageHistory(client, "plain", adopt="memorystore")
    copy = MemorystoreChatMessageHistory(client, "copy")
    copy.add_messages(chat.messages)
    torpor("archive", "copy")
    assert torpor("export", "copy", "--to-memorystore", "--prefix", "").code == 0
    assert peer("read", "copy")["copy"] == written["plain"]
