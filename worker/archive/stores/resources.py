"""Objects of a bucket as the JSON API describes them, and as StoredObject.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects#resource-representations
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from torpor.worker.archive.stores import StoredObject

Resource = Mapping[str, Any]

# Archives have packed lines, JSON documents, and empty markers.
_CONTENT_TYPES = {".gz": "application/gzip", ".json": "application/json"}


def new_resource(
    name: str, metadata: Mapping[str, str], crc32c: str, custom_time: datetime | None, *, held: bool
) -> Resource:
    """The description of an object to be created."""
    described: dict[str, Any] = {
        "name": name,
        "metadata": dict(metadata),
        "contentType": _content_type(name),
        "crc32c": crc32c,
    }
    if custom_time:
        described["customTime"] = _rfc3339(custom_time)
    if held:
        described["temporaryHold"] = True
    return described


def stored_object(resource: Resource, prefix: str) -> StoredObject:
    """An object that exists, its name without the archive's prefix."""
    retained = resource.get("retentionExpirationTime"), resource.get("retention", {}).get("retainUntilTime")
    return StoredObject(
        resource["name"].removeprefix(prefix),
        int(resource["size"]),
        int(resource["generation"]),
        resource.get("metadata", {}),
        _moment(resource.get("customTime")),
        bool(resource.get("temporaryHold") or resource.get("eventBasedHold")),
        max(filter(None, map(_moment, retained)), default=None),
        _moment(resource.get("timeCreated")),
        "timeDeleted" not in resource,
    )


def changes(resource: Resource, custom_time: datetime | None, held: bool | None) -> Resource:  # noqa: FBT001
    """The changes that give an object this custom time, unless its own is later, and this temporary hold."""
    changed: dict[str, Any] = {}
    has = _moment(resource.get("customTime"))
    if custom_time is not None and (has is None or has < custom_time):
        changed["customTime"] = _rfc3339(custom_time)
    if held is not None and resource.get("temporaryHold", False) != held:
        changed["temporaryHold"] = held
    return changed


def _content_type(name: str) -> str:
    found = (kind for suffix, kind in _CONTENT_TYPES.items() if name.endswith(suffix))
    return next(found, "application/octet-stream")


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
