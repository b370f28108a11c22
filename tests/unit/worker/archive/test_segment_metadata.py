"""The metadata of a segment, as stores keep it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from torpor.history.protocol import Expiry, Origin, SessionInfo, Status
from torpor.worker.archive.names import SegmentName
from torpor.worker.archive.segment import Packed
from torpor.worker.archive.segment_metadata import SegmentMetadata
from torpor.worker.archive.stores import StoredObject
from torpor.worker.archive.stores.folder import FolderStore
from torpor.worker.errors import SegmentDamaged

ARCHIVE = FolderStore(Path("/nowhere"))
CREATED = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
PACKED = Packed(SegmentName(17, 3, 8, "0123abcd"), BytesIO(), 0, "0123abcd" * 8)
EXPIRY = Expiry(timedelta(hours=1), timedelta(days=30), timedelta(days=365))
SESSION = SessionInfo(
    session_id="s",
    status=Status.LIVE,
    epoch=17,
    created=CREATED,
    last_active=CREATED + timedelta(minutes=1),
    last_written=CREATED,
    due_at=None,
    idle_timeout=timedelta(hours=1),
    max_age=None,
    expiry=EXPIRY,
    owner="ann",
    message_count=10,
    restored_count=2,
    archived_count=5,
    complete=True,
    floor=None,
    attempts=0,
    error=None,
)


def stored(**metadata: str) -> StoredObject:
    return StoredObject("v1/s/segment", 1, 1, metadata)


def test_the_stored_names_and_texts_stay_as_archives_have_them() -> None:
    assert list(SegmentMetadata.of(SESSION, PACKED).stored().items()) == [
        ("format", "torpor-transcript/1"),
        ("session", "s"),
        ("epoch", "17"),
        ("from", "3"),
        ("to", "8"),
        ("count", "5"),
        ("base", "2"),
        ("sha256", "0123abcd" * 8),
        ("created", "2026-01-02T03:04:05.678+00:00"),
        ("active", "2026-01-02T03:05:05.678+00:00"),
        ("owner", "ann"),
        ("idle_ms", "3600000"),
        ("max_age_ms", "2592000000"),
        ("retention_ms", "31536000000"),
        ("check", "d8155e43b1988f14"),
    ]


@pytest.mark.parametrize(
    "field", ["session", "base", "sha256", "created", "owner", "idle_ms", "max_age_ms", "retention_ms"]
)
def test_metadata_of_which_an_entry_was_altered_lost_or_added_is_damaged(field: str) -> None:
    written = SegmentMetadata.of(SESSION, PACKED).stored()
    short = SegmentMetadata.of(replace(SESSION, owner=None, expiry=Expiry()), PACKED).stored()
    without = {name: text for name, text in written.items() if name != field}
    for altered in (written | {field: "7"}, without, *([short | {field: "7"}] if field not in short else [])):
        with pytest.raises(SegmentDamaged, match="it is not what was written"):
            SegmentMetadata.read(ARCHIVE, stored(**altered))


def test_entries_that_others_add_damage_nothing() -> None:
    written = SegmentMetadata.of(SESSION, PACKED).stored()
    assert SegmentMetadata.read(ARCHIVE, stored(**written, label="legal")).owner == "ann"


def test_what_a_session_does_not_have_is_not_stored() -> None:
    metadata = SegmentMetadata.of(replace(SESSION, owner=None, expiry=Expiry()), PACKED).stored()
    assert not metadata.keys() & {"owner", "idle_ms", "max_age_ms", "retention_ms"}


def test_what_is_stored_is_read_back() -> None:
    read = SegmentMetadata.read(ARCHIVE, stored(**SegmentMetadata.of(SESSION, PACKED).stored()))
    assert (read.session, read.base, read.sha256) == ("s", 2, PACKED.sha256)
    assert read.origin == Origin(CREATED, EXPIRY, "ann")


def test_a_segment_without_metadata_remembers_nothing() -> None:
    read = SegmentMetadata.read(ARCHIVE, stored())
    assert (read.session, read.base, read.sha256, read.origin) == (None, 0, None, Origin())


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("base", "many"),
        ("base", "1.0"),
        ("created", "yesterday"),
        ("created", "1767322845"),
        ("idle_ms", ""),
        ("max_age_ms", "9" * 30),
        ("retention_ms", "9" * 5_000),
    ],
)
def test_damage_is_named_with_its_object(field: str, text: str) -> None:
    with pytest.raises(SegmentDamaged, match=re.escape("the metadata of file:///nowhere/v1/s/segment is damaged")):
        SegmentMetadata.read(ARCHIVE, stored(**{field: text}))


@pytest.mark.parametrize("field", ["format", "epoch", "from", "to", "count", "active"])
def test_damage_to_what_no_restore_needs_keeps_no_session_asleep(field: str) -> None:
    SegmentMetadata.read(ARCHIVE, stored(**{field: "yesterday"}))
