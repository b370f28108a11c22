"""How a bucket is set up: what is reported, and the lifecycle rule that is applied."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.objects import forged, patches, query
from support.storage_proxy import Exchange, Fault, Reply, StorageProxy, answered
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.errors import ArchiveRefused, ArchiveUnavailable

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
    metagenerations = iter(["2", "3", "4"])

    def overtaken(exchange: Exchange) -> Reply:
        """Twice, another program changes the bucket first; the emulator has no metageneration of a bucket."""
        if exchange.method == "PATCH" and len(proxy.seen) < 6:
            return answered(412)(exchange)
        return forged(metageneration=next(metagenerations) if exchange.method == "GET" else "")(exchange)

    proxy.fail(overtaken)
    assert store.apply_lifecycle() is True
    assert proxy.kinds() == ["describe", "patch"] * 3
    assert [query(exchange)["ifMetagenerationMatch"] for exchange in proxy.seen[1::2]] == [["2"], ["3"], ["4"]]


def test_a_lifecycle_that_may_not_be_changed_says_what_to_grant(store: ArchiveStore, proxy: StorageProxy) -> None:
    proxy.fail(answered(403), "patch")
    with pytest.raises(ArchiveRefused, match=r"may not change the bucket's settings; grant storage\.buckets\.update"):
        store.apply_lifecycle()
