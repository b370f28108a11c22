"""The proxy that stands for Cloud Storage in other tests: preconditions, checksums, holds, and requests held back."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import google_crc32c
import pytest
import requests

from support.storage_proxy import Gate, StorageProxy, altered, answered
from support.waiting import wait_until

NAME = "v1/a b/ä.gz"
MOMENT, LATER = "2030-01-02T03:04:05.678Z", "2031-01-02T03:04:05.678Z"


class Bucket:
    """Sends requests to a bucket through the proxy, as the client does."""

    def __init__(self, proxy: StorageProxy, name: str) -> None:
        self._objects = f"{proxy.url}/storage/v1/b/{name}/o"
        self._uploads = f"{proxy.url}/upload/storage/v1/b/{name}/o"

    def insert(self, content: bytes = b"hello", described: Any = None, **query: Any) -> requests.Response:
        told = json.dumps({"name": NAME, **(described or {})}).encode()
        parts = (b"Content-Type: application/json\r\n\r\n" + told, b"Content-Type: text/plain\r\n\r\n" + content)
        body = b"".join(b"--x\r\n%b\r\n" % part for part in parts) + b"--x--"
        head = {"Content-Type": "multipart/related; boundary=x"}
        return requests.post(self._uploads, body, params={"uploadType": "multipart", **query}, headers=head, timeout=10)

    def insert_resumable(self, content: bytes, described: Any = None, **query: Any) -> requests.Response:
        told = {"name": NAME, **(described or {})}
        begun = requests.post(self._uploads, json=told, params={"uploadType": "resumable", **query}, timeout=10)
        if not begun.ok:
            return begun
        head = {"content-range": f"bytes 0-{len(content) - 1}/{len(content)}"}
        return requests.put(begun.headers["Location"], content, headers=head, timeout=10)

    def request(self, method: str, body: Any = None, **query: Any) -> requests.Response:
        url = f"{self._objects}/{quote(NAME, safe='')}"
        return requests.request(method, url, json=body, params=query, timeout=10)

    def describe(self, **query: Any) -> dict[str, Any]:
        told: dict[str, Any] = self.request("GET", **query).json()
        [listed] = requests.get(self._objects, timeout=10).json()["items"]
        assert {name: listed.get(name) for name in ("metadata", "metageneration", "temporaryHold", "customTime")} == {
            name: told.get(name) for name in ("metadata", "metageneration", "temporaryHold", "customTime")
        }
        return told


@pytest.fixture
def objects(proxy: StorageProxy, bucket: str) -> Bucket:
    return Bucket(proxy, bucket)


def checksum(content: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("resumable", [False, True])
def test_content_that_does_not_fit_its_checksum_is_not_stored(objects: Bucket, *, resumable: bool) -> None:
    insert = objects.insert_resumable if resumable else objects.insert
    assert insert(b"hellO", {"crc32c": checksum(b"hello")}).status_code == 400
    assert objects.request("GET").status_code == 404
    assert insert(b"hello", {"crc32c": checksum(b"hello")}).status_code == 200
    assert objects.describe()["size"] == "5"


def test_a_new_object_has_the_first_metageneration_and_each_amendment_makes_the_next(objects: Bucket) -> None:
    assert objects.insert(described={"metadata": {"a": "1", "b": "2"}}).json()["metageneration"] == "1"
    amended = objects.request("PATCH", {"metadata": {"a": None, "c": "3"}, "customTime": MOMENT}).json()
    assert (amended["metageneration"], amended["metadata"]) == ("2", {"b": "2", "c": "3"})
    assert objects.describe() == amended
    assert objects.request("PATCH", {"customTime": LATER}).json()["metageneration"] == "3"
    assert objects.describe()["metadata"] == {"b": "2", "c": "3"}
    assert objects.request("PATCH", {"customTime": MOMENT}).status_code == 400, "never to an earlier moment"
    assert objects.describe()["metageneration"] == "3"


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_request_whose_precondition_or_generation_is_not_met_changes_nothing(objects: Bucket, method: str) -> None:
    generation = objects.insert().json()["generation"]
    objects.request("PATCH", {"metadata": {"a": "1"}})
    there = objects.describe()
    body = {"metadata": {"a": "2"}} if method == "PATCH" else None
    for query, status in (
        ({"ifMetagenerationMatch": 1}, 412),
        ({"ifGenerationMatch": int(generation) + 1}, 412),
        ({"generation": generation, "ifMetagenerationMatch": 3}, 412),
        ({"generation": int(generation) + 1}, 404),
    ):
        assert objects.request(method, body, **query).status_code == status
        assert objects.describe() == there
    met = objects.request(method, body, generation=generation, ifGenerationMatch=generation, ifMetagenerationMatch=2)
    assert met.ok
    assert objects.request("GET").status_code == (200 if method == "PATCH" else 404)


@pytest.mark.parametrize("resumable", [False, True])
def test_an_upload_replaces_only_what_its_preconditions_name(objects: Bucket, *, resumable: bool) -> None:
    insert = objects.insert_resumable if resumable else objects.insert
    generation = insert(b"one", ifGenerationMatch=0).json()["generation"]
    objects.request("PATCH", {"metadata": {"a": "1"}})
    there = objects.describe()
    for query in (
        {"ifGenerationMatch": 0},
        {"ifGenerationMatch": int(generation) + 1},
        {"ifGenerationMatch": generation, "ifMetagenerationMatch": 1},
    ):
        assert insert(b"two", **query).status_code == 412
        assert objects.describe() == there
    replaced = insert(b"two", ifGenerationMatch=generation, ifMetagenerationMatch=2).json()
    assert (replaced["metageneration"], objects.describe()["generation"]) == ("1", replaced["generation"])
    assert objects.request("GET", generation=generation).status_code == 404
    objects.request("DELETE")
    assert insert(b"three", ifGenerationMatch=replaced["generation"]).status_code == 412


def test_what_is_held_is_not_deleted(objects: Bucket) -> None:
    objects.insert(described={"temporaryHold": True})
    assert objects.describe()["temporaryHold"] is True
    assert objects.request("DELETE").status_code == 403
    assert "temporaryHold" not in objects.request("PATCH", {"temporaryHold": False}).json()
    assert objects.request("DELETE").ok


@pytest.mark.parametrize(("kind", "insert"), [("upload", Bucket.insert), ("initiate", Bucket.insert_resumable)])
def test_a_description_can_be_altered_on_its_way(
    proxy: StorageProxy, objects: Bucket, kind: str, insert: Callable[..., requests.Response]
) -> None:
    proxy.fail(altered(lambda described: described["metadata"].update(owner="bob")), kind, times=1)
    assert insert(objects, b"hello", {"metadata": {"owner": "ann", "a": "1"}}).ok
    assert objects.describe()["metadata"] == {"owner": "bob", "a": "1"}


@pytest.mark.parametrize("arrives", [False, True], ids=["before it arrives", "before its answer"])
def test_a_request_is_held_back_until_its_gate_is_opened(
    proxy: StorageProxy, objects: Bucket, *, arrives: bool
) -> None:
    objects.insert()
    gate = Gate()
    proxy.fail(gate.after if arrives else gate.before, "delete", times=1)
    answers: list[int] = []
    slow = threading.Thread(target=lambda: answers.append(objects.request("DELETE").status_code))
    slow.start()
    wait_until(gate.arrived.is_set, what="the request is held back")
    assert objects.request("GET").status_code == (404 if arrives else 200)
    assert not answers
    gate.open()
    slow.join()
    assert (answers, objects.request("GET").status_code) == ([200], 404)


def test_of_several_faults_the_first_that_takes_a_request_counts(proxy: StorageProxy, objects: Bucket) -> None:
    proxy.fail(answered(503), "delete", after=1, times=1)
    proxy.also_fail(answered(418), "delete", times=1)
    proxy.also_fail(answered(500), "patch")
    objects.insert()
    assert [objects.request("PATCH", {}).status_code for _ in range(2)] == [500, 500]
    assert [objects.request("DELETE").status_code for _ in range(3)] == [418, 503, 200]
    assert proxy.kinds() == ["upload", "patch", "patch", "delete", "delete", "delete"]
