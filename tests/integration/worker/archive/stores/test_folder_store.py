"""A folder as the archive: complete objects or none, holds, custom times, and its own expiry."""

from __future__ import annotations

import errno
import io
import json
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.objects import (
    DESCRIBED,
    EARLIER,
    LATER,
    MOMENT,
    NAME,
    content,
    folder_of,
    object_names,
    put,
    uses,
)
from torpor.worker.archive.stores import ArchiveStore, disk
from torpor.worker.archive.stores.folder_description import description_path
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.errors import (
    ArchiveCorrupt,
    ArchiveMisconfigured,
    ArchiveRefused,
    ArchiveUnavailable,
    ObjectNotFound,
)


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


def test_a_check_makes_no_folder(tmp_path: Path) -> None:
    missing = open_archive((tmp_path / "archve").as_uri())
    with pytest.raises(ArchiveMisconfigured, match="archve does not exist"):
        missing.check()
    assert list(tmp_path.iterdir()) == []


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


def test_an_object_whose_metadata_can_not_be_read_is_listed_as_damaged(tmp_path: Path) -> None:
    archive = open_archive(tmp_path.as_uri())
    put(archive, NAME, b"hello", DESCRIBED, held=True)
    [described] = tmp_path.rglob("*.meta.json")
    described.write_text('{"metadata": {"sess')
    [stored] = archive.list("v1/")
    assert NAME in (stored.damage or "")
    with pytest.raises(ArchiveRefused, match="it may be held"):
        archive.delete(stored)
    with pytest.raises(ArchiveCorrupt, match=re.escape(NAME)):
        archive.amend(stored, custom_time=MOMENT)
    archive.amend(stored, held=False)
    assert archive.delete(stored)


@pytest.mark.parametrize("kind", ["a link", "a pipe"])
def test_what_is_no_file_is_listed_as_damaged_never_read_and_replaced_by_a_put(tmp_path: Path, kind: str) -> None:
    archive = open_archive(tmp_path.as_uri())
    path = tmp_path / NAME
    path.parent.mkdir(parents=True)
    path.symlink_to(path) if kind == "a link" else os.mkfifo(path)
    [stored] = archive.list("v1/")
    assert "it is a link, or no file" in (stored.damage or "")
    with pytest.raises(ArchiveCorrupt, match="can't be read"), archive.open(stored):
        pass
    put(archive, NAME, b"hello", DESCRIBED)
    [there] = archive.list("v1/")
    assert (there.damage, there.size) == (None, 5)


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


def test_a_deletion_fails_if_the_description_cannot_be_removed_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive((tmp_path / "archive").as_uri())
    stored = put(archive, NAME, b"hello", {"owner": "ann"})
    description = description_path(tmp_path / "archive" / NAME)
    unlink = Path.unlink

    def fail(path: Path, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as Path.unlink
        if path == description:
            raise OSError(errno.EIO, "Input/output error")
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", fail)
        with pytest.raises(ArchiveUnavailable):
            archive.delete(stored)
    assert description.exists()
    archive.delete(stored)
    assert not description.exists()
