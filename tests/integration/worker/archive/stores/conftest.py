"""Stores to test: a folder, and a bucket behind a proxy."""

from __future__ import annotations

import pytest

from support.storage_proxy import StorageProxy
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.url import open_archive

# The emulator ignores lifecycle rules, soft delete, retention, uniform access and IAM. So these tests look at the
# requests, and let the proxy give the answers of Cloud Storage. By itself it enforces preconditions and holds.


@pytest.fixture
def store(bucket: str, proxy: StorageProxy) -> ArchiveStore:
    return open_archive(f"gs://{bucket}/chats")
