"""`torpor scripts`: the scripts for programs in other languages are those that Python sends."""

from __future__ import annotations

import pytest
import redis

from support.command import Torpor
from support.paths import ROOT
from torpor.history.scripts import all_scripts

pytestmark = pytest.mark.parametrize("archive_url", ["folder"], indirect=True)


def test_every_script_is_printed_as_redis_gets_it(torpor: Torpor, client: redis.Redis) -> None:
    done = torpor("scripts", "--json", REDIS_URL=None, ARCHIVE_URL=None)
    printed = done.json
    assert set(printed) == {path.stem for path in (ROOT / "history" / "lua").glob("*.lua")}
    assert {name: each["source"].encode() for name, each in printed.items()} == {
        each.name: each.source for each in all_scripts()
    }
    for each in printed.values():
        assert client.script_load(each["source"]) == each["sha1"]


def test_a_script_is_printed_by_its_name(torpor: Torpor) -> None:
    assert list(torpor("scripts", "read", "append", "--json").json) == ["read", "append"]
    assert [line.split()[0] for line in torpor("scripts", "read").out.splitlines()] == ["script", "read"]
    refused = torpor("scripts", "read", "wrote")
    assert (refused.code, refused.out) == (2, "")
    assert "there is no script wrote" in refused.err
