"""A deployment in which every page of the console has something to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from support.cli_sessions import chat, say, sleep
from support.graphs import begin
from support.keyspace import raw
from torpor import MemorystoreSaver
from torpor.history.keys import samples_key
from torpor.worker.access import listing
from torpor.worker.bulk import adopting
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders, purge
from torpor.worker.erasure.order import Order
from torpor.worker.jobs import look
from torpor.worker.jobs.job import Job
from torpor.worker.pace import Pace
from torpor.worker.retention import legal_hold
from torpor.worker.sleep.attempt import archive_session

# Name -> the page's address; what is in braces is known once the deployment is there.
PAGES = {
    "overview": "/",
    "figures": "/figures?span=day",
    "sessions": "/sessions",
    "sessions of an owner": "/sessions?owner=ann",
    "session awake": "/session?id=ann/orders",
    "session asleep": "/session?id=ann/travel",
    "thread": "/session?id=ann/refund",
    "transcript": "/session/transcript?id=ann/travel",
    "transcript of a thread": "/session/transcript?id=ann/refund",
    "message": "/session/transcript?id=ann/travel&message=1",
    "people": "/person",
    "person": "/person?owner=ann",
    "holds": "/holds",
    "hold": "/hold?session=ann/held",
    "erase": "/erase?owner=ann",
    "purges": "/purges",
    "purge": "/purge?id={purge}",
    "audit": "/audit",
    "quarantine": "/quarantine",
    "bucket": "/bucket",
    "doctor": "/doctor",
    "jobs": "/jobs",
    "job": "/job?id={job}",
}
# What is no page for people to read, and what needs a copy that the console itself has made.
FILES = {"/samples", "/purge/receipt", "/purge/inventory", "/copy", "/copy/file"}
# What the pages must say.
TEXTS = {
    "overview": ["Live", "Asleep, as last counted", "Fell asleep"],
    "sessions": ["ann/orders"],
    "sessions of an owner": ["ann/orders", "ann/travel"],
    "session asleep": ["asleep"],
    "transcript": ["find_trains", "the 9:14 to Lyon"],
    "person": ["ann/travel"],
    "holds": ["case 12/2026"],
    "hold": ["case 12/2026"],
    "erase": ["ann/travel", "case 12/2026"],
    "purges": ["carl"],
    "purge": ["complete", "request 16"],
}


@dataclass
class Shown:
    """The addresses of the pages."""

    ids: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> str:
        return PAGES[name].format(**self.ids)

    def texts(self, name: str) -> Sequence[str]:
        return TEXTS.get(name, ())


def fill(services: Services) -> Shown:
    """Sessions of three owners, a thread, a hold, a finished purge, an open job, and samples; before a worker runs."""
    client = services.sessions.client
    say(client, "ann/orders", "Where is my order?", owner="ann")
    sleep(client, services, "ann/held", "Please cancel it.", owner="ann")
    assert legal_hold.hold_session(services, "ann/held", "case 12/2026", "counsel@example.com")
    _travel(services)
    begin("agent", MemorystoreSaver(client, owner="ann"), "ann/refund")
    for number in range(12):
        say(client, f"bob/{number:02}", "Good morning", owner="bob")
    sleep(client, services, "carl/1", "Delete my data.", owner="carl")
    order = orders.place(services, Order.of(owner="carl", requested_by="dpo@example.com", reason="request 16"))
    purge.carry_out(services, order.id)
    deployment = services.sessions.identity().deployment
    assert deployment
    arguments = adopting.Arguments(format="memorystore", match="other:*")
    job = look.place(services, Job.of(adopting.NAME, arguments, deployment=deployment))
    _samples(services)
    assert sum(map(len, listing.asleep(services, Pace(1_000), counts=True)))
    return Shown({"purge": order.id, "job": job.id})


def _travel(services: Services) -> None:
    client = services.sessions.client
    call = {"name": "find_trains", "args": {"to": "Lyon", "day": "2026-12-03"}, "id": "call-1"}
    chat(client, "ann/travel").add_messages(
        [
            HumanMessage("I would like to go to Lyon on Thursday morning."),
            AIMessage("Let me look.", tool_calls=[call]),
            ToolMessage("09:14, 10:02", tool_call_id="call-1", name="find_trains"),
            AIMessage("You could take the 9:14 to Lyon. Shall I book a seat by the window?"),
        ]
    )
    archive_session(services, "ann/travel")


def _samples(services: Services) -> None:
    """A sample for each five minutes of the last day, as short as the parts of its plots."""
    client = services.sessions.client
    seconds, _ = raw(client, "TIME")
    key = samples_key(services.settings.namespace)
    for ago in range(1_430, 0, -5):
        minute = 1_430 - ago
        figures = {"live": 900 - minute // 4, "waiting": minute % 90, "archived": 9 * minute, "restored": 2 * minute}
        memory = {"memory_kib": 700_000 - 150 * minute, "memory_limit_kib": 1_048_576}
        pairs = [str(each) for pair in (figures | memory).items() for each in pair]
        raw(client, "XADD", key, f"{1000 * (int(seconds) - 60 * ago)}-0", *pairs)
