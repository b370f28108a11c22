"""Objects of a bucket as the JSON API describes them, and as StoredObject.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects#resource-representations
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from torpor.worker.archive.stores import HOLD_NOTES, NEVER, RETRIED, StoredObject

Resource = Mapping[str, Any]

# Archives have packed lines, JSON documents, and empty markers.
_CONTENT_TYPES = {".gz": "application/gzip", ".json": "application/json"}
# The entry of an object's metadata by which a put tells that it relies on an object that was there: the metageneration
# that it saw. It differs each time, so the entry makes a new metageneration.
_RELIED = "relied"


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


def sent_again(described: Resource) -> Resource:
    """The description of an object whose upload is tried again: the try before may still arrive."""
    return {**described, "metadata": {**described["metadata"], RETRIED: "1"}}


def stored_object(resource: Resource, prefix: str) -> StoredObject:
    """An object that exists, its name without the archive's prefix."""
    retained = resource.get("retentionExpirationTime"), resource.get("retention", {}).get("retainUntilTime")
    return StoredObject(
        resource["name"].removeprefix(prefix),
        int(resource["size"]),
        int(resource["generation"]),
        _metadata(resource),
        _moment(resource.get("customTime")),
        bool(resource.get("temporaryHold") or resource.get("eventBasedHold")),
        max(filter(None, map(_moment, retained)), default=None),
        _moment(resource.get("timeCreated")),
        "timeDeleted" not in resource,
        int(resource.get("metageneration", 0)),
    )


def differences(resource: Resource, described: Resource, size: int) -> list[str]:
    """The properties in which an object that was just created is not the one that was described."""
    same = {
        "content": (int(resource["size"]), resource["crc32c"]) == (size, described["crc32c"]),
        "metadata": _without_tries(resource.get("metadata", {})) == _without_tries(described["metadata"]),
        "content type": _is_stored_alike(resource, described),
        "custom time": _is_alike(_moment(resource.get("customTime")), _moment(described.get("customTime"))),
        "hold": resource.get("temporaryHold", False) == described.get("temporaryHold", False),
    }
    return [name for name, is_same in same.items() if not is_same]


def reliance(resource: Resource, described: Resource, *, contested: bool) -> Resource:
    """The changes that make an object with the right content the one that is described.

    If it is `contested`, there always is one. A custom time only moves later, and a hold is only set: Cloud Storage
    allows nothing else, or others may need it.
    """
    custom_time = _moment(described.get("customTime")) or (NEVER if "customTime" in resource else None)
    changed = dict(changes(resource, custom_time, described.get("temporaryHold")))
    there = _metadata(resource)
    wanted = {name: there[name] for name in HOLD_NOTES if there.get(name)} | described["metadata"]
    if contested or _without_tries(there) != _without_tries(wanted):
        relied = {_RELIED: str(resource["metageneration"])} if contested else {}
        changed["metadata"] = {**dict.fromkeys(there.keys() - wanted.keys() - {RETRIED}), **wanted, **relied}
    if not _is_stored_alike(resource, described):
        changed |= {"contentType": described["contentType"], "contentEncoding": ""}
    return changed


def changes(
    resource: Resource,
    custom_time: datetime | None,
    held: bool | None,  # noqa: FBT001
    entries: Mapping[str, str | None] = MappingProxyType({}),
) -> Resource:
    """The changes that give an object this custom time, unless its own is later, this temporary hold, and `entries`.

    An entry of None is removed from the metadata.
    """
    changed: dict[str, Any] = {}
    has = _moment(resource.get("customTime"))
    if custom_time is not None and (has is None or has < custom_time):
        changed["customTime"] = _rfc3339(custom_time)
    if held is not None and resource.get("temporaryHold", False) != held:
        changed["temporaryHold"] = held
    there = _metadata(resource)
    if any(there.get(name) != value for name, value in entries.items()):
        changed["metadata"] = dict(entries)
    return changed


def _metadata(resource: Resource) -> dict[str, str]:
    return {key: value for key, value in resource.get("metadata", {}).items() if key != _RELIED}


def _without_tries(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key != RETRIED}


def _is_alike(one: datetime | None, other: datetime | None) -> bool:
    """True if two custom times are the same; a store may keep fewer digits than it was sent."""
    return one == other if one is None or other is None else abs(one - other) < timedelta(seconds=1)


def _is_stored_alike(resource: Resource, described: Resource) -> bool:
    """True if a reader gets the bytes as they were sent: of the type that was described, and without an encoding."""
    return resource.get("contentType") == described["contentType"] and not resource.get("contentEncoding")


def _content_type(name: str) -> str:
    found = (kind for suffix, kind in _CONTENT_TYPES.items() if name.endswith(suffix))
    return next(found, "application/octet-stream")


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
