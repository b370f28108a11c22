"""torpor sessions --conflicts and torpor separate: ids that two owners have used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from support.command import Torpor
from torpor import MemorystoreChatMessageHistory, SessionArchive
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session


@pytest.fixture
def archive_url(scratch: Path) -> str:
    """One kind of store is enough here."""
    return (scratch / "archive").as_uri()


def say(services: Services, owner: str, *texts: str) -> None:
    chat = MemorystoreChatMessageHistory(services.sessions.client, "s", owner=owner)
    chat.add_messages([HumanMessage(text) for text in texts])


def test_both_sides_of_a_conflict_are_listed_and_shown(services: Services, torpor: Torpor) -> None:
    assert torpor("sessions", "--conflicts", "--json").out == ""
    say(services, "ann", "one", "two")
    archive_session(services, "s")
    say(services, "mallory", "three")
    archived = SessionArchive(services.archive.url)
    anns = MemorystoreChatMessageHistory(services.sessions.client, "s", owner="ann", archive=archived)
    assert len(anns.messages) == 2

    conflict = json.loads(torpor("sessions", "--conflicts", "--json").out)
    other = conflict["other"]
    assert conflict["session"] == "s"
    assert conflict["own"] == {"session": "s", "owner": "ann", "messages": 2, "place": "redis"}
    assert (other["owner"], other["messages"], other["place"]) == ("mallory", 1, "redis")
    assert "three" in torpor("show", other["session"]).out
    assert "three" not in torpor("show", "s").out
    assert other["session"] in torpor("sessions", "--conflicts").out


def test_a_session_that_is_one_owners_is_not_separated(services: Services, torpor: Torpor) -> None:
    say(services, "ann", "one")
    archive_session(services, "s")
    assert torpor("separate", "s").code == 3
