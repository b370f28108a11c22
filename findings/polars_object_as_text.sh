#!/usr/bin/env bash
# polars reads a JSON object into a column of text as other JSON: a backslash before a letter changes what was said.
#
# Versions: polars 2.1.0.
# Why it matters: pl.String is how to keep objects whose fields differ, such as the arguments of tools, in one column.
#   polars parses the object and writes it anew, but escapes only quotes and line breaks in values, and nothing in keys.
#   C:\new is read as C:, a line break and "ew"; other texts are no JSON any more. No option and no error says so.
# Seen:
#   'C:\\new' comes back as 'C:\new'
#   'a\\c' comes back as no JSON
#   'a\tb' comes back as no JSON
#   the key 'a"b' comes back as no JSON
# Source: "schema: [...] a dict of {name:type} pairs", of scan_ndjson; that an object may be read as text is documented
#   nowhere, and no error forbids it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q polars==2.1.0

"$folder/venv/bin/python" -W ignore - "$folder/lines.jsonl" <<'PY'
import json
import sys
from pathlib import Path
from typing import Any

import polars as pl


def read(arguments: dict[str, Any]) -> Any:
    """The object as polars reads it into a column of text; None if that is no JSON."""
    Path(sys.argv[1]).write_text(json.dumps({"arguments": arguments}) + "\n")
    [text] = pl.scan_ndjson(sys.argv[1], schema={"arguments": pl.String}).collect()["arguments"]
    try:
        return json.loads(text)
    except ValueError:
        return None


def told(found: Any) -> str:
    return "no JSON" if found is None else repr(found["text"])


assert read({"text": 'say "hi"\n'}) == {"text": 'say "hi"\n'}
changed = read({"text": "C:\\new"})
print(f"{'C:' + chr(92) + 'new'!r} comes back as {told(changed)}")
broken = [read({"text": text}) for text in ("a\\c", "a\tb")]
for text, found in zip(("a\\c", "a\tb"), broken, strict=True):
    print(f"{text!r} comes back as {told(found)}")
key = read({'a"b': 1})
print("the key 'a\"b' comes back as", "no JSON" if key is None else key)
sys.exit(0 if changed == {"text": "C:\new"} and broken == [None, None] and key is None else "the behaviour is gone")
PY
