"""The contract of ArchiveStore: the same tests for a folder and for a bucket."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import free_port
from google.cloud import storage

from worker import layout
from worker.errors import ArchiveConflict, ArchiveCorrupt, ArchiveUnavailable, ObjectNotFound
from worker.layout import SegmentName
from worker.services import open_archive
from worker.stores import ArchiveStore, StoredObject
from worker.stores import gcs as gcs_module

MIB = 1024 * 1024
NAME = "v1/ab/s/7/0-1-0123abcd.jsonl.gz"
DESCRIBED = {"session": "Wie geht's? 😀", "epoch": "7"}
MOMENT = datetime(2030, 1, 2, 3, 4, 5, 678000, UTC)


def put(
    archive: ArchiveStore, name: str, content: bytes, metadata: dict[str, str] | None = None, at: datetime | None = None
) -> StoredObject:
    return archive.put(name, io.BytesIO(content), len(content), metadata=metadata or {}, custom_time=at)


def content(archive: ArchiveStore, stored: StoredObject) -> bytes:
    with archive.open(stored) as body:
        return body.read()


def names(archive: ArchiveStore, prefix: str = "v1/") -> list[str]:
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
    put(archive, "v1/a", b"a", at=MOMENT)
    put(archive, "v1/b", b"b")
    assert custom_time(archive, "v1/a") == MOMENT
    assert custom_time(archive, "v1/b") is None


def test_objects_are_listed_by_prefix_in_the_order_of_their_names(archive: ArchiveStore) -> None:
    put_names = ["v1/a/b", "v1/a/b-c", "v1/a/b/c", "v1/ab", "v1/a.b", "v1/a/B", "v1/b/1/floor", "v1/b/10/floor", "v2/a"]
    files = [name for name in put_names if name != "v1/a/b"]  # a file can't be a folder too
    for name in random.Random(3).sample(files, len(files)):
        put(archive, name, name.encode())
    assert names(archive) == sorted(name for name in files if name.startswith("v1/"))
    assert names(archive, "v1/a/") == ["v1/a/B", "v1/a/b-c", "v1/a/b/c"]
    assert names(archive, "v1/a/b") == ["v1/a/b-c", "v1/a/b/c"]
    assert names(archive, "v1/b/1/") == ["v1/b/1/floor"]
    assert names(archive, "v1/c/") == []
    assert names(archive, "") == sorted(files)


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
    assert archive.delete(NAME) is True
    assert archive.delete(NAME) is False
    assert names(archive) == []
    with pytest.raises(ObjectNotFound, match=re.escape(NAME)):
        content(archive, stored)


def test_what_never_was_is_not_found(archive: ArchiveStore) -> None:
    assert archive.delete("v1/nobody/is/here") is False
    assert names(archive) == []
    with pytest.raises(ObjectNotFound):
        content(archive, StoredObject(NAME, 5, 1))


def test_a_name_can_be_used_again_after_it_was_deleted(archive: ArchiveStore) -> None:
    put(archive, NAME, b"one", {"writer": "one"})
    archive.delete(NAME)
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
    every = [layout.segment_name(session, segment) for session in STRANGE]
    every += [layout.floor_name(session, 7) for session in STRANGE]
    every += [layout.owner_marker(owner, session, 1) for owner in ("ann", "..", "x" * 1024) for session in STRANGE]
    for name in every:
        put(archive, name, name.encode() if name.endswith(".gz") else b"", {"written": name})
    assert names(archive) == sorted(every)
    for stored in archive.list("v1/"):
        assert stored.metadata == {"written": stored.name}
        assert content(archive, stored) == (stored.name.encode() if stored.name.endswith(".gz") else b"")
    assert all(archive.delete(name) for name in every)
    assert names(archive) == []


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
    assert names(archive) == [NAME]


def uses(archive: ArchiveStore) -> list[str]:
    """What each operation says of a store that can't be used."""
    said = []
    for operation in (
        archive.check,
        lambda: put(archive, NAME, b"hello"),
        lambda: put(archive, NAME, b"x" * 9 * MIB),
        lambda: names(archive),
        lambda: names(archive, "v1/ab/s/"),
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
    monkeypatch.setattr(gcs_module, "_RETRY", gcs_module._RETRY.with_timeout(0.2))
    archive = open_archive("gs://some-bucket/chats")
    for said in uses(archive):
        assert said.startswith("gs://some-bucket/chats can't be reached")
    for failing in (lambda: archive.delete(NAME), lambda: content(archive, StoredObject(NAME, 5, 1))):
        with pytest.raises(ArchiveUnavailable, match="can't be reached"):
            failing()


def test_buckets_prefixes_are_apart(bucket: str) -> None:
    one, other, whole = (open_archive(f"gs://{bucket}{prefix}") for prefix in ("/a", "/ab", ""))
    put(one, NAME, b"one")
    put(other, NAME, b"other")
    assert [content(each, stored) for each in (one, other) for stored in each.list("v1/")] == [b"one", b"other"]
    assert names(whole, "") == [f"a/{NAME}", f"ab/{NAME}"]
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
    assert names(archive) == []

    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ArchiveUnavailable, match="No space left"):
        put(archive, NAME, b"hello")
    assert names(archive) == []
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.undo()
    assert content(archive, put(archive, NAME, b"hello")) == b"hello"


def test_an_object_appears_under_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    archive = open_archive(tmp_path.as_uri())
    seen: list[list[str]] = []

    class Watching(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            seen.append(names(archive))
            return super().read(size)

    stored = archive.put(NAME, Watching(b"hello"), 5, metadata={})
    assert seen[:2] == [[], []]  # its content and its end
    assert names(archive) == [stored.name]


def test_deleting_the_last_object_leaves_no_folder_behind(tmp_path: Path) -> None:
    archive = open_archive((tmp_path / "archive").as_uri())
    put(archive, NAME, b"hello", DESCRIBED)
    put(archive, "v1/ab/t/7/floor", b"")
    archive.delete(NAME)
    assert [path.name for path in (tmp_path / "archive" / "v1" / "ab").iterdir()] == ["t"]
    archive.delete("v1/ab/t/7/floor")
    assert [path.name for path in (tmp_path / "archive").iterdir()] == ["tmp"]
    assert list((tmp_path / "archive" / "tmp").iterdir()) == []


def test_an_object_whose_metadata_can_not_be_read_is_reported(tmp_path: Path) -> None:
    archive = open_archive(tmp_path.as_uri())
    put(archive, NAME, b"hello", DESCRIBED)
    [described] = tmp_path.rglob("*.meta.json")
    described.write_text('{"metadata": {"sess')
    with pytest.raises(ArchiveCorrupt, match=re.escape(NAME)):
        names(archive)
