"""How deep an element is nested, and which elements are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.history.elements import parse_json
from torpor.history.errors import InvalidArgument, MessageNotSerializable, MessageTooLarge
from torpor.history.limits import MAX_DEPTH, check_elements, check_max_message_bytes, depth, has_too_many_values

VALUES = st.recursive(
    st.none() | st.integers() | st.text() | st.sampled_from(["[", '"{', "\\", '\\"]', "}}"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


def levels(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(levels, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(levels, value), default=0)
    return 0


@given(VALUES)
def test_the_depth_counts_open_brackets_outside_of_strings(value: Any) -> None:
    assert depth(json.dumps(value).encode()) == levels(value)


def nested(deep: int) -> bytes:
    return b'{"a":' * (deep - 1) + b"[]" + b"}" * (deep - 1)


def test_elements_at_the_limits_are_accepted() -> None:
    check_elements([nested(MAX_DEPTH), b'"%b"' % (b"[" * 5_000), b"[]," * 5_000, b"x" * 100], 100_000)


@pytest.mark.parametrize("deep", [MAX_DEPTH + 1, 995, 5_000])
def test_a_deeper_element_is_refused_and_its_depth_is_named(deep: int) -> None:
    with pytest.raises(MessageNotSerializable, match=rf"message 1 .* nested {deep:,} levels deep; 200 is the limit"):
        check_elements([b"{}", nested(deep)], 100_000)


def test_an_element_with_many_brackets_takes_no_long_look() -> None:
    check_elements([b"[" + b"[]," * 1_000_000 + b"0]"], 10_000_000)


def test_a_larger_element_is_refused_and_its_size_is_named() -> None:
    with pytest.raises(MessageTooLarge, match=r"message 2 .* has 1,001 bytes; 1,000 is the limit"):
        check_elements([b"{}", b"x" * 1_000, b"x" * 1_001], 1_000)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "16", None, 2**29 + 1])
def test_a_limit_is_a_whole_number_up_to_what_redis_takes(limit: Any) -> None:
    with pytest.raises(InvalidArgument, match="max_message_bytes"):
        check_max_message_bytes(limit)


@pytest.mark.parametrize("deep", [MAX_DEPTH, 202, 600])
def test_what_was_written_before_there_was_a_limit_is_still_read(deep: int) -> None:
    assert parse_json(nested(deep))["a"]


@pytest.mark.parametrize("deep", [100_000, 500_000])
def test_json_that_no_reader_takes_is_a_value_error(deep: int) -> None:
    with pytest.raises(ValueError, match="too deep"):
        parse_json(nested(deep))


@pytest.mark.parametrize("value", [b"[],", b"{},", b'{"a":{}},', b'"ab",', b"1,"])
def test_a_message_of_values_alone_has_too_many_of_them_and_one_of_text_has_not(value: bytes) -> None:
    """Unless they are few: reading them takes less than 16 MiB then."""
    assert has_too_many_values(b"[%b0]" % (value * 400_000))
    assert not has_too_many_values(b"[%b0]" % (value * 15_000))
    assert not has_too_many_values(b'{"type":"human","data":{"content":"%b"}}' % (value.replace(b'"', b"'") * 400_000))
