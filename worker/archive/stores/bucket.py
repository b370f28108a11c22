"""The settings of the archive's bucket, and its lifecycle rule that expires transcripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.api_core import exceptions as api
from google.cloud import storage

from torpor.worker.archive.stores import Safeguards
from torpor.worker.archive.stores.gcs_errors import ungranted
from torpor.worker.archive.stores.google_client import properties
from torpor.worker.archive.stores.objects import patiently

# How often we try to change a bucket that others change at the same time.
_ATTEMPTS = 5
_EVERYBODY = {"allUsers", "allAuthenticatedUsers"}


class BucketSettings:
    """The settings of a bucket. The names of objects that can expire begin with `transcripts`; `url` is the archive's.

    Raises ArchiveRefused if we may not read or change them, and the errors of google-cloud-storage.
    """

    def __init__(self, bucket: storage.Bucket, transcripts: str, url: str) -> None:
        self._client, self._name = bucket.client, bucket.name
        self._transcripts = transcripts
        self._url = url

    def safeguards(self) -> Safeguards:
        """The settings that affect the archive."""
        bucket = self._read()
        access = bucket.iam_configuration
        return Safeguards(
            location=bucket.location,
            uniform_access=bool(access.uniform_bucket_level_access_enabled),
            public_access_prevented=access.public_access_prevention == "enforced",
            public=_is_public(bucket),
            soft_delete_seconds=bucket.soft_delete_policy.retention_duration_seconds or 0,
            versioning=bucket.versioning_enabled,
            retention_seconds=bucket.retention_period or 0,
            retention_locked=bool(bucket.retention_policy_locked),
            held_by_default=bool(bucket.default_event_based_hold),
            lifecycle=_rules(bucket),
            expires=any(map(self._expires, _rules(bucket))),
        )

    def apply_lifecycle(self) -> bool:
        """Have transcripts deleted when their custom time has passed; False if a rule does so already.

        The rule matches transcripts only. An object without a custom time never fulfils its condition.

        Source: https://cloud.google.com/storage/docs/lifecycle#dayssincecustomtime
        """
        condition = {"daysSinceCustomTime": 0, "matchesPrefix": [self._transcripts]}
        bucket = self._read()
        for left in reversed(range(_ATTEMPTS)):
            if any(map(self._expires, _rules(bucket))):
                return False
            bucket.lifecycle_rules = [*_rules(bucket), {"action": {"type": "Delete"}, "condition": condition}]
            try:
                bucket.patch(if_metageneration_match=bucket.metageneration, **patiently())
                break
            except api.Forbidden as exc:
                raise ungranted(self._url, "change the bucket's settings", "storage.buckets.update", exc) from exc
            except api.PreconditionFailed:  # somebody else changed it, or the reply to an attempt was lost
                if not left:
                    raise
                bucket = self._read()
        return True

    def _read(self) -> storage.Bucket:
        """The bucket with its settings as they are now."""
        bucket = self._client.bucket(self._name)
        try:
            bucket.reload(**patiently())
        except api.Forbidden as exc:
            raise ungranted(self._url, "read the bucket's settings", "storage.buckets.get", exc) from exc
        return bucket

    def _expires(self, rule: Mapping[str, Any]) -> bool:
        """True if this lifecycle rule deletes every transcript whose custom time has passed."""
        condition = dict(rule.get("condition", {}))
        days, prefixes = condition.pop("daysSinceCustomTime", None), condition.pop("matchesPrefix", [""])
        deletes = rule["action"]["type"] == "Delete" and days == 0 and not condition
        return deletes and any(map(self._transcripts.startswith, prefixes))


def _rules(bucket: storage.Bucket) -> Sequence[Mapping[str, Any]]:
    """All lifecycle rules: the library's `lifecycle_rules` drops those of a kind that it does not know."""
    rules: Sequence[Mapping[str, Any]] = properties(bucket).get("lifecycle", {}).get("rule", ())
    return rules


def _is_public(bucket: storage.Bucket) -> bool | None:
    """True if the IAM policy lets everybody in; None if we may not read it, or, as in the emulator, there is none."""
    try:
        policy = bucket.get_iam_policy(requested_policy_version=3, **patiently())
    except (api.Forbidden, api.NotFound):
        return None
    return any(_EVERYBODY & set(binding["members"]) for binding in policy.bindings)
