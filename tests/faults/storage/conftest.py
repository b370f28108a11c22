"""A bucket behind a proxy that fails, and a client that does not wait long."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import google.cloud.storage.blob as blob_module
import pytest

from support.storage_proxy import (
    StorageProxy,
)
from torpor.worker.archive.stores import gcs as gcs_module
from torpor.worker.archive.stores import gcs_uploads
from torpor.worker.archive.stores import objects as objects_module


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def archive_url(bucket: str, proxy: StorageProxy) -> str:
    return f"gs://{bucket}/chats"


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come after milliseconds, and the client waits a quarter of a second for a reply that a test stalls."""
    monkeypatch.setattr(objects_module, "_RETRY", objects_module._RETRY.with_delay(initial=0.001, maximum=0.01))
    if "stalled" in request.node.name or "never_answers" in request.node.name:
        monkeypatch.setattr(objects_module, "_TIMEOUT", (5.0, 0.25))


@pytest.fixture
def impatient(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing request is tried again for 20 milliseconds, not for a minute."""
    monkeypatch.setattr(objects_module, "_RETRY", objects_module._RETRY.with_timeout(0.02))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads are resumable and downloads come in chunks, even for small objects."""
    monkeypatch.setattr(gcs_module, "_CHUNK", 32 * 1024)
    monkeypatch.setattr(gcs_uploads, "_SENT_AT_ONCE", 64 * 1024)
    monkeypatch.setattr(gcs_uploads, "_PART", 256 * 1024)
    monkeypatch.setattr(gcs_module, "_READ_AT_ONCE", 64 * 1024)
    monkeypatch.setattr(blob_module, "_MAX_MULTIPART_SIZE", 64 * 1024)
    monkeypatch.setattr("isal.igzip.READ_BUFFER_SIZE", 32 * 1024)  # a chunk is at least what is asked for
