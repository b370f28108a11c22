"""Each request to a bucket is counted once, by its verb and by how it ended."""

from __future__ import annotations

from collections import Counter

import pytest

from support.storage_proxy import StorageProxy, answered
from torpor.history.protocol import Expiry
from torpor.worker import measures
from torpor.worker.deployment.events import record_measures
from torpor.worker.deployment.services import Services, connect
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

pytestmark = [
    pytest.mark.parametrize("archive_url", ["gcs"], indirect=True),
    pytest.mark.usefixtures("as_in_cloud_storage"),
]
# The proxy's kinds of requests, by the verb that counts them.
VERBS = {"upload": "put", "list": "list", "read": "read", "delete": "delete", "patch": "amend"}
ELEMENT = b'{"type": "human", "data": {"content": "hello"}}'


@pytest.fixture
def measured(services: Services, proxy: StorageProxy) -> Services:
    """The services as a worker connects them. What was before is not counted."""
    connected = connect(services.settings)
    measures.take()
    proxy.heal()
    return connected


def counted(services: Services) -> Counter[str]:
    """The requests of the deployment by verb and outcome."""
    record_measures(services)
    found = services.sessions.measures().measures.items()
    return Counter({series.removeprefix("requests:"): n for series, n in found if series.startswith("requests:")})


def due(services: Services, owner: str | None = "ann") -> None:
    services.sessions.append("s", [ELEMENT], expiry=Expiry.of_seconds(3_600), owner=owner)


def test_what_the_way_of_a_session_costs_is_counted_as_the_bucket_sees_it(
    measured: Services, proxy: StorageProxy
) -> None:
    due(measured)
    assert archive_session(measured, "s").outcome is Outcome.ARCHIVED
    legal_hold.hold_session(measured, "s", "case 12")
    legal_hold.hold_session(measured, "s", None)
    restore_session(measured, "s")
    measured.sessions.clear("s", owner="ann")
    assert archive_session(measured, "s").messages == 0
    kinds = proxy.kinds()
    assert kinds.count("describe") == kinds.count("patch"), "an amendment reads the metadata first"
    seen = Counter(f"{VERBS[kind]}:ok" for kind in kinds if kind != "describe")
    assert counted(measured) == seen
    assert {each.partition(":")[0] for each in seen} == set(VERBS.values())


@pytest.mark.parametrize(("status", "times", "outcome"), [(503, 1, "ok"), (403, 1_000, "unavailable")])
def test_a_request_is_counted_once_by_its_outcome_whatever_its_retries(
    measured: Services, proxy: StorageProxy, status: int, times: int, outcome: str
) -> None:
    due(measured, owner=None)
    proxy.fail(answered(status), "upload", times=times)
    assert bool(archive_session(measured, "s").error) == (outcome != "ok")
    assert proxy.kinds().count("upload") == (2 if outcome == "ok" else 1)
    assert {each: n for each, n in counted(measured).items() if each.startswith("put")} == {f"put:{outcome}": 1}
