"""torpor bucket: how a bucket is set up, and the lifecycle rule that the command applies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.cli_sessions import harmless
from support.command import Torpor
from support.storage_proxy import Exchange, Reply, StorageProxy
from torpor.worker.deployment.services import Services

# The bucket


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_a_folder_has_nothing_to_set_up(services: Services, torpor: Torpor) -> None:
    url = services.archive.url
    for options in ([], ["--apply"]):
        assert torpor("bucket", *options, "--json").json == {
            "archive": url,
            "bucket": None,
            "warnings": [],
            "changed": False,
        }
        told = torpor("bucket", *options)
        assert (told.code, told.err) == (0, "")
        assert "by the worker's task torpor.expire" in told.said


class Bucket:
    """Keeps the settings that the emulator ignores."""

    def __init__(self, **fields: Any) -> None:
        self.fields = {"metageneration": "7", **fields}
        self.patches: list[dict[str, Any]] = []

    def act(self, exchange: Exchange) -> Reply:
        headers = {"Content-Type": "application/json"}
        if "/iam" in exchange.path:
            policy = {"version": 1, "bindings": [{"role": "roles/x", "members": ["allUsers"]}]}
            return Reply(200, headers, json.dumps(policy).encode())
        if exchange.method == "PATCH" and "/o/" not in exchange.path:
            self.patches.append(json.loads(exchange.body))
            self.fields |= self.patches[-1]
            return Reply(200, headers, json.dumps({"name": "b", **self.fields}).encode())
        reply = exchange.forward()
        if exchange.kind != "describe" or "/o/" in exchange.path or reply.status != 200:
            return reply
        return Reply(200, headers, json.dumps(json.loads(reply.body) | self.fields).encode())


@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
def test_a_bucket_is_shown_with_what_is_wrong_with_it(services: Services, torpor: Torpor, proxy: StorageProxy) -> None:
    proxy.fail(
        Bucket(
            location="EUROPE-WEST4",
            retentionPolicy={"retentionPeriod": "86400", "isLocked": True, "effectiveTime": "2026-01-01T00:00:00Z"},
            versioning={"enabled": True},
            defaultEventBasedHold=True,
        ).act
    )
    shown = torpor("bucket", "--json")
    assert shown.code == 0
    facts = shown.json["bucket"]
    assert (facts["location"], facts["public"], facts["versioning"]) == ("EUROPE-WEST4", True, True)
    assert (facts["retention_seconds"], facts["soft_delete_seconds"], facts["expires"]) == (86_400, 0, False)
    for warning, said in zip(
        shown.json["warnings"],
        (
            "everybody may read the bucket",
            "access lists of single objects count",
            "there is no soft delete",
            "the retention policy keeps each object for 86,400 seconds",
            "new objects get an event-based hold",
            "torpor bucket --apply",
        ),
        strict=True,
    ):
        assert said in warning
    told = torpor("bucket")
    assert told.code == 0
    for fact in ("location EUROPE-WEST4", "open to everybody yes", "retention policy 1d, locked", "soft delete none"):
        assert fact in told.said, fact
    assert told.err.count("warning: ") == 6
    assert not [exchange for exchange in proxy.seen if exchange.method == "PATCH"]


@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
def test_the_lifecycle_rule_is_applied_once_and_nothing_else_is_changed(
    services: Services, torpor: Torpor, proxy: StorageProxy
) -> None:
    other = {"action": {"type": "Delete"}, "condition": {"age": 3, "matchesPrefix": ["other/"]}}
    bucket = Bucket(lifecycle={"rule": [other]})
    proxy.fail(bucket.act)

    applied = torpor("bucket", "--apply")

    rule = {"action": {"type": "Delete"}, "condition": {"daysSinceCustomTime": 0, "matchesPrefix": ["chats/v1/"]}}
    assert applied.code == 0
    assert applied.out.startswith("added: the lifecycle rule")
    assert bucket.patches == [{"lifecycle": {"rule": [other, rule]}}]
    assert "expires archives yes" in applied.said
    assert "torpor bucket --apply" not in applied.said
    again = torpor("bucket", "--apply", "--json").json
    assert (again["changed"], again["bucket"]["expires"], len(again["bucket"]["lifecycle"])) == (False, True, 2)
    assert torpor("bucket", "--apply").out.startswith("archive")
    assert len(bucket.patches) == 1


@pytest.mark.parametrize("options", [[], ["--json"], ["--apply"], ["--apply", "--json"]])
@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
def test_a_server_that_tells_nothing_of_its_bucket_is_shown_as_it_is(
    services: Services, torpor: Torpor, proxy: StorageProxy, options: list[str]
) -> None:
    fields: dict[str, Any] = {"metageneration": "7"}

    def bare(exchange: Exchange) -> Reply:
        if "/o" in exchange.path or "/iam" in exchange.path:
            return exchange.forward()
        if exchange.method == "PATCH":
            fields.update(json.loads(exchange.body))
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(fields).encode())

    proxy.fail(bare)
    shown = torpor("bucket", *options)
    assert shown.code == 0, shown
    assert ("added: the lifecycle rule" in shown.said) is ("--apply" in options)
    if "--json" in options:
        assert shown.json["bucket"]["location"] is None
    else:
        assert "location unknown" in shown.said


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
def test_a_rule_that_was_added_is_told_although_the_settings_can_not_be_read_afterwards(
    services: Services, torpor: Torpor, proxy: StorageProxy, options: list[str]
) -> None:
    bucket = Bucket()

    def once(exchange: Exchange) -> Reply:
        if bucket.patches and "/o/" not in exchange.path and exchange.method == "GET":
            return Reply(403, {"Content-Type": "application/json"}, b'{"error": {"message": "no"}}')
        return bucket.act(exchange)

    proxy.fail(once)
    failed = torpor("bucket", "--apply", *options)
    assert (failed.code, len(bucket.patches)) == (1, 1)
    assert "added: the lifecycle rule" in failed.said
    assert "grant storage.buckets.get" in failed.err


@pytest.mark.parametrize("archive_url", ["gcs"], indirect=True)
def test_a_bucket_whose_settings_may_not_be_read_or_changed_says_what_to_grant(
    services: Services, torpor: Torpor, proxy: StorageProxy
) -> None:
    def forbidden(exchange: Exchange) -> Reply:
        body = b'{"error": {"message": "no \\u009b31m"}}'
        reads = exchange.method == "GET" and exchange.kind == "describe" and "/o/" not in exchange.path
        return Reply(403, {"Content-Type": "application/json"}, body) if reads else exchange.forward()

    proxy.fail(forbidden)
    for options in ([], ["--apply"], ["--json"]):
        refused = torpor("bucket", *options)
        assert (refused.code, refused.out) == (1, "")
        assert "grant storage.buckets.get on it" in refused.said
        assert harmless(refused)
    proxy.fail(Bucket().act)
    missing = torpor("bucket", ARCHIVE_URL="gs://no-such-bucket/chats")
    assert (missing.code, "does not exist; create it first" in missing.said) == (2, True)
