"""What a log or a traceback prints of our own data has no words of a person."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import torpor

# Bytes that are no messages: tokens of leases and restores, values of Redis, names of keys.
HARMLESS = {
    ("Call", "keys"),
    ("Lease", "claim"),
    ("Lease", "due"),
    ("Lease", "token"),
    ("LegalHold", "value"),
    ("RestoreTicket", "token"),
    ("Script", "source"),
    ("ShardKeys", "tag"),
}


def data_classes() -> Iterator[type[Any]]:
    for module in pkgutil.walk_packages(torpor.__path__, "torpor."):
        if module.name in ("torpor.__main__", "torpor.worker.app"):  # these are programs
            continue
        for each in vars(importlib.import_module(module.name)).values():
            # isinstance() alone would ask Celery's proxies, which then want their configuration.
            if not (issubclass(type(each), type) and isinstance(each, type)):
                continue
            if dataclasses.is_dataclass(each) and each.__module__ == module.name:
                yield each


def test_no_repr_shows_the_bytes_of_messages() -> None:
    shown = {
        (each.__name__, field.name)
        for each in data_classes()
        for field in dataclasses.fields(each)
        if field.repr and "bytes" in str(field.type)
    }
    assert shown <= HARMLESS, "give such a field repr=False"


def test_the_repr_of_what_is_read_and_written_has_no_text() -> None:
    from torpor.history.calls import Deployment, append
    from torpor.history.keys import Keyspace
    from torpor.history.session import Page

    needle = b'{"content":"a needle"}'
    page = Page(1, 0, 1, 0, [needle])
    call = append(Deployment(Keyspace("torpor", 4)), "s", [needle], request=b"12345678")
    assert "needle" not in f"{page!r} {page} {call!r}"


def test_an_error_about_a_message_names_no_key_and_no_value_of_it() -> None:
    from langchain_core.messages import HumanMessage

    from torpor.history.adapters.items import encode_item
    from torpor.history.adapters.messages import encode_message
    from torpor.history.protocol import MessageNotSerializable

    for bad in ({"needle": {1}}, {"a": {"needle": [{"needle": b"needle"}]}}, {"\ud800needle": 1j}):
        with pytest.raises(MessageNotSerializable) as caught:
            encode_message(HumanMessage("x", additional_kwargs=bad))
        with pytest.raises(MessageNotSerializable) as of_item:
            encode_item({"role": "user", "content": bad})
        for error in (caught.value, of_item.value):
            assert "needle" not in f"{error} {error!r} {error.__cause__!r}"
            assert error.__suppress_context__
