"""`torpor demo`: sessions go to sleep and wake up, with a real Celery worker and beat."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Self

import redis
from langchain_core.messages import BaseMessage, HumanMessage
from rich.live import Live
from rich.table import Table

from torpor import MemorystoreChatMessageHistory
from torpor.history.protocol import PermanentError
from torpor.worker.archive.contents import look
from torpor.worker.cli import demo_processes
from torpor.worker.cli.printing import progress, say, terminal
from torpor.worker.deployment import identity
from torpor.worker.deployment.services import Services, connect
from torpor.worker.deployment.settings import load_settings
from torpor.worker.ops import status
from torpor.worker.transfer.json_lines import Conversation, read_conversations
from torpor.worker.wake.restore import restore_session

IDLE_SECONDS = 2
PATIENCE_SECONDS = 120
# Settings of the environment that belong to another Redis than the built-in one.
_EMBEDDED = {"redis_cluster": False, "redis_iam": False, "redis_ca_file": ""}
_COLUMNS = ("written", "live", "due", "in work", "archived")


class DemoFailed(PermanentError):
    """The demo failed; the message says where it stopped."""


class _Board:
    """The counts of a deployment: a live table on a terminal, otherwise a line for each change."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._live = Live(console=terminal(), auto_refresh=False)
        self._shown = 0.0
        self._line = ""
        self._left = 0

    def __enter__(self) -> Self:
        if terminal().is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, services: Services, written: int, *, at_once: bool = False) -> int:
        """Show the counts, unless `at_once` at most five times a second; returns how many sessions are in Redis."""
        if not at_once and time.monotonic() - self._shown < 0.2:
            return self._left
        self._shown = time.monotonic()
        shards = services.sessions.overview()
        due, in_work = sum(shard.due for shard in shards), sum(shard.in_work for shard in shards)
        self._left = sum(shard.live for shard in shards)
        live, archived = self._left - due - in_work, sum(shard.archived for shard in shards)
        numbers = (
            f"{written:,} of {self._total:,}",
            f"{live:,}",
            f"{due:,}",
            f"{in_work:,}",
            f"{archived:,}",
        )
        if terminal().is_terminal:
            table = Table(box=None, pad_edge=False, header_style="bold")
            for name in _COLUMNS:
                table.add_column(name, justify="right", min_width=12)
            table.add_row(*numbers)
            self._live.update(table, refresh=True)
        elif (
            line := ", ".join(f"{name} {number}" for name, number in zip(_COLUMNS, numbers, strict=True))
        ) != self._line:
            self._line = line
            say(line)
        return self._left


def run(
    conversations: Path | None, redis_url: str | None, archive_url: str | None, *, keep: bool, console: bool
) -> None:
    """Write conversations, wait until they are archived, and restore them; raises DemoFailed or ImportFailed.

    `keep`: leave the folder with the transcripts and the worker's log. `console`: serve the pages meanwhile, and go on
    until Ctrl-C.
    """
    with as_file(files(__package__) / "sample.jsonl") as sample:
        played = list(read_conversations(conversations or sample))
    if not played:
        raise DemoFailed(f"{conversations} has no conversations")
    # A SIGTERM ends the demo as Ctrl-C does, so that what it started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _folder(keep=keep) as folder, demo_processes.redis_server(redis_url) as url:
        namespace = folder.name
        settings = load_settings(
            {
                "redis_url": url,
                **({} if redis_url else _EMBEDDED),
                "archive_url": f"{archive_url.rstrip('/')}/{namespace}"
                if archive_url
                else (folder / "archive").as_uri(),
                "namespace": namespace,
                "idle_timeout_seconds": IDLE_SECONDS,
                "sweep_interval_seconds": 1,
                # The built-in server runs scripts slowly, and a sweep runs one for each shard.
                "listen": redis_url is not None,
                "shards": None if redis_url else 8,
            }
        )
        if not settings.redis_cluster:
            # With the sessions' Redis as the broker, the demo can remove the broker's keys, too.
            settings = settings.model_copy(update={"broker_url": None})
        services = connect(settings)
        identity.make(services.sessions, services.archive)
        # The built-in server closes the connection after an error reply, such as NOSCRIPT.
        services.sessions.load_scripts()
        try:
            if console:
                _show(services, played, folder / "worker.log")
            else:
                _play(services, played, folder / "worker.log")
                say("\nSee it in a browser: torpor demo --console")
        finally:
            _remove_keys(services)
        _say_where(settings.archive_url, folder if archive_url is None else None, keep=keep)


def _say_where(archive_url: str, folder: Path | None, *, keep: bool) -> None:
    """Say where the transcripts are, or that they are gone with the folder."""
    if folder and not keep:
        say("\nThe transcripts are removed now; --keep leaves them.")
        return
    say(f"\nThe transcripts are in {archive_url}")
    if folder:
        say(f"  zcat {folder}/archive/v1/*/*/*/*.jsonl.gz | head -1")


@contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    """A new folder for its owner alone, whose name is the demo's namespace; removed at the end, unless `keep`."""
    folder = Path(tempfile.mkdtemp(prefix="torpor-demo-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder)


def _show(services: Services, played: list[Conversation], log: Path) -> None:
    """Serve the pages while the sessions fall asleep, wake up and fall asleep again, until Ctrl-C."""
    with demo_processes.console(services.settings) as (address, pages):
        say(f"See it in a browser: {address}\n")
        _play(services, played, log)
        say(f"\nThe sessions fall asleep again. Look at them, and end the demo with Ctrl-C: {address}")
        with demo_processes.worker(services.settings, log.with_name("second-worker.log")):
            pages.wait()


def _play(services: Services, played: list[Conversation], log: Path) -> None:
    messages = sum(len(conversation.messages) for conversation in played)
    say(
        f"{len(played):,} conversations, {messages:,} messages. A session is due after {IDLE_SECONDS} s without "
        "activity;\na real Celery worker with beat sweeps every second. Starting it ..."
    )
    with demo_processes.worker(services.settings, log) as worker, _Board(len(played)) as board:
        for written, conversation in enumerate(played, start=1):
            _write(services, conversation)
            board.show(services, written)
        _await_archived(services, worker, board, len(played), log)
    left = status.overview(services)
    if left.live or left.quarantined:
        raise DemoFailed(f"of {len(played):,} sessions {left.live:,} are in Redis, {left.quarantined:,} in quarantine")
    say(f"\n{len(played):,} sessions archived, {left.live:,} left in Redis.\n")
    _wake(services, played)


def _write(services: Services, conversation: Conversation) -> None:
    chat = _history(services, conversation)
    for turn in _turns(conversation.messages):
        chat.add_messages(turn)


def _turns(messages: Iterable[BaseMessage]) -> Iterator[list[BaseMessage]]:
    """The messages in turns: each begins with a person's message."""
    turn: list[BaseMessage] = []
    for message in messages:
        if turn and isinstance(message, HumanMessage):
            yield turn
            turn = []
        turn.append(message)
    if turn:
        yield turn


def _await_archived(services: Services, worker: subprocess.Popen[bytes], board: _Board, total: int, log: Path) -> None:
    left, since = total + 1, time.monotonic()
    while now := board.show(services, total, at_once=True):
        if now < left:
            left, since = now, time.monotonic()
        if worker.poll() is not None or time.monotonic() - since > PATIENCE_SECONDS:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise DemoFailed(f"the worker got no further than {left:,} sessions left of {total:,}; its log:\n{tail}")
        time.sleep(0.2)  # between two looks at the same counts


def _wake(services: Services, played: list[Conversation]) -> None:
    """Wake every session up; show the archive and the result of the first one."""
    first = played[0]
    say(f"The user of {first.session_id} comes back. In the archive:")
    for segment in look(services.archive, first.session_id).segments:
        say(f"  {segment.stored.name}  {segment.stored.size:,} bytes")
    say(f"restored: {_restore(services, first):,} messages, equal to what was written.\n")
    with progress(len(played)) as bars:
        for conversation in bars.track(played, description="restoring"):
            _restore(services, conversation)
    say(f"All {len(played):,} sessions restored, each equal to what was written.")


def _restore(services: Services, conversation: Conversation) -> int:
    """Wake a session up and compare it with what was written; returns how many messages came from the archive."""
    restored = restore_session(services, conversation.session_id)
    if _history(services, conversation).messages != conversation.messages:
        raise DemoFailed(f"session {conversation.session_id!r} differs from what was written")
    return restored.messages


def _history(services: Services, conversation: Conversation) -> MemorystoreChatMessageHistory:
    settings = services.settings
    return MemorystoreChatMessageHistory(
        services.sessions.client,
        conversation.session_id,
        IDLE_SECONDS,
        namespace=settings.namespace,
        shards=settings.shards,
    )


def _remove_keys(services: Services) -> None:
    """Delete the demo's keys, which have their own namespace."""
    client = services.sessions.client
    namespace = services.settings.namespace
    try:
        for pattern in (f"{namespace}:*", f"{{{namespace}:*"):
            for key in client.scan_iter(pattern, count=1000):
                client.unlink(key)
    except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException) as exc:
        say(f"Keys of {namespace} may be left in Redis: {exc}")
