"""Stores to test: a folder, and a bucket behind a proxy."""

from __future__ import annotations

import pytest

from support.storage_proxy import StorageProxy
from torpor.worker.archive.stores import ArchiveStore
from torpor.worker.archive.stores.url import open_archive

# The requests to a bucket. The emulator ignores holds, preconditions, the generation that is to be deleted or
# amended, lifecycle rules, soft delete, retention, uniform access and IAM; it takes an earlier custom time. So these
# tests look at what is sent, and let a proxy give the answers of Cloud Storage.


@pytest.fixture
def store(bucket: str, proxy: StorageProxy) -> ArchiveStore:
    return open_archive(f"gs://{bucket}/chats")
