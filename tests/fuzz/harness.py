"""What every case goes through: all that reads a session or an archive, with a sound session beside the bad one."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from fuzz import buckets, commands
from fuzz.documents import DOCUMENTS, FINISHED, OPEN, set_up
from fuzz.elements import ELEMENTS
from fuzz.objects import OBJECTS
from support.emulator import new_bucket
from support.foreign import LAYOUTS
from support.transcripts import read_transcript
from support.waiting import scaled
from torpor import MemorystoreChatMessageHistory
from torpor.history.adapters.items import decode_item
from torpor.history.protocol import Layout, SessionStore, TorporError
from torpor.worker.archive import contents, names
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.cli import printing
from torpor.worker.deployment import catalog
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders, receipts
from torpor.worker.erasure.order import Order
from torpor.worker.erasure.purge import carry_out
from torpor.worker.erasure.survey import survey
from torpor.worker.ops.catching_up import survey as survey_archive
from torpor.worker.ops.doctor import examine
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.transfer import json_lines
from torpor.worker.transfer.give_back import give_back
from torpor.worker.transfer.speech import speeches
from torpor.worker.wake.read import open_transcript
from torpor.worker.wake.restore import restore_session

KINDS = [
    f"{what}: {name}"
    for what, names_ in (("object", OBJECTS), ("element", ELEMENTS), ("document", DOCUMENTS))
    for name in names_
]
SAID = [b'{"type":"human","data":{"type":"human","content":"message %d"}}' % number for number in range(5)]
_NOWHERE = Path(os.devnull)
MIB = 1024 * 1024
# What any job may add to the memory, and how many copies of a message that it reads besides.
BOUND = 16 * MIB
COPIES = 5
LARGEST_MESSAGE = {"object: lengths": 3_000_000, "element: sizes": 1_000_000}
SECONDS = 10.0
ASKED = 5  # commands in each case
BAD, SOUND = "bad", "healthy"
FOLDER, BUCKET = STORES = "folder", "bucket"
# These steps go on, whatever one object is.
MAY_NOT_END = ("doctor", "expire", "idle", "everything", "survey", "sweep", "the next purge", "the next session")


class Wrong(AssertionError):
    """A case has harmed something."""


class Harness:
    """A deployment of one shard, with an archive in a folder, or for some cases in buckets of the emulator."""

    def __init__(self, client: Any, services: Services, emulator: str | None) -> None:
        self._client = client
        self._folder = self.services = services
        self._root = Path(services.archive.url.removeprefix("file://"))
        self._emulator = emulator
        self._pool = ThreadPoolExecutor(1)
        self.slowest = 0.0
        self.largest = 0

    def run(self, kind: str, rng: Random, store: str = FOLDER) -> None:
        """Make a case, let everything read it, and check that nothing is harmed; raises Wrong."""
        self._prepare()
        what, _, name = kind.partition(": ")
        if what == "object":
            [path] = (self._root / names.session_prefix(BAD)).rglob("*.jsonl.gz")
            OBJECTS[name](rng, path)
        elif what == "document":
            set_up(self.services, SAID)
            DOCUMENTS[name](rng, self._root)
        if store == BUCKET:
            self._move_to_bucket()
        if what == "element":
            self._write(ELEMENTS[name](rng), rng)
        asked = rng.sample(commands.COMMANDS, ASKED)
        steps = self._document_steps(name, asked) if what == "document" else self._steps()
        for step, act in steps.items():
            self._measured(f"{kind}, {step}", act)

    def warm_up(self, store: str) -> None:
        """Import what the steps need, so that it does not count as theirs."""
        self._prepare()
        set_up(self.services, SAID)
        if store == BUCKET:
            self._move_to_bucket()
        for act in {**self._document_steps("", commands.COMMANDS), **self._steps()}.values():
            with contextlib.suppress(TorporError):
                act()

    def _prepare(self) -> None:
        self._client.flushall()
        shutil.rmtree(self._root, ignore_errors=True)
        self.services = self._folder
        self.services.archive.__init__(self._root)  # type: ignore[misc] # it knew the folder that is gone
        for session_id in (SOUND, BAD):
            self.services.sessions.append(session_id, SAID)
            archive_session(self.services, session_id)

    def _move_to_bucket(self) -> None:
        """Go on with a bucket that has what the folder has."""
        assert self._emulator is not None, "the harness has no emulator"
        bucket = new_bucket(self._emulator)
        buckets.copy(self._root, bucket)
        settings = self.services.settings.model_copy(update={"archive_url": f"gs://{bucket}/chats"})
        self.services = Services(settings, self.services.sessions, open_archive(settings.archive_url))
        recorded = self.services.sessions.identity()
        if recorded.deployment is not None:
            self.services.sessions.identify(recorded, recorded.deployment, settings.archive_url)

    def _write(self, element: bytes, rng: Random) -> None:
        """Put an element into a session in Redis, and into a list of each other library."""
        restore_session(self.services, BAD)
        [key] = self._client.keys(f"*:m:{BAD}")
        self._client.rpush(key, element)
        for layout in LAYOUTS.values():
            self._client.rpush(layout.key("foreign"), SAID[0], element, SAID[1])

    def _steps(self) -> dict[str, Callable[[], object]]:
        services = self.services
        steps: dict[str, Callable[[], object]] = {
            "doctor": lambda: [*examine(services)],
            "show": self._show,
            "export": self._export,
            "expire": lambda: services.archive.expire(datetime(2000, 1, 1, tzinfo=UTC)),
            "purge, idle": lambda: [*catalog.idle(services, datetime.now(UTC) + timedelta(days=1))],
            "purge, looks": lambda: survey(services, self._pool, [BAD, SOUND], Order.of(session=BAD)),
            "everything": lambda: [*catalog.everything(services, lambda *_: None)],
            "restore": lambda: restore_session(services, BAD),
            "read": lambda: MemorystoreChatMessageHistory(self._client, BAD).messages,
            "items": lambda: [decode_item(each) for each in services.sessions.messages(BAD)],
            "return": lambda: give_back(services, BAD, Layout("returned:")),
            "archive": lambda: archive_session(services, BAD),
        }
        for name, layout in LAYOUTS.items():
            steps[f"adoptable, {name}"] = partial(services.sessions.adoptable, "foreign", layout)
            steps[f"adopt, {name}"] = partial(services.sessions.adopt, "foreign", layout)
        return {**steps, "the next session": self._check_sound}

    def _document_steps(self, name: str, asked: Sequence[str]) -> dict[str, Callable[[], object]]:
        """Commands, a sweep of the purges, and a recovery of a lost Redis; then what is sound is as it was."""
        return {
            **{each: partial(commands.run, self.services, each) for each in asked},
            "survey": lambda: survey_archive(self.services),
            "sweep": self._sweep,
            "the next purge": self._check_purges,
            "the next receipt": lambda: self._check_listed(is_refused=name == "identities"),
            "the next session": self._check_sound,
            "Redis is lost": self._client.flushall,
            **{each: partial(commands.run, self.services, each) for each in commands.RECOVERY},
            "the next session after a recovery": self._check_sound,
        }

    def _sweep(self) -> None:
        """As the tasks do it: a purge that fails is left to the next sweep."""
        for purge in orders.open_orders(self.services):
            with contextlib.suppress(TorporError):
                carry_out(self.services, purge)

    def _check_purges(self) -> None:
        """Sound orders are carried out, and sound receipts are listed."""
        listed = {each.id for each in receipts.receipts(self.services, lambda _: None)}
        if not {FINISHED[1], OPEN[1]} <= listed:
            raise Wrong("the next purge is harmed")
        if contents.look(self.services.archive, OPEN[1]).segments:
            raise Wrong("the next purge has removed nothing")

    def _check_listed(self, *, is_refused: bool) -> None:
        if commands.run(self.services, "receipts") and not is_refused:
            raise Wrong("the receipts can't be listed")

    def _show(self) -> None:
        with (
            _NOWHERE.open("w") as out,
            contextlib.redirect_stdout(out),
            open_transcript(self.services, BAD) as transcript,
        ):
            printing.print_transcript(speeches(transcript.elements, []))

    def _export(self) -> None:
        with open_transcript(self.services, BAD) as transcript, _NOWHERE.open("wb") as out:
            out.writelines(json_lines.export_line(BAD, transcript.elements, transcript.owner))

    def _check_sound(self) -> None:
        if read_transcript(self.services, SOUND) != SAID or restore_session(self.services, SOUND).messages != len(SAID):
            raise Wrong("the next session is harmed")

    def _measured(self, what: str, act: Callable[[], object]) -> None:
        before, began = _peak_from_now(), time.monotonic()
        try:
            act()
        except Wrong:
            raise
        except TorporError as error:
            if what.endswith(MAY_NOT_END):
                raise Wrong(f"{what} ends with {type(error).__name__}: {error}") from error
        except Exception as error:
            raise Wrong(f"{what} crashes with {type(error).__name__}: {str(error)[:300]}") from error
        seconds, added = time.monotonic() - began, _memory("VmHWM") - before
        self.slowest, self.largest = max(self.slowest, seconds), max(self.largest, added)
        if seconds > scaled(SECONDS):
            raise Wrong(f"{what} takes {seconds:.1f} s")
        if added > BOUND + COPIES * LARGEST_MESSAGE.get(what.partition(",")[0], 0):
            raise Wrong(f"{what} adds {added / MIB:.1f} MiB")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the log, which names each case."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def harness(client: Any, root: Path, settings: dict[str, Any], emulator: str | None = None) -> Harness:
    """A harness over an empty Redis, a folder, and the emulator of buckets if its URL is given."""
    from torpor.worker.archive.stores.folder import FolderStore
    from torpor.worker.deployment.settings import Settings

    made = Settings(**settings, archive_url=root.as_uri(), lease_seconds=30, shards=1)
    return Harness(client, Services(made, SessionStore(client, shards=1), FolderStore(root)), emulator)


def _peak_from_now() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(what: str) -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1]) * 1024
