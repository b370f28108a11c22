"""The contract of ArchiveStore: the same tests for a folder and for a bucket."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import random
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.objects import (
    DESCRIBED,
    EARLIER,
    LATER,
    MIB,
    MOMENT,
    NAME,
    content,
    custom_time,
    object_names,
    put,
    uses,
)
from support.ports import free_port
from torpor.worker.archive import names
from torpor.worker.archive.names import SegmentName
from torpor.worker.archive.stores import HOLD_NOTES, NEVER, ArchiveStore, Confirm, StoredObject
from torpor.worker.archive.stores import objects as objects_module
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.errors import ArchiveConflict, ArchiveRefused, ArchiveUnavailable, ObjectNotFound


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


def test_the_same_object_again_is_success_and_changes_nothing(archive: ArchiveStore) -> None:
    first = put(archive, NAME, b"hello", {"writer": "one"}, MOMENT)
    assert put(archive, NAME, b"hello", {"writer": "one"}, MOMENT) == first
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
    assert list(archive.list("v1/")) == [first]


PACKED = gzip.compress(b"the words", mtime=0)
WORDS = {"sha256": hashlib.sha256(b"the words").hexdigest()}


@pytest.mark.parametrize(
    ("damaged", "recorded"),
    [
        (PACKED[:-5], WORDS),
        (b"no gzip", WORDS),
        (b"", WORDS),
        (PACKED[:-5], {}),
        (gzip.compress(b"others", mtime=0), WORDS),
    ],
    ids=["truncated", "not packed", "empty", "without metadata", "other words than it says"],
)
def test_an_object_that_is_damaged_is_replaced(archive: ArchiveStore, damaged: bytes, recorded: dict[str, str]) -> None:
    first = put(archive, NAME, damaged, recorded, MOMENT)
    confirmed: list[str] = []
    stored = put(archive, NAME, PACKED, WORDS, LATER, confirm=lambda: confirmed.append("asked"))
    assert content(archive, stored) == PACKED
    assert (stored.metadata, stored.custom_time, confirmed) == (WORDS, LATER, ["asked"])
    assert stored.generation > first.generation
    assert list(archive.list("v1/")) == [stored]


class Killed(BaseException):
    """Ends the process here."""


@pytest.mark.parametrize(("damaged", "renamed"), [(False, 0), (True, 0), (True, 1)])
def test_a_put_that_is_killed_before_it_renames_one_of_its_two_files_is_finished_by_the_next(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, *, damaged: bool, renamed: int
) -> None:
    archive = open_archive((scratch / "archive").as_uri())
    put(archive, NAME, PACKED[:-5] if damaged else PACKED, WORDS, MOMENT)
    described = {**WORDS, "writer": "two"}
    rename, left = Path.replace, iter(range(renamed))

    def die(path: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise Killed
        return rename(path, target)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Path, "replace", die)
        put(archive, NAME, PACKED, described, LATER, confirm=lambda: None)
    assert [each.size for each in archive.list("v1/")] == [len(PACKED) - (5 if damaged else 0)]
    stored = put(archive, NAME, PACKED, described, LATER, confirm=lambda: None)
    assert (content(archive, stored), stored.metadata, stored.custom_time) == (PACKED, described, LATER)
    assert list(archive.list("v1/")) == [stored]


@pytest.mark.parametrize("damaged", [False, True])
def test_nothing_is_changed_by_a_put_that_is_not_confirmed(archive: ArchiveStore, *, damaged: bool) -> None:
    def refuse() -> None:
        raise LookupError("somebody else is newer")

    put(archive, NAME, PACKED[:-5] if damaged else PACKED, WORDS, MOMENT)
    before = list(archive.list("v1/"))
    with pytest.raises(LookupError, match="newer"):
        put(archive, NAME, PACKED, {**WORDS, "writer": "two"}, LATER, confirm=refuse)
    assert list(archive.list("v1/")) == before


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
    put(archive, NAME, b"hello")
    archive.check()
    assert object_names(archive) == [NAME]


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


@pytest.mark.usefixtures("as_in_cloud_storage")
def test_what_is_put_again_gets_the_newest_metadata_and_the_later_custom_time(archive: ArchiveStore) -> None:
    first = put(archive, NAME, b"hello", {"writer": "one", "owner": "ann"}, MOMENT)
    put(archive, "v1/for ever", b"hello")
    for moment, expected in ((EARLIER, MOMENT), (LATER, LATER), (MOMENT, LATER), (None, NEVER)):
        again = put(archive, NAME, b"hello", {"writer": f"until {moment}"}, moment)
        assert again.custom_time == custom_time(archive, NAME) == expected
        assert (again.generation, again.metadata) == (first.generation, {"writer": f"until {moment}"})
        assert list(archive.list(NAME)) == [again]
    assert put(archive, "v1/for ever", b"hello").custom_time is None


@pytest.mark.usefixtures("as_in_cloud_storage")
def test_what_nobody_has_touched_since_is_discarded(archive: ArchiveStore) -> None:
    stored = put(archive, NAME, b"hello", DESCRIBED)
    assert archive.discard(stored)
    assert archive.discard(stored), "it is gone"
    assert object_names(archive) == []
    put(archive, NAME, b"hello", DESCRIBED)
    assert archive.discard(stored), "another object has its name by now"
    assert object_names(archive) == [NAME]


@pytest.mark.usefixtures("as_in_cloud_storage")
@pytest.mark.parametrize("touch", ["put", "put with other metadata", "amend", "hold"])
def test_what_somebody_relies_on_or_has_changed_is_not_discarded(archive: ArchiveStore, touch: str) -> None:
    seen = put(archive, NAME, b"hello", DESCRIBED, MOMENT)
    if touch.startswith("put"):
        metadata = DESCRIBED if touch == "put" else {"session": "s"}
        touched = put(archive, NAME, b"hello", metadata, MOMENT, confirm=lambda: None)
        assert (touched.generation, touched.metadata) == (seen.generation, metadata)
    elif touch == "amend":
        archive.amend(seen, custom_time=LATER)
    else:
        archive.amend(seen, held=True)
    assert not archive.discard(seen)
    [there] = archive.list("v1/")
    assert there.metageneration > seen.metageneration
    archive.amend(there, held=False)
    [there] = archive.list("v1/")
    assert archive.discard(there)


@pytest.mark.usefixtures("as_in_cloud_storage")
def test_what_is_held_is_not_discarded(archive: ArchiveStore) -> None:
    stored = put(archive, NAME, b"hello", held=True)
    with pytest.raises(ArchiveRefused) as caught:
        archive.discard(stored)
    assert caught.value.held
    assert object_names(archive) == [NAME]


@pytest.mark.usefixtures("as_in_cloud_storage")
def test_of_attempts_that_put_and_one_that_discards_the_object_survives(archive: ArchiveStore) -> None:
    for turn in range(20):
        name = f"v1/{turn}"
        seen = put(archive, name, b"hello", DESCRIBED)
        together = threading.Barrier(3)

        def relying(name: str = name, together: threading.Barrier = together) -> StoredObject:
            together.wait(10)
            return put(archive, name, b"hello", DESCRIBED, confirm=lambda: None)

        def discarding(seen: StoredObject = seen, together: threading.Barrier = together) -> bool:
            together.wait(10)
            return archive.discard(seen)

        with ThreadPoolExecutor(3) as pool:
            relied, discarded = [pool.submit(relying) for _ in range(2)], pool.submit(discarding)
            results = [each.result() for each in relied]
        assert isinstance(discarded.result(), bool)
        [there] = archive.list(name)
        assert {each.generation for each in results} == {there.generation}


@pytest.mark.usefixtures("as_in_cloud_storage")
def test_entries_are_set_only_if_nobody_has_changed_the_object_since(archive: ArchiveStore) -> None:
    seen = put(archive, NAME, b"hello", DESCRIBED, MOMENT, held=True)
    assert archive.annotate(seen, {"fence": "1"})
    assert not archive.annotate(seen, {"fence": "2"}), "it has another metageneration"
    [there] = archive.list("v1/")
    assert (there.metadata, there.generation) == ({**DESCRIBED, "fence": "1"}, seen.generation)
    assert (there.held, there.custom_time) == (True, MOMENT)
    archive.amend(there, custom_time=LATER)
    assert not archive.annotate(there, {"fence": "2"})
    [there] = archive.list("v1/")
    assert archive.annotate(there, {"fence": "3"})
    [there] = archive.list("v1/")
    assert there.metadata == {**DESCRIBED, "fence": "3"}
    with pytest.raises(ObjectNotFound, match="missing"):
        archive.annotate(StoredObject("v1/missing", 5, 1), {"fence": "4"})


@pytest.mark.usefixtures("as_in_cloud_storage")
def test_a_hold_is_set_and_released_together_with_entries_of_the_metadata(archive: ArchiveStore) -> None:
    seen = put(archive, NAME, b"hello", DESCRIBED)
    archive.amend(seen, held=True, entries={"hold": "owner"})
    [there] = archive.list("v1/")
    assert (there.held, there.metadata) == (True, {**DESCRIBED, "hold": "owner"})
    archive.amend(seen, entries={"hold": "session"})
    [there] = archive.list("v1/")
    assert (there.held, there.metadata) == (True, {**DESCRIBED, "hold": "session"})
    archive.amend(seen, held=False, entries={"hold": None})
    [after] = archive.list("v1/")
    assert (after.held, after.metadata) == (False, DESCRIBED)
    archive.amend(seen, held=False, entries={"hold": None})
    assert list(archive.list("v1/")) == [after]


@pytest.mark.usefixtures("as_in_cloud_storage")
@pytest.mark.parametrize("confirm", [None, lambda: None])
def test_what_an_object_notes_of_legal_holds_stays_until_an_amendment_removes_it(
    archive: ArchiveStore, confirm: Confirm | None
) -> None:
    """A put may come from somebody who does not know of the hold, or of one of two."""
    session, owner = HOLD_NOTES
    seen = put(archive, NAME, b"hello", DESCRIBED)
    archive.amend(seen, held=True, entries={session: "1000", owner: None})
    put(archive, NAME, b"hello", DESCRIBED, confirm=confirm)
    put(archive, NAME, b"hello", {**DESCRIBED, owner: "2000"}, held=True, confirm=confirm)
    [there] = archive.list("v1/")
    assert (there.held, there.metadata) == (True, {**DESCRIBED, session: "1000", owner: "2000"})
    put(archive, NAME, b"hello", {**DESCRIBED, session: "3000"}, held=True, confirm=confirm)
    [there] = archive.list("v1/")
    assert there.metadata == {**DESCRIBED, session: "3000", owner: "2000"}
    archive.amend(there, held=False, entries={session: None, owner: None})
    [there] = archive.list("v1/")
    assert (there.held, there.metadata) == (False, DESCRIBED)


@pytest.mark.usefixtures("as_in_cloud_storage")
def test_of_many_who_annotate_an_object_at_once_one_succeeds(archive: ArchiveStore) -> None:
    seen = put(archive, NAME, b"hello", DESCRIBED)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda number: archive.annotate(seen, {"fence": str(number)}), range(16)))
    assert done.count(True) == 1
    [there] = archive.list("v1/")
    assert there.metadata["fence"] == str(done.index(True))


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
