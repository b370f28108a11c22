"""Lines of exports: whatever a session has stored, an import of its line has the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from torpor.worker.errors import ImportFailed
from torpor.worker.transfer import json_texts
from torpor.worker.transfer.json_lines import FORMAT, Conversation, export_line, read_conversations

ELEMENTS = [
    b'{"type":"human","data":{"content":"Wie geht\'s? \xf0\x9f\x98\x80"}}',
    b'{"role": "user", "content": "an item of the Agents SDK"}',
    b'{"type":"function_call","name":"f","arguments":"{}","call_id":"1"}',
    b'{"type": "human",\n "data": {"content": "two lines"}}',
    b'{"a":\r1}',
    b'{"a":1,"a":2,"n":1.0,"e":1e2,"big":123456789012345678901234567890}',
    b'{"nan":[NaN,-Infinity]}',
    b'{"half":"\\ud83d"}',
    b'{"raw":"AA=="}',
    b'{"raw":7}',
    b' {"a":1} ',
    b"null",
    b'"text"',
    b"",
    b"\xff",
    b"\xed\xa0\xbd",
    '{"a":1}'.encode("utf-16"),
    "\N{BYTE ORDER MARK}{}".encode(),
    '"\N{LINE SEPARATOR}"'.encode(),
    b"1],[2",
    b'{"a":1},{"b":2}',
    b"9" * 5_000,
    b"[" * 900 + b"]" * 900,
    b"[" * 100_000,
    b'{"text":"' + b"[{" * 500 + b'"}',
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
written = json_values.flatmap(lambda value: st.sampled_from([json.dumps(value), json.dumps(value, indent=1)]))
elements = st.sampled_from(ELEMENTS) | st.binary() | written.map(str.encode)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(elements))
@example(ELEMENTS)
@example([])
def test_an_import_of_an_export_has_the_same_bytes(tmp_path: Path, stored: list[bytes]) -> None:
    line = b"".join(export_line("s\n😀", stored))
    assert line.count(b"\n") == 1
    file = tmp_path / "file"
    file.write_bytes(line)
    assert list(read_conversations(file)) == [Conversation("s\n😀", stored)]


@pytest.mark.parametrize("element", ELEMENTS[:3])
def test_a_program_that_reads_an_export_finds_the_messages_as_they_are(element: bytes) -> None:
    assert json.loads(b"".join(export_line("s", [element])))["messages"] == [json.loads(element)]


def test_a_tool_may_write_the_line_in_its_own_way(tmp_path: Path) -> None:
    file = tmp_path / "file"
    line = {"messages": [{"x": [1.0]}, {"raw": "/w=="}], "more": {}, "format": FORMAT, "session_id": "s"}
    file.write_text("\N{BYTE ORDER MARK}" + json.dumps(line, separators=(" , ", " : ")))
    assert list(read_conversations(file)) == [Conversation("s", [b'{"x" : [1.0]}', b"\xff"])]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ('[{"raw":7}]', "not int|should be"),
        ('[{"raw":"A"}]', "padding|base64"),
        ('{"raw":"AA=="}', "expected"),
    ],
)
def test_a_damaged_export_is_refused(tmp_path: Path, messages: str, reason: str) -> None:
    file = tmp_path / "file"
    file.write_text(f'{{"session_id":"s","format":"{FORMAT}","messages":{messages}}}')
    with pytest.raises(ImportFailed, match=rf"line 1: .*({reason})"):
        list(read_conversations(file))


def test_a_format_of_another_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text('{"session_id":"s","format":"torpor-messages/2","messages":[]}')
    with pytest.raises(ImportFailed, match=r"torpor-messages/2.*torpor-messages/1"):
        list(read_conversations(file))


@given(st.dictionaries(st.text(), json_values), st.sampled_from([None, 0, 2]))
def test_the_texts_of_members_and_items_are_those_of_the_document(value: dict[str, object], indent: int | None) -> None:
    def same(text: str, part: object) -> bool:
        return json.dumps(json.loads(text)) == json.dumps(part)

    texts = json_texts.members(json.dumps(value, indent=indent))
    assert texts.keys() == value.keys()
    assert all(same(texts[key], value[key]) for key in value)
    listed = list(value.values())
    texts_of_items = json_texts.items(json.dumps(listed, indent=indent))
    assert len(texts_of_items) == len(listed)
    assert all(map(same, texts_of_items, listed))
