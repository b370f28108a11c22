"""Each parameter that names something, or the place where a list goes on, is checked: a malformed one is a 400."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from support.cli_sessions import sleep
from support.pages_read import Browser, browser
from support.paths import ROOT
from support.two_sides import contents_of
from torpor.worker.console.serving.page_table import PAGES
from torpor.worker.deployment.services import Services

pytestmark = pytest.mark.slow

# No session, owner, purge, job, copy, cursor, entry, number or span is like this.
MALFORMED = "no id/" * 400
ID = "20260101T120000Z-0a1b2c3d"
S, P = {"id": "s"}, {"id": ID}
# Path -> the parameters that are checked, each with the others that its request needs.
CHECKED: dict[str, dict[str, dict[str, str]]] = {
    "/": {},
    "/samples": {"span": {}},
    "/figures": {"span": {}},
    "/sessions": {name: {} for name in ("id", "owner", "kind", "state", "since", "cursor")},
    "/session": {"id": {}},
    "/session/transcript": {"id": {}, "page": S, "message": S, "start": {**S, "message": "0"}, "form": S},
    "/session/transcript/reason": {"id": {}},
    "/session/sleep": {"id": {}},
    "/session/wake": {"id": {}},
    "/session/requeue": {"id": {}},
    "/sessions/stop": {},
    "/person": {"owner": {}, "cursor": {"owner": "ann"}},
    "/holds": {"kind": {"id": "s"}, "id": {"kind": "session"}},
    "/hold": {"session": {}, "owner": {}},
    "/hold/set": {"session": {}, "owner": {}},
    "/hold/release": {"session": {}, "owner": {}},
    "/copy": {"id": {}},
    "/copy/begin": {"owner": {}},
    "/copy/file": {"id": {}},
    "/copy/delete": {"id": {}},
    "/erase": {"session": {}, "owner": {}, "cursor": {"owner": "ann"}},
    "/erase/order": {
        "session": {"purge": ID, "typed": MALFORMED},
        "owner": {"purge": ID, "typed": MALFORMED},
        "purge": {"session": "s", "typed": "s"},
    },
    "/purges": {"owner": {}, "before": {}},
    "/purge": {"id": {}},
    "/purge/receipt": {"id": {}},
    "/purge/inventory": {"id": {"object": "x"}},
    "/purge/resume": {"id": {}},
    "/audit": {name: {} for name in ("act", "session", "owner", "purge", "job", "since", "after")},
    "/quarantine": {"after": {}},
    "/quarantine/requeue": {"chosen-1": {}},
    "/quarantine/requeue-all": {},
    "/bucket": {},
    "/doctor": {},
    "/doctor/examine": {},
    "/jobs": {"before": {}},
    "/job": {"id": {}},
    "/job/cancel": {"id": {}},
    "/job/resume": {"id": {}},
}
# What people write, what asks for a part of a page, an inventory's name that is compared with those there are, and a
# search that is one's own.
FREE = {"by", "prefix", "reason", "typed", "part", "object", "search"}
EACH = [(path, name) for path, names in CHECKED.items() for name in names]
ACTS = {page.path for page in PAGES if page.acts}


@pytest.fixture
def console(services: Services) -> Iterator[Browser]:
    sleep(services.sessions.client, services, "s", owner="ann")
    with browser(services) as opened:
        yield opened


def test_each_page_and_each_parameter_is_in_the_table() -> None:
    assert CHECKED.keys() == {page.path for page in PAGES}
    sources = "".join(each.read_text() for each in (ROOT / "worker" / "console").rglob("*.py"))
    read = set(re.findall(r'given\("([a-z]+)"', sources)) | set(re.findall(r'_number\(visit, "([a-z]+)"', sources))
    for fields in re.findall(r"_(?:FIELDS|FILTERS) = \(([^)]*)\)", sources):
        read |= set(re.findall(r'"([a-z]+)"', fields))
    assert read == {name for _, name in EACH if "-" not in name} | FREE


@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
@pytest.mark.parametrize(("path", "name"), EACH)
def test_a_malformed_parameter_is_refused(services: Services, console: Browser, path: str, name: str) -> None:
    query = {**CHECKED[path][name], name: MALFORMED}
    before = contents_of(services.sessions, services.archive)
    shown = console.post(path, {**query, "reason": "r"}) if path in ACTS else console.get(path, **query)
    assert shown.status == 400, shown.text
    assert contents_of(services.sessions, services.archive) == before
