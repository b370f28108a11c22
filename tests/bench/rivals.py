"""The alternatives to Torpor: langchain-google-memorystore-redis, or a script of a few lines."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
import requests.adapters
from google.cloud import storage


def peer_class() -> Any:
    """The chat history of langchain-google-memorystore-redis; only the environment of `make bench` has it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # langchain-community's, which it imports
        from langchain_google_memorystore_redis import MemorystoreChatMessageHistory
    return MemorystoreChatMessageHistory


class PlainScript:
    """Archives lists in Redis to a bucket: LRANGE, gzip, upload, DEL.

    Its pool has a connection for each thread; the library's own pool has 10.
    """

    def __init__(self, client: redis.Redis, archive_url: str, threads: int) -> None:
        google = storage.Client()
        google._http.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=threads))
        self.bucket: Any = google.bucket(archive_url.removeprefix("gs://").partition("/")[0])
        self._client = client
        self._threads = threads
        next(iter(google.list_blobs(self.bucket, max_results=1)), None)

    def archive(self, keys: Sequence[str]) -> None:
        """Archive these lists."""
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(self._archive, keys))

    def _archive(self, key: str) -> None:
        elements: Any = self._client.lrange(key, 0, -1)
        body = gzip.compress(b"\n".join(elements), 6)
        self.bucket.blob(f"{key}.jsonl.gz").upload_from_string(body, content_type="application/gzip")
        self._client.delete(key)
