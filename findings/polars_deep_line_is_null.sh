#!/usr/bin/env bash
# polars' json_path_match finds nothing in a line with 128 levels of nesting: every path is null, without an error.
#
# Versions: polars 2.1.0.
# Why it matters: a message or the arguments of a tool may be nested deep, and its session id is not. One deep value makes
#   each path of its line null, so that the row has no session, and a filter or a group leaves it out. A line that is no
#   JSON at all looks the same. str.json_decode reads the same text.
# Seen:
#   127 levels: s1
#   128 levels: None
#   128 levels, json_decode: s1
#   no JSON: None
# Source: Expr.str.json_path_match, "Throws errors if invalid JSON strings are encountered. [...] Contains null values
#   if original value is null or the json_path returns nothing."
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q polars==2.1.0

"$folder/venv/bin/python" -W ignore - <<'PY'
import json
import sys
from typing import Any

import polars as pl


def line(levels: int) -> str:
    value: Any = "x"
    for _ in range(levels - 1):  # the line itself is one
        value = [value]
    return json.dumps({"session": "s1", "arguments": value})


def session(text: str) -> str | None:
    return pl.Series([text]).str.json_path_match("$.session")[0]


def decoded(text: str) -> str:
    try:
        return pl.Series([text]).str.json_decode(pl.Struct({"session": pl.String}))[0]["session"]
    except pl.exceptions.PolarsError as error:
        return type(error).__name__


seen = [session(line(127)), session(line(128)), decoded(line(128)), session("no JSON")]
for what, found in zip(("127 levels", "128 levels", "128 levels, json_decode", "no JSON"), seen, strict=True):
    print(f"{what}: {found}")
sys.exit(0 if seen == ["s1", None, "s1", None] else "the behaviour is gone")
PY
