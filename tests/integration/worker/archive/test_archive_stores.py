"""The contract of ArchiveStore: the same tests for a folder and for a bucket."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import pickle
import random
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import google_crc32c
import pytest
import requests
from google.cloud import storage

from support.ports import free_port
from support.storage_proxy import Exchange, Fault, Reply, StorageProxy, answered
from torpor.worker.archive import contents, names
from torpor.worker.archive.names import SegmentName
from torpor.worker.archive.stores import ArchiveStore, StoredObject, disk
from torpor.worker.archive.stores import objects as objects_module
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.errors import ArchiveConflict, ArchiveCorrupt, ArchiveRefused, ArchiveUnavailable, ObjectNotFound

MIB = 1024 * 1024
NAME = "v1/ab/s/7/0-1-0123abcd.jsonl.gz"
DESCRIBED = {"session": "Wie geht's? 😀", "epoch": "7"}
MOMENT = datetime(2030, 1, 2, 3, 4, 5, 678000, UTC)


def put(
    archive: ArchiveStore,
    name: str,
    content: bytes,
    metadata: dict[str, str] | None = None,
    at: datetime | None = None,
    **options: bool,
) -> StoredObject:
    return archive.put(name, io.BytesIO(content), len(content), metadata=metadata or {}, custom_time=at, **options)


def content(archive: ArchiveStore, stored: StoredObject) -> bytes:
    with archive.open(stored) as body:
        return body.read()


def object_names(archive: ArchiveStore, prefix: str = "v1/") -> list[str]:
    return [stored.name for stored in archive.list(prefix)]


def folder_of(archive: ArchiveStore) -> Path:
    return Path(urlsplit(archive.url).path)


def custom_time(archive: ArchiveStore, name: str) -> datetime | None:
    """An object's custom time as something else than Torpor reads it."""
    if archive.url.startswith("gs://"):
        bucket, _, prefix = archive.url.removeprefix("gs://").partition("/")
        blob = storage.Client().bucket(bucket).get_blob(f"{prefix}/{name}")
        moment: datetime | None = blob.custom_time
        return moment
    described = json.loads(next(folder_of(archive).glob(f"{name}*.meta.json")).read_text())
    return described["custom_time"] and datetime.fromisoformat(described["custom_time"])


def random_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_what_was_put_is_listed_and_read(archive: ArchiveStore) -> None:
    stored = put(archive, NAME, b"hello", DESCRIBED)
    assert (stored.name, stored.size, stored.metadata) == (NAME, 5, DESCRIBED)
    assert list(archive.list("v1/")) == [stored]
    assert content(archive, stored) == b"hello"


def test_an_object_of_no_bytes_is_an_object(archive: ArchiveStore) -> None:
    stored = put(archive, "v1/ab/s/7/floor", b"")
    assert [(each.name, each.size, each.metadata) for each in archive.list("v1/")] == [(stored.name, 0, {})]
    assert content(archive, stored) == b""


def test_the_body_is_read_from_its_start_wherever_it_stands(archive: ArchiveStore) -> None:
    body = io.BytesIO(b"hello")
    body.seek(3)
    assert content(archive, archive.put(NAME, body, 5, metadata={})) == b"hello"


def test_the_same_content_again_is_success_and_changes_nothing(archive: ArchiveStore) -> None:
    first = put(archive, NAME, b"hello", {"writer": "one"}, MOMENT)
    again = put(archive, NAME, b"hello", {"writer": "two"})
    assert again == first
    assert list(archive.list("v1/")) == [first]
    assert custom_time(archive, NAME) == MOMENT


@pytest.mark.parametrize("other", [b"", b"hellO", b"hell", b"hello!", b"x" * MIB])
def test_other_content_under_the_same_name_is_refused_and_changes_nothing(archive: ArchiveStore, other: bytes) -> None:
    first = put(archive, NAME, b"hello", {"writer": "one"}, MOMENT)
    with pytest.raises(ArchiveConflict, match=re.escape(f"{archive.url}/{NAME} exists with other content")):
        put(archive, NAME, other, {"writer": "two"})
    assert list(archive.list("v1/")) == [first]
    assert content(archive, first) == b"hello"
    assert custom_time(archive, NAME) == MOMENT


def test_custom_time_is_kept_where_it_is_given(archive: ArchiveStore) -> None:
    assert put(archive, "v1/a", b"a", at=MOMENT).custom_time == MOMENT
    assert put(archive, "v1/b", b"b").custom_time is None
    assert put(archive, "v1/c", b"c" * 9 * MIB, at=MOMENT).custom_time == MOMENT  # a resumable upload
    assert [custom_time(archive, f"v1/{name}") for name in "abc"] == [MOMENT, None, MOMENT]
    assert [stored.custom_time for stored in archive.list("v1/")] == [MOMENT, None, MOMENT]


def test_an_object_tells_when_it_was_created_and_that_nothing_keeps_it(archive: ArchiveStore) -> None:
    before = datetime.now(UTC)
    stored = put(archive, NAME, b"hello")
    assert stored.created
    assert before - timedelta(seconds=1) < stored.created < datetime.now(UTC) + timedelta(seconds=1)
    assert (stored.held, stored.retained_until, stored.current) == (False, None, True)


def test_objects_are_listed_by_prefix_in_the_order_of_their_names(archive: ArchiveStore) -> None:
    assert list(archive.list("")) == []
    put_names = ["v1/a/b", "v1/a/b-c", "v1/a/b/c", "v1/ab", "v1/a.b", "v1/a/B", "v1/b/1/floor", "v1/b/10/floor", "v2/a"]
    files = [name for name in put_names if name != "v1/a/b"]  # a file can't be a folder too
    for name in random.Random(3).sample(files, len(files)):
        put(archive, name, name.encode())
    assert object_names(archive) == sorted(name for name in files if name.startswith("v1/"))
    assert object_names(archive, "v1/a/") == ["v1/a/B", "v1/a/b-c", "v1/a/b/c"]
    assert object_names(archive, "v1/a/b") == ["v1/a/b-c", "v1/a/b/c"]
    assert object_names(archive, "v1/b/1/") == ["v1/b/1/floor"]
    assert object_names(archive, "v1/c/") == []
    assert object_names(archive, "v1/b/10") == ["v1/b/10/floor"]
    assert object_names(archive, "v") == sorted(files)
    assert object_names(archive, "") == sorted(files)


def test_a_later_object_has_a_greater_generation(archive: ArchiveStore) -> None:
    first = put(archive, "v1/b", b"b" * 3 * MIB)
    second = put(archive, "v1/a", b"a" * 3 * MIB)
    assert second.generation > first.generation
    assert [stored.generation for stored in archive.list("v1/")] == [second.generation, first.generation]


@pytest.mark.parametrize("size", [MIB - 1, 4 * MIB, 4 * MIB + 1, 9 * MIB + 7], ids=lambda size: f"{size:,}")
def test_an_object_is_read_as_a_stream_of_any_size(archive: ArchiveStore, size: int) -> None:
    data = random_bytes(size)
    stored = put(archive, NAME, data)  # above 8 MiB it is a resumable upload
    assert stored.size == size
    with archive.open(stored) as body:
        parts = [body.read(10), body.read(MIB)]
        while part := body.read(300_000):
            parts.append(part)
    assert b"".join(parts) == data


@pytest.mark.parametrize("size", [100, 5 * MIB])
def test_a_stream_may_be_left_before_its_end(archive: ArchiveStore, size: int) -> None:
    data = random_bytes(size)
    stored = put(archive, NAME, data)
    for _ in range(2):
        with archive.open(stored) as body:
            assert body.read(50) == data[:50]


@pytest.mark.parametrize("size", [100, 5 * MIB])
def test_an_object_that_was_deleted_is_not_found(archive: ArchiveStore, size: int) -> None:
    stored = put(archive, NAME, random_bytes(size))
    assert archive.delete(stored) is True
    assert archive.delete(stored) is False
    assert object_names(archive) == []
    with pytest.raises(ObjectNotFound, match=re.escape(NAME)):
        content(archive, stored)


def test_what_never_was_is_not_found(archive: ArchiveStore) -> None:
    assert archive.delete(StoredObject("v1/nobody/is/here", 5, 1)) is False
    assert object_names(archive) == []
    with pytest.raises(ObjectNotFound):
        content(archive, StoredObject(NAME, 5, 1))


def test_a_name_can_be_used_again_after_it_was_deleted(archive: ArchiveStore) -> None:
    archive.delete(put(archive, NAME, b"one", {"writer": "one"}))
    stored = put(archive, NAME, b"two", {"writer": "two"})
    assert list(archive.list("v1/")) == [stored]
    assert (content(archive, stored), stored.metadata) == (b"two", {"writer": "two"})


STRANGE = [
    "a/b",
    ".",
    "..",
    ".tmp",
    "x.tmp",
    "x",
    "x.meta.json",
    "😀",
    "a\nb",
    "a%2Fb",
    "*",
    "?#[]",
    "x" * 1024,
    "~",
    "CON",
]


def test_every_name_of_the_layout_can_be_stored(archive: ArchiveStore) -> None:
    segment = SegmentName(2**53, 0, 10**9, "0123abcd")
    every = [names.segment_name(session, segment) for session in STRANGE]
    every += [names.floor_name(session, 7) for session in STRANGE]
    every += [names.owner_marker(owner, session, 1) for owner in ("ann", "..", "x" * 1024) for session in STRANGE]
    for name in every:
        put(archive, name, name.encode() if name.endswith(".gz") else b"", {"written": name})
    assert object_names(archive) == sorted(every)
    for stored in archive.list("v1/"):
        assert stored.metadata == {"written": stored.name}
        assert content(archive, stored) == (stored.name.encode() if stored.name.endswith(".gz") else b"")
    assert all(archive.delete(stored) for stored in archive.list("v1/"))
    assert object_names(archive) == []


def test_the_same_transcript_that_another_zlib_packed_is_success_and_changes_nothing(archive: ArchiveStore) -> None:
    transcript = b"the same words again and again\n" * 99
    one, another = (gzip.compress(transcript, level, mtime=0) for level in (1, 9))
    told = {"sha256": hashlib.sha256(transcript).hexdigest()}
    first = put(archive, NAME, one, told)
    assert put(archive, NAME, another, told) == first
    other = gzip.compress(transcript + b"!")
    for conflicting in (another, other, another[:-1]):
        with pytest.raises(ArchiveConflict):
            put(archive, NAME, conflicting, {"sha256": hashlib.sha256(conflicting).hexdigest()})
    assert content(archive, first) == one


def at_once(archive: ArchiveStore, contents: Sequence[bytes]) -> list[StoredObject | Exception]:
    def attempt(data: bytes) -> StoredObject | Exception:
        try:
            return put(archive, NAME, data)
        except ArchiveConflict as exc:
            return exc

    with ThreadPoolExecutor(len(contents)) as pool:
        return list(pool.map(attempt, contents))


def test_many_that_put_the_same_object_at_once_all_succeed(archive: ArchiveStore) -> None:
    results = at_once(archive, [b"hello" * 10_000] * 12)
    [stored] = archive.list("v1/")
    assert results == [stored] * 12
    assert content(archive, stored) == b"hello" * 10_000


def test_of_many_that_put_other_content_at_once_one_succeeds(archive: ArchiveStore) -> None:
    contents = [b"%d" % number * 10_000 for number in range(8)]
    results = at_once(archive, contents)
    [winner] = [number for number, result in enumerate(results) if isinstance(result, StoredObject)]
    [stored] = archive.list("v1/")
    assert content(archive, stored) == contents[winner]


def test_a_store_that_can_be_used_passes_its_check(archive: ArchiveStore) -> None:
    archive.check()
    put(archive, NAME, b"hello")
    archive.check()
    assert object_names(archive) == [NAME]


def uses(archive: ArchiveStore) -> list[str]:
    """What each operation says of a store that can't be used."""
    said = []
    for operation in (
        archive.check,
        lambda: put(archive, NAME, b"hello"),
        lambda: put(archive, NAME, b"x" * 9 * MIB),
        lambda: object_names(archive),
        lambda: object_names(archive, "v1/ab/s/"),
    ):
        with pytest.raises(ArchiveUnavailable) as caught:
            operation()
        said.append(str(caught.value))
    return said


def test_a_missing_bucket_is_unavailable_and_named(emulator: str) -> None:
    for said in uses(open_archive("gs://no-such-bucket-here/chats")):
        assert said == "bucket 'no-such-bucket-here' does not exist; create it first"


def test_a_bucket_that_can_not_be_reached_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(objects_module, "_RETRY", objects_module._RETRY.with_timeout(0.2))
    archive = open_archive("gs://some-bucket/chats")
    for said in uses(archive):
        assert said.startswith("gs://some-bucket/chats can't be reached")
    gone = StoredObject(NAME, 5, 1)
    for failing in (lambda: archive.delete(gone), lambda: content(archive, gone)):
        with pytest.raises(ArchiveUnavailable, match="can't be reached"):
            failing()


def test_buckets_prefixes_are_apart(bucket: str) -> None:
    one, other, whole = (open_archive(f"gs://{bucket}{prefix}") for prefix in ("/a", "/ab", ""))
    put(one, NAME, b"one")
    put(other, NAME, b"other")
    assert [content(each, stored) for each in (one, other) for stored in each.list("v1/")] == [b"one", b"other"]
    assert object_names(whole, "") == [f"a/{NAME}", f"ab/{NAME}"]
    assert [store.url for store in (one, whole)] == [f"gs://{bucket}/a", f"gs://{bucket}"]


@pytest.mark.parametrize("blocked", ["archive", "archive/v1", "archive/v1/ab/s", "archive/v1/ab/s/7"])
def test_a_file_where_a_folder_should_be_is_unavailable_for_writing(tmp_path: Path, blocked: str) -> None:
    (tmp_path / blocked).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / blocked).write_text("in the way")
    archive = open_archive((tmp_path / "archive").as_uri())
    with pytest.raises(ArchiveUnavailable, match="can't be used"):
        put(archive, NAME, b"hello")
    assert (tmp_path / blocked).read_text() == "in the way"
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_file_where_the_archive_should_be_is_no_empty_archive(tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("in the way")
    for said in uses(open_archive((tmp_path / "archive").as_uri())):
        assert "can't be used" in said


def test_a_put_that_fails_leaves_no_object_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().read(10)

    archive = open_archive(tmp_path.as_uri())
    with pytest.raises(ArchiveUnavailable):
        archive.put(NAME, Broken(b"x" * 100), 100, metadata={})
    assert object_names(archive) == []

    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ArchiveUnavailable, match="No space left"):
        put(archive, NAME, b"hello")
    assert object_names(archive) == []
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.undo()
    assert content(archive, put(archive, NAME, b"hello")) == b"hello"


def test_an_object_appears_under_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    archive = open_archive(tmp_path.as_uri())
    seen: list[list[str]] = []

    class Watching(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            seen.append(object_names(archive))
            return super().read(size)

    stored = archive.put(NAME, Watching(b"hello"), 5, metadata={})
    assert seen[:2] == [[], []]  # its content and its end
    assert object_names(archive) == [stored.name]


def test_deleting_the_last_object_leaves_no_folder_behind(tmp_path: Path) -> None:
    archive = open_archive((tmp_path / "archive").as_uri())
    one, other = put(archive, NAME, b"hello", DESCRIBED), put(archive, "v1/ab/t/7/floor", b"")
    archive.delete(one)
    assert [path.name for path in (tmp_path / "archive" / "v1" / "ab").iterdir()] == ["t"]
    archive.delete(other)
    assert [path.name for path in (tmp_path / "archive").iterdir()] == ["tmp"]
    assert list((tmp_path / "archive" / "tmp").iterdir()) == []


def test_an_object_whose_metadata_can_not_be_read_is_reported(tmp_path: Path) -> None:
    archive = open_archive(tmp_path.as_uri())
    put(archive, NAME, b"hello", DESCRIBED)
    [described] = tmp_path.rglob("*.meta.json")
    described.write_text('{"metadata": {"sess')
    with pytest.raises(ArchiveCorrupt, match=re.escape(NAME)):
        object_names(archive)


# Custom times, holds and generations


LATER = MOMENT + timedelta(days=1)
EARLIER = MOMENT - timedelta(days=1)


@pytest.mark.parametrize("there", [None, MOMENT])
def test_a_custom_time_is_moved_to_a_later_moment_only(archive: ArchiveStore, there: datetime | None) -> None:
    stored = put(archive, NAME, b"hello", DESCRIBED, at=there)
    archive.amend(stored)
    assert custom_time(archive, NAME) == there
    for moment in (MOMENT, LATER, LATER, EARLIER):
        archive.amend(stored, custom_time=moment)
    [amended] = archive.list("v1/")
    assert (amended.custom_time, amended.metadata) == (LATER, DESCRIBED)
    assert amended.generation == stored.generation
    assert content(archive, stored) == b"hello"
    archive.amend(amended, custom_time=MOMENT)
    assert custom_time(archive, NAME) == LATER


def test_what_is_put_again_is_amended_and_its_content_and_metadata_stay(archive: ArchiveStore) -> None:
    first = put(archive, NAME, b"hello", {"writer": "one"}, MOMENT)
    for moment, expected in ((EARLIER, MOMENT), (LATER, LATER), (MOMENT, LATER), (None, LATER)):
        again = put(archive, NAME, b"hello", {"writer": "two"}, moment)
        assert again.custom_time == custom_time(archive, NAME) == expected
        assert (again.generation, again.metadata) == (first.generation, first.metadata)


def test_what_does_not_exist_can_not_be_amended(archive: ArchiveStore) -> None:
    with pytest.raises(ObjectNotFound, match=re.escape(NAME)):
        archive.amend(StoredObject(NAME, 5, 1), held=True)
    stored = put(archive, NAME, b"hello")
    archive.delete(stored)
    for change in ({"custom_time": MOMENT}, {"held": True}, {"held": False}):
        with pytest.raises(ObjectNotFound, match=re.escape(NAME)):
            archive.amend(stored, **change)
    assert list(archive.list("", generations=True)) == []


def test_every_current_object_is_a_generation(archive: ArchiveStore) -> None:
    stored = put(archive, NAME, b"hello", at=MOMENT)
    assert list(archive.list("v1/", generations=True)) == [stored]


def test_a_refusal_tells_a_task_s_caller_until_when() -> None:
    refused = pickle.loads(pickle.dumps(ArchiveRefused("no", until=MOMENT, held=True)))
    assert (str(refused), refused.until, refused.held) == ("no", MOMENT, True)


# A folder's holds and expiry


@pytest.fixture
def folder(scratch: Path) -> ArchiveStore:
    return open_archive((scratch / "archive").as_uri())


def test_a_held_object_of_a_folder_can_not_be_deleted_until_it_is_released(folder: ArchiveStore) -> None:
    stored = put(folder, NAME, b"hello", DESCRIBED, MOMENT, held=True)
    assert stored.held
    assert list(folder.list("v1/")) == [stored]
    for _ in range(2):
        folder.amend(stored, held=True)
        with pytest.raises(ArchiveRefused, match=re.escape(f"{folder.url}/{NAME} may not be deleted: it is held")) as e:
            folder.delete(stored)
        assert (e.value.held, e.value.until) == (True, None)
    assert list(folder.list("v1/")) == [stored]
    for _ in range(2):
        folder.amend(stored, held=False)
    [released] = folder.list("v1/")
    assert (released.held, released.custom_time, released.metadata) == (False, MOMENT, DESCRIBED)
    assert folder.delete(stored) is True


def test_a_hold_is_set_on_an_object_of_a_folder_that_is_there_already_and_never_released_by_a_put(
    folder: ArchiveStore,
) -> None:
    stored = put(folder, NAME, b"hello")
    assert put(folder, NAME, b"hello", held=True).held
    assert put(folder, NAME, b"hello").held
    with pytest.raises(ArchiveRefused):
        folder.delete(stored)


def test_an_object_of_a_folder_never_appears_without_its_hold(
    folder: ArchiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    link = os.link

    def watched(temporary: Path, path: Path) -> None:
        seen.extend(stored.held for stored in folder.list(""))
        link(temporary, path)
        seen.extend(stored.held for stored in folder.list(""))

    monkeypatch.setattr(os, "link", watched)
    put(folder, NAME, b"hello", held=True)
    assert seen == [True]


def test_a_put_that_finds_its_object_there_makes_sure_that_it_is_on_disk(
    folder: ArchiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, NAME, b"hello")
    synced: list[Path] = []
    monkeypatch.setattr(disk, "sync_folder", synced.append)
    put(folder, NAME, b"hello")
    assert synced == [(folder_of(folder) / NAME).parent]


def test_another_generation_of_a_folder_s_object_is_neither_deleted_nor_amended(folder: ArchiveStore) -> None:
    first = put(folder, NAME, b"hello")
    folder.delete(first)
    second = put(folder, NAME, b"hello", at=MOMENT)
    while second.generation == first.generation:  # a folder's clock moves in steps
        folder.delete(second)
        second = put(folder, NAME, b"hello", at=MOMENT)
    assert folder.delete(first) is False
    with pytest.raises(ObjectNotFound):
        folder.amend(first, held=True)
    assert list(folder.list("", generations=True)) == [second]
    assert folder.delete(second) is True


def test_what_older_versions_wrote_of_an_object_is_read(folder: ArchiveStore) -> None:
    put(folder, NAME, b"hello", DESCRIBED)
    [path] = folder_of(folder).rglob("*.meta.json")
    path.write_text(json.dumps({"metadata": DESCRIBED, "custom_time": MOMENT.isoformat()}))
    [stored] = folder.list("v1/")
    assert (stored.metadata, stored.custom_time, stored.held) == (DESCRIBED, MOMENT, False)


def test_a_folder_expires_what_has_passed_and_is_not_held(folder: ArchiveStore) -> None:
    put(folder, "v1/past", b"1", at=EARLIER)
    put(folder, "v1/now", b"2", at=MOMENT)
    put(folder, "v1/future", b"3", at=LATER)
    put(folder, "v1/forever", b"4")
    held = put(folder, "v1/held", b"5", at=EARLIER, held=True)
    assert folder.expire(EARLIER - timedelta(seconds=1)) == 0
    assert folder.expire(MOMENT) == 2
    assert folder.expire(MOMENT) == 0
    assert object_names(folder) == ["v1/forever", "v1/future", "v1/held"]
    folder.amend(held, held=False)
    assert folder.expire(MOMENT) == 1
    assert folder.expire(LATER + timedelta(days=10_000)) == 1
    assert object_names(folder) == ["v1/forever"]


def test_an_expiry_passes_over_an_object_whose_metadata_can_not_be_read(
    folder: ArchiveStore, caplog: pytest.LogCaptureFixture
) -> None:
    put(folder, "v1/a", b"1", at=EARLIER)
    put(folder, "v1/b", b"2", at=EARLIER)
    (folder_of(folder) / "v1/a=.meta.json").write_text('{"metadata": {"sess')
    assert folder.expire(MOMENT) == 1
    assert "v1/a" in caplog.text
    assert (folder_of(folder) / "v1/a").exists()


def test_an_object_whose_retention_grows_while_a_folder_expires_it_stays(
    folder: ArchiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = put(folder, NAME, b"hello", at=EARLIER)
    locked = disk.locked

    def amended_first(path: Path) -> Any:
        monkeypatch.undo()
        folder.amend(stored, custom_time=LATER)
        return locked(path)

    monkeypatch.setattr(disk, "locked", amended_first)
    assert folder.expire(MOMENT) == 0
    assert object_names(folder) == [NAME]


def test_a_bucket_leaves_the_expiry_to_its_lifecycle_rule(bucket: str) -> None:
    archive = open_archive(f"gs://{bucket}/chats")
    put(archive, NAME, b"hello", at=EARLIER)
    assert archive.expire(datetime(9999, 1, 1, tzinfo=UTC)) == 0
    assert object_names(archive) == [NAME]


def test_a_folder_has_no_safeguards_and_no_lifecycle(folder: ArchiveStore) -> None:
    assert folder.safeguards() is None
    assert folder.apply_lifecycle() is False


def test_amendments_of_a_folder_s_object_at_the_same_time_all_count(folder: ArchiveStore) -> None:
    stored = put(folder, NAME, b"hello")
    changes: list[dict[str, Any]] = [{"custom_time": MOMENT + timedelta(days=days)} for days in range(20)]
    changes.insert(10, {"held": True})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda change: folder.amend(stored, **change), changes))
    [amended] = folder.list("v1/")
    assert (amended.held, amended.custom_time) == (True, MOMENT + timedelta(days=19))


def test_puts_and_deletions_of_one_name_at_the_same_time_leave_whole_objects(folder: ArchiveStore) -> None:
    def put_and_delete(number: int) -> bool:
        name = NAME if number % 2 else NAME.replace("/7/", "/8/")
        stored = put(folder, name, b"hello", DESCRIBED)
        assert stored.metadata == DESCRIBED
        assert all(each.metadata == DESCRIBED for each in folder.list("v1/"))
        return folder.delete(stored)

    with ThreadPoolExecutor(8) as pool:
        deleted = Counter(pool.map(put_and_delete, range(400)))
    assert deleted[True] > 0
    assert not (folder_of(folder) / "v1").exists()


def test_a_folder_is_listed_one_folder_at_a_time(folder: ArchiveStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        put(folder, f"v1/{number}/a/x", b"")
    read: list[str] = []
    scandir = os.scandir

    def watched(path: Path) -> Any:
        read.append(path.name)
        return scandir(path)

    listed = folder.list("v1/")
    with monkeypatch.context() as watching:
        watching.setattr(os, "scandir", watched)
        assert next(listed).name == "v1/0/a/x"
        assert read == ["v1", "0", "a"]
        assert next(listed).name == "v1/1/a/x"
        assert read == ["v1", "0", "a", "1", "a"]


def test_files_and_folders_that_vanish_while_a_folder_is_listed_are_passed_over(folder: ArchiveStore) -> None:
    stored = [put(folder, f"v1/{number}/a/{letter}", b"") for number in range(4) for letter in "xyz"]
    listed = folder.list("v1/")
    found = [next(listed).name]
    for gone in (*stored[1:2], *stored[3:6]):  # one in the folder that is read, and all of the next one
        folder.delete(gone)
    found += [each.name for each in listed]
    assert found == [each.name for each in (stored[0], stored[2], *stored[6:])]


# What a bucket is asked for. The emulator ignores holds, preconditions, the generation that is to be deleted or
# amended, lifecycle rules, soft delete, retention, uniform access and IAM; it takes an earlier custom time. So these
# tests look at what is sent, and let a proxy give the answers of Cloud Storage.


@pytest.fixture
def store(bucket: str, proxy: StorageProxy) -> ArchiveStore:
    return open_archive(f"gs://{bucket}/chats")


@pytest.fixture
def versioned(bucket: str, emulator: str) -> str:
    """A bucket that keeps what is deleted."""
    requests.patch(f"{emulator}/storage/v1/b/{bucket}", json={"versioning": {"enabled": True}}, timeout=5)
    return bucket


def forged(**fields: Any) -> Fault:
    """What the store tells of an object or of the bucket, with other properties added."""

    def act(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        if exchange.kind != "describe" or reply.status != 200:
            return reply
        return Reply(200, reply.headers, json.dumps(json.loads(reply.body) | fields).encode())

    return act


def refused(reason: str, **fields: Any) -> Fault:
    """Deletion is forbidden, in the words of Cloud Storage."""
    body = json.dumps({"error": {"code": 403, "message": reason}}).encode()
    described = forged(**fields)

    def act(exchange: Exchange) -> Reply:
        if exchange.method == "DELETE":
            return Reply(403, {"Content-Type": "application/json"}, body)
        return described(exchange)

    return act


def described(exchange: Exchange) -> dict[str, Any]:
    """The resource that a request sends."""
    body = exchange.body
    if exchange.kind == "upload":
        body = re.split(rb"\r\n\r\n|\r\n--", body)[1]
    told: dict[str, Any] = json.loads(body)
    return told


def patches(proxy: StorageProxy) -> list[dict[str, Any]]:
    return [described(exchange) for exchange in proxy.seen if exchange.method == "PATCH"]


def query(exchange: Exchange) -> dict[str, list[str]]:
    return parse_qs(urlsplit(exchange.path).query)


@pytest.mark.parametrize("size", [5, 9 * MIB])
def test_a_hold_is_set_by_the_upload_itself(store: ArchiveStore, proxy: StorageProxy, size: int) -> None:
    put(store, NAME, b"x" * size, DESCRIBED, MOMENT, held=True)
    sent = described(proxy.seen[0])
    assert (sent["temporaryHold"], sent["metadata"]) == (True, DESCRIBED)
    assert sent["customTime"] == "2030-01-02T03:04:05.678000Z"
    proxy.heal()
    put(store, "v1/free", b"x" * size)
    assert "temporaryHold" not in described(proxy.seen[0])


@pytest.mark.parametrize("size", [5, 9 * MIB])
def test_an_upload_creates_or_fails_and_tells_its_checksum(store: ArchiveStore, proxy: StorageProxy, size: int) -> None:
    put(store, NAME, b"x" * size)
    sent, [asked] = described(proxy.seen[0]), query(proxy.seen[0])["ifGenerationMatch"]
    assert (asked, sent["name"], sent["contentType"]) == ("0", f"chats/{NAME}", "application/gzip")
    checksum = google_crc32c.Checksum(b"x" * size).digest()  # type: ignore[no-untyped-call]
    assert sent["crc32c"] == base64.b64encode(checksum).decode()
    assert put(store, NAME, b"x" * size).created  # 412, and what is there is looked at


@pytest.mark.parametrize("name", ["v1/ä/😀/x.gz", "v1/a%2Fb", 'v1/"quoted"/\\', "v1/a b+c/?#&=", "v1/" + "ß" * 400])
@pytest.mark.parametrize("content_", [b"", b"\r\n--\r\n\r\n", b"--" * 99, bytes(range(256))])
def test_names_and_content_of_every_kind_arrive_as_they_are(store: ArchiveStore, name: str, content_: bytes) -> None:
    told = {"session": name, "quoted": '"\\\r\n'}
    stored = put(store, name, content_, told)
    assert list(store.list("v1/")) == [stored]
    assert (stored.name, stored.metadata, content(store, stored)) == (name, told, content_)
    store.amend(stored, custom_time=MOMENT)
    assert [each.custom_time for each in store.list(name)] == [MOMENT]
    assert store.delete(stored)


@pytest.mark.parametrize(
    ("held", "requests_"), [(False, ["upload", "delete"]), (True, ["upload", "describe", "patch", "delete"])]
)
@pytest.mark.parametrize("field", ["crc32c", "size", "metadata"])
def test_what_is_not_stored_as_it_was_sent_is_taken_back(
    store: ArchiveStore, proxy: StorageProxy, field: str, *, held: bool, requests_: list[str]
) -> None:
    wrong = {"crc32c": "AAAAAA==", "size": "6", "metadata": {"session": "r"}}[field]

    def misunderstood(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        if exchange.kind not in ("upload", "describe"):
            return reply
        told = json.loads(reply.body) | {field: wrong, "temporaryHold": held}
        return Reply(reply.status, reply.headers, json.dumps(told).encode())

    proxy.fail(misunderstood)
    with pytest.raises(ArchiveCorrupt, match="is not what was sent"):
        put(store, NAME, b"hello", {"session": "s"}, held=held)
    assert proxy.kinds() == requests_
    proxy.heal()
    assert object_names(store) == []


def test_a_reply_that_is_of_another_object_deletes_nothing(store: ArchiveStore, proxy: StorageProxy) -> None:
    other = put(store, "v1/00/other", b"hello")

    def crossed(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        told = json.loads(reply.body)
        told |= {"name": told["name"].replace(NAME, "v1/00/other"), "generation": str(other.generation), "size": "6"}
        return Reply(reply.status, reply.headers, json.dumps(told).encode())

    proxy.fail(crossed)
    with pytest.raises(ArchiveUnavailable, match="of another object"):
        put(store, NAME, b"hello")
    assert proxy.kinds() == ["upload"]
    proxy.heal()
    assert sorted(object_names(store)) == sorted([NAME, "v1/00/other"])


def test_a_listing_asks_for_no_more_than_it_tells(store: ArchiveStore, proxy: StorageProxy) -> None:
    put(store, NAME, b"hello")
    proxy.heal()
    assert object_names(store) == [NAME]
    [asked] = query(proxy.seen[0])["fields"]
    assert asked.startswith("nextPageToken,items(name,size,generation,")


def test_a_reply_that_is_no_json_is_unavailable(store: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(lambda _: Reply(200, {"Content-Type": "text/html"}, b"<html>Log in to the network</html>"))
    for use in (lambda: put(store, NAME, b"hello"), lambda: object_names(store)):
        with pytest.raises(ArchiveUnavailable, match="no JSON"):
            use()


def test_a_proxy_of_the_environment_is_used(
    bucket: str, emulator: str, proxy: StorageProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    store = open_archive(f"gs://{bucket}/chats")
    stored = put(store, NAME, b"hello", DESCRIBED, MOMENT)
    assert list(store.list("v1/")) == [stored]
    assert content(store, stored) == b"hello"
    assert store.delete(stored)
    assert proxy.kinds() == ["upload", "list", "read", "delete"]
    proxy.fail(answered(503), times=1)
    monkeypatch.setattr(objects_module, "_RETRY", objects_module._RETRY.with_delay(initial=0.001, maximum=0.01))
    assert object_names(store) == []
    assert proxy.kinds() == ["list", "list"]


def test_a_hold_is_set_on_an_object_of_a_bucket_that_is_there_already(store: ArchiveStore, proxy: StorageProxy) -> None:
    put(store, NAME, b"hello")
    proxy.heal()
    assert put(store, NAME, b"hello", held=True).held
    assert patches(proxy) == [{"temporaryHold": True}]
    proxy.fail(forged(temporaryHold=True))
    assert put(store, NAME, b"hello", held=True).held
    assert put(store, NAME, b"hello").held
    assert patches(proxy) == []


def test_what_cloud_storage_keeps_an_object_by_is_told(store: ArchiveStore, proxy: StorageProxy) -> None:
    put(store, NAME, b"hello")

    def told(**fields: Any) -> StoredObject:
        proxy.fail(lambda exchange: listed(exchange, fields), "list")
        [stored] = store.list("v1/")
        return stored

    def listed(exchange: Exchange, fields: dict[str, Any]) -> Reply:
        reply = exchange.forward()
        found = json.loads(reply.body)
        found["items"][0] |= fields
        return Reply(200, reply.headers, json.dumps(found).encode())

    assert not told(temporaryHold=False, eventBasedHold=False).held
    assert told(temporaryHold=True).held
    assert told(eventBasedHold=True).held
    assert told(retentionExpirationTime="2030-01-02T03:04:05.678Z").retained_until == MOMENT
    retention = {"mode": "Locked", "retainUntilTime": "2030-01-02T03:04:05.678Z"}
    assert told(retention=retention).retained_until == MOMENT
    assert told(retention=retention, retentionExpirationTime="2030-01-03T03:04:05.678Z").retained_until == LATER
    assert told(retention=retention, retentionExpirationTime="2030-01-01T03:04:05.678Z").retained_until == MOMENT
    assert not told(timeDeleted="2026-01-02T03:04:05.678Z").current


def test_the_very_generation_is_deleted_and_amended(store: ArchiveStore, proxy: StorageProxy) -> None:
    stored = put(store, NAME, b"hello")
    proxy.heal()
    store.amend(stored, custom_time=MOMENT)
    store.delete(stored)
    assert [exchange.kind for exchange in proxy.seen] == ["describe", "patch", "delete"]
    assert [query(exchange)["generation"] for exchange in proxy.seen] == [[str(stored.generation)]] * 3


def test_an_earlier_custom_time_is_never_sent(store: ArchiveStore, proxy: StorageProxy) -> None:
    stored = put(store, NAME, b"hello", at=MOMENT)
    proxy.heal()
    store.amend(stored, custom_time=EARLIER)
    store.amend(stored, custom_time=MOMENT)
    assert patches(proxy) == []
    proxy.fail(forged(customTime="2031-01-01T00:00:00Z"))  # somebody else has moved it since it was listed
    store.amend(stored, custom_time=LATER)
    assert patches(proxy) == []
    store.amend(stored, custom_time=LATER, held=True)
    assert patches(proxy) == [{"temporaryHold": True}]


def test_a_hold_is_set_and_released_where_that_changes_anything(store: ArchiveStore, proxy: StorageProxy) -> None:
    stored = put(store, NAME, b"hello")
    for fields, held, sent in (
        ({}, True, [{"temporaryHold": True}]),
        ({}, False, []),
        ({"temporaryHold": True}, True, []),
        ({"temporaryHold": True}, False, [{"temporaryHold": False}]),
        ({"eventBasedHold": True}, False, []),  # it is not Torpor's to release
        ({"eventBasedHold": True}, True, [{"temporaryHold": True}]),
    ):
        proxy.fail(forged(**fields))
        store.amend(stored, held=held)
        assert patches(proxy) == sent


def conflicting(times: int) -> Fault:
    """Somebody else changes the resource before each of so many requests that would change it."""
    left = iter(range(times))
    generations = iter(range(2, 100))

    def act(exchange: Exchange) -> Reply:
        if exchange.method == "PATCH" and next(left, None) is not None:
            return answered(412)(exchange)
        return forged(metageneration=str(next(generations)) if exchange.method == "GET" else "")(exchange)

    return act


def test_an_amendment_of_what_somebody_else_amends_reads_it_again(store: ArchiveStore, proxy: StorageProxy) -> None:
    stored = put(store, NAME, b"hello")
    proxy.fail(conflicting(2))
    store.amend(stored, custom_time=MOMENT)
    assert proxy.kinds() == ["describe", "patch"] * 3
    assert [query(exchange)["ifMetagenerationMatch"] for exchange in proxy.seen[1::2]] == [["2"], ["3"], ["4"]]
    assert [amended.custom_time for amended in store.list("v1/")] == [MOMENT]
    proxy.fail(conflicting(99))
    with pytest.raises(ArchiveUnavailable, match="412"):
        store.amend(stored, custom_time=LATER)
    assert proxy.kinds() == ["describe", "patch"] * 5


def test_an_amendment_without_the_permission_is_refused(store: ArchiveStore, proxy: StorageProxy) -> None:
    stored = put(store, NAME, b"hello")
    proxy.fail(answered(403), "patch")
    with pytest.raises(ArchiveRefused, match=r"may not amend v1/ab/s/7/.*; grant storage\.objects\.update on it"):
        store.amend(stored, held=True)


UNTIL = datetime(2999, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "told", "until", "held"),
    [
        ({}, "may not be deleted: 403 DELETE", None, False),
        ({"temporaryHold": True}, "may not be deleted: a temporary hold is on it; 403", None, True),
        ({"eventBasedHold": True}, "may not be deleted: an event-based hold is on it; 403", None, True),
        (
            {"retentionExpirationTime": "2999-01-02T03:04:05Z"},
            "may not be deleted: it is retained until 2999-01-02T03:04:05+00:00; 403",
            UNTIL,
            False,
        ),
        (
            {"temporaryHold": True, "retention": {"mode": "Locked", "retainUntilTime": "2999-01-02T03:04:05Z"}},
            "a temporary hold is on it; it is retained until 2999-01-02T03:04:05+00:00; 403",
            UNTIL,
            True,
        ),
        ({"retentionExpirationTime": "2020-01-02T03:04:05Z"}, "may not be deleted: 403 DELETE", None, False),
    ],
)
def test_a_deletion_that_is_forbidden_tells_why_and_until_when(
    store: ArchiveStore,
    proxy: StorageProxy,
    fields: dict[str, Any],
    told: str,
    until: datetime | None,
    *,
    held: bool,
) -> None:
    stored = put(store, NAME, b"hello")
    proxy.fail(refused("the reason", **fields))
    with pytest.raises(ArchiveRefused, match=re.escape(told)) as caught:
        store.delete(stored)
    assert (caught.value.until, caught.value.held) == (until, held)
    assert "the reason" in str(caught.value)
    assert proxy.kinds() == ["delete", "describe"]


def test_a_refusal_that_can_not_be_looked_into_tells_what_the_listing_did(
    store: ArchiveStore, proxy: StorageProxy
) -> None:
    stored = replace(put(store, NAME, b"hello"), held=True, retained_until=UNTIL)
    proxy.fail(answered(403))
    with pytest.raises(ArchiveRefused, match="hold") as caught:
        store.delete(stored)
    assert (caught.value.until, caught.value.held) == (UNTIL, True)


def test_a_versioned_bucket_lists_every_generation_only_where_it_is_asked_to(versioned: str, emulator: str) -> None:
    archive = open_archive(f"gs://{versioned}/chats")
    first = put(archive, NAME, b"one", DESCRIBED, MOMENT)
    archive.delete(first)  # the emulator ignores the generation, so it becomes noncurrent
    second = put(archive, NAME, b"second")
    other = put(archive, "v1/b", b"other")
    assert list(archive.list("v1/")) == [second, other]
    every = list(archive.list("v1/", generations=True))
    assert sorted(every, key=lambda stored: stored.generation) == [replace(first, current=False), second, other]
    assert [stored.name for stored in every] == [NAME, NAME, "v1/b"]
    assert content(archive, every[0]) + content(archive, every[1]) in (b"onesecond", b"secondone")
    assert list(archive.list("v1/b", generations=True)) == [other]


def test_every_generation_from_before_a_floor_can_be_erased(versioned: str) -> None:
    archive = open_archive(f"gs://{versioned}/chats")

    def segment(epoch: int) -> StoredObject:
        return put(archive, names.segment_name("s", SegmentName(epoch, 0, 1, "0123abcd")), b"x")

    cleared, gone, replaced = segment(3), segment(4), segment(7)
    archive.delete(gone)
    archive.delete(replaced)
    kept = segment(7)
    put(archive, names.floor_name("s", 5), b"")
    archive.delete(put(archive, names.floor_name("s", 9), b""))  # what is not current is no floor
    found = contents.look(archive, "s", generations=True)
    assert (found.floor, [each.stored for each in found.segments]) == (5, [kept])
    assert list(found.erasable) == [cleared, replace(gone, current=False)]
    plain = contents.look(archive, "s")
    assert (plain.floor, [each.stored for each in plain.segments], list(plain.erasable)) == (5, [kept], [cleared])


# How a bucket is set up

SET_UP: dict[str, Any] = {
    "location": "EUROPE-WEST4",
    "iamConfiguration": {
        "uniformBucketLevelAccess": {"enabled": True, "lockedTime": "2026-01-01T00:00:00Z"},
        "publicAccessPrevention": "enforced",
    },
    "softDeletePolicy": {"retentionDurationSeconds": "604800", "effectiveTime": "2026-01-01T00:00:00Z"},
    "versioning": {"enabled": True},
    "retentionPolicy": {"retentionPeriod": "86400", "isLocked": True, "effectiveTime": "2026-01-01T00:00:00Z"},
    "defaultEventBasedHold": True,
    "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 3}}]},
}
RULE = {"action": {"type": "Delete"}, "condition": {"daysSinceCustomTime": 0, "matchesPrefix": ["chats/v1/"]}}


def ruled(*rules: dict[str, Any]) -> Fault:
    """A bucket with lifecycle rules."""
    return forged(lifecycle={"rule": list(rules)}, metageneration="7")


def governed(*members: str, **fields: Any) -> Fault:
    """A bucket whose IAM policy names some members, by a condition even."""
    policy = {"version": 3, "bindings": [{"role": "roles/storage.objectViewer", "members": ["user:ann@example.org"]}]}
    condition = {"title": "sometimes", "expression": "true"}
    policy["bindings"].append({"role": "roles/x", "members": list(members), "condition": condition})  # type: ignore[attr-defined]
    body = json.dumps(policy).encode()

    def act(exchange: Exchange) -> Reply:
        if urlsplit(exchange.path).path.endswith("/iam"):
            return Reply(200, {"Content-Type": "application/json"}, body)
        return forged(**fields)(exchange)

    return act


def test_how_a_bucket_is_set_up_is_told(store: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(governed(**SET_UP))
    found = store.safeguards()
    assert found
    assert (found.location, found.uniform_access, found.public_access_prevented) == ("EUROPE-WEST4", True, True)
    assert (found.public, found.soft_delete_seconds, found.versioning) == (False, 604_800, True)
    assert (found.retention_seconds, found.retention_locked, found.held_by_default) == (86_400, True, True)
    assert (found.lifecycle, found.expires) == (SET_UP["lifecycle"]["rule"], False)


def test_a_bucket_that_nothing_is_set_up_for_is_told_as_such(store: ArchiveStore) -> None:
    found = store.safeguards()
    assert found
    assert found.public is None  # the emulator has no IAM
    assert not any((found.uniform_access, found.public_access_prevented, found.versioning, found.retention_locked))
    assert not any((found.soft_delete_seconds, found.retention_seconds, found.held_by_default, found.expires))
    assert list(found.lifecycle) == []


@pytest.mark.parametrize(
    ("members", "public"),
    [(["allUsers"], True), (["user:bob@example.org", "allAuthenticatedUsers"], True), (["domain:example.org"], False)],
)
def test_a_bucket_that_lets_everybody_in_is_told(
    store: ArchiveStore,
    proxy: StorageProxy,
    members: list[str],
    public: bool,  # noqa: FBT001
) -> None:
    proxy.fail(governed(*members))
    found = store.safeguards()
    assert found
    assert found.public is public


def test_a_bucket_whose_iam_policy_may_not_be_read_is_told_without(store: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(lambda exchange: (answered(403) if "/iam" in exchange.path else Exchange.forward)(exchange))
    found = store.safeguards()
    assert found
    assert found.public is None


def test_a_bucket_whose_settings_may_not_be_read_says_what_to_grant(store: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(answered(403), "describe")
    for use in (store.safeguards, store.apply_lifecycle):
        with pytest.raises(ArchiveRefused, match=r"may not read the bucket's settings; grant storage\.buckets\.get"):
            use()


def test_the_settings_of_a_bucket_that_does_not_exist_are_unavailable(emulator: str) -> None:
    archive = open_archive("gs://no-such-bucket-here/chats")
    for use in (archive.safeguards, archive.apply_lifecycle):
        with pytest.raises(ArchiveUnavailable, match="bucket 'no-such-bucket-here' does not exist; create it first"):
            use()


OTHERS: list[dict[str, Any]] = [
    {"action": {"type": "Delete"}, "condition": {"age": 3, "matchesPrefix": ["other/"]}},
    {"action": {"type": "SetStorageClass", "storageClass": "COLDLINE"}, "condition": {"age": 30}},
    {"action": {"type": "OfAKindToCome"}, "condition": {"daysSinceCustomTime": 0}},
]


def test_the_lifecycle_rule_is_added_to_the_others(store: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(ruled(*OTHERS))
    assert store.apply_lifecycle() is True
    assert patches(proxy) == [{"lifecycle": {"rule": [*OTHERS, RULE]}}]
    assert query(proxy.seen[-1])["ifMetagenerationMatch"] == ["7"]


def test_the_lifecycle_rule_of_a_bucket_without_a_prefix_is_for_transcripts_only(
    bucket: str, proxy: StorageProxy
) -> None:
    assert open_archive(f"gs://{bucket}").apply_lifecycle() is True
    [sent] = patches(proxy)
    assert [rule["condition"]["matchesPrefix"] for rule in sent["lifecycle"]["rule"]] == [["v1/"]]


def condition(**fields: Any) -> dict[str, Any]:
    return {"action": {"type": "Delete"}, "condition": fields}


@pytest.mark.parametrize(
    ("rule", "expires"),
    [
        (RULE, True),
        (condition(daysSinceCustomTime=0), True),
        (condition(daysSinceCustomTime=0, matchesPrefix=["other/", "cha"]), True),
        (condition(daysSinceCustomTime=0, matchesPrefix=["chats/v1/ab/"]), False),
        (condition(daysSinceCustomTime=0, matchesPrefix=["chats/v1/"], matchesSuffix=[".gz"]), False),
        (condition(daysSinceCustomTime=0, isLive=False), False),
        (condition(daysSinceCustomTime=1), False),
        (condition(age=0), False),
        (RULE | {"action": {"type": "SetStorageClass", "storageClass": "COLDLINE"}}, False),
    ],
)
def test_a_lifecycle_rule_that_does_the_same_is_seen(
    store: ArchiveStore,
    proxy: StorageProxy,
    rule: dict[str, Any],
    expires: bool,  # noqa: FBT001
) -> None:
    proxy.fail(ruled(*OTHERS, rule))
    found = store.safeguards()
    assert found
    assert found.expires is expires
    assert store.apply_lifecycle() is not expires
    assert len(patches(proxy)) == (0 if expires else 1)


def test_a_bucket_that_somebody_else_changes_is_read_again(store: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(conflicting(2))
    assert store.apply_lifecycle() is True
    assert proxy.kinds() == ["describe", "patch"] * 3
    assert [query(exchange)["ifMetagenerationMatch"] for exchange in proxy.seen[1::2]] == [["2"], ["3"], ["4"]]


def test_a_lifecycle_that_may_not_be_changed_says_what_to_grant(store: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(answered(403), "patch")
    with pytest.raises(ArchiveRefused, match=r"may not change the bucket's settings; grant storage\.buckets\.update"):
        store.apply_lifecycle()
