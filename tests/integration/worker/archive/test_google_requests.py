"""Requests that Google's libraries send end in time, and keep no more than was asked for."""

from __future__ import annotations

import gzip
import io
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from google.auth.exceptions import TransportError
from google.auth.transport.requests import Request

from support.pouring import DRIPPING, POURED, pouring
from support.signing import signing_settings
from support.tls import HOST
from support.waiting import scaled
from torpor.history.clients.bounded_http import bounded_session
from torpor.worker.archive.stores import StoredObject
from torpor.worker.archive.stores.gcs import GcsStore
from torpor.worker.errors import ArchiveUnavailable

MIB = 1024 * 1024
# Python's own client of HTTP takes an interim reply other than 100 for the reply.
DRIPPED = {name: said for name, said in DRIPPING.items() if name != "interim replies"}
PATIENCE = 0.4


@contextmanager
def in_time() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < scaled(3)


@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("said", DRIPPED.values(), ids=DRIPPED.keys())
def test_a_reply_that_drips_does_not_outlive_its_time(said: bytes, retries: int) -> None:
    with (
        pouring(said, at_a_time=4, pause=0.01) as url,
        bounded_session(retries=retries) as session,
        in_time(),
        pytest.raises(requests.RequestException, match="timed out"),
    ):
        session.get(url, timeout=(1.0, 0.2))


def test_a_request_that_nobody_takes_does_not_outlive_its_time() -> None:
    with (
        socket.create_server((HOST, 0)) as listening,
        bounded_session() as session,
        in_time(),
        pytest.raises(requests.RequestException, match="timed out"),
    ):
        session.post(f"http://{HOST}:{listening.getsockname()[1]}", data=b"x" * 50 * MIB, timeout=(1.0, 0.01))


@pytest.mark.parametrize("said", [POURED["a body"] * 2, POURED["chunks"]], ids=["a body", "chunks"])
@pytest.mark.parametrize("asked", [None, 100_000])
def test_no_more_is_taken_than_was_asked_for(said: bytes, asked: int | None) -> None:
    headers = {} if asked is None else {"Range": f"bytes=0-{asked - 1}"}
    with (
        pouring(said, at_a_time=100_000, pause=0.0) as url,
        bounded_session() as session,
        pytest.raises(requests.ConnectionError, match=f"larger than the {asked or MIB} bytes"),
    ):
        session.get(url, headers=headers, timeout=(1.0, scaled(10)))


def test_no_more_is_unpacked_than_was_asked_for() -> None:
    packed = gzip.compress(b"x" * 3 * MIB)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    with (
        pouring(head + packed, at_a_time=100_000, pause=0.0) as url,
        bounded_session() as session,
        pytest.raises(requests.ConnectionError, match="larger than"),
    ):
        session.get(url, timeout=(1.0, scaled(10)))


def test_a_reply_arrives_as_it_was_sent_unpacked_or_as_it_is() -> None:
    packed = gzip.compress(b"hello")
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    with pouring(head + packed, at_a_time=3, pause=0.0) as url, bounded_session() as session:
        assert session.get(url, timeout=(1.0, scaled(10))).content == b"hello"
        ranged: Any = session.get(url, headers={"Range": "bytes=0-99"}, stream=True, timeout=(1.0, scaled(10))).raw
        assert b"".join(ranged.stream(2, decode_content=False)) == packed


@pytest.mark.parametrize("said", DRIPPED.values(), ids=DRIPPED.keys())
def test_large_objects_are_sent_and_read_in_time(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pouring(said, at_a_time=4, pause=0.01) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        store = GcsStore("bucket", "chats", threads=1, patience=PATIENCE)
        with in_time(), pytest.raises(ArchiveUnavailable):
            store.put("o", io.BytesIO(b"x" * 2 * MIB), 2 * MIB, metadata={})
        with in_time(), pytest.raises(ArchiveUnavailable), store.open(StoredObject("o", 5 * MIB, 1)) as body:
            body.read(1)


def test_of_a_large_object_no_more_is_taken_than_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pouring(POURED["a body"] * 3, at_a_time=100_000, pause=0.0) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        store = GcsStore("bucket", "chats", threads=1, patience=PATIENCE * 5)
        with pytest.raises(ArchiveUnavailable, match="larger than"), store.open(StoredObject("o", 5 * MIB, 1)) as body:
            body.read(1)


@pytest.mark.parametrize("said", DRIPPED.values(), ids=DRIPPED.keys())
def test_a_token_is_waited_for_no_longer_than_the_request_that_needs_it(
    said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    with pouring(said, at_a_time=4, pause=0.01) as url:
        account = {
            "type": "service_account",
            "client_email": "torpor@a-project",
            "token_uri": url,
            "private_key": signing_settings(tmp_path, "account")["signing_key"].read_text(),
        }
        (tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        with in_time(), pytest.raises(ArchiveUnavailable):
            GcsStore("bucket", "chats", threads=1, patience=PATIENCE).check()
        with bounded_session() as session, in_time(), pytest.raises(TransportError):
            Request(session)(url, timeout=0.2)
