"""Sessions that the command purges or holds."""

from __future__ import annotations

import redis
from langchain_core.messages import HumanMessage

from support.command import Result
from torpor import MemorystoreChatMessageHistory
from torpor.worker.deployment.services import Services
from torpor.worker.erasure import orders, receipts
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome


def chat(client: redis.Redis, session_id: str, owner: str | None = "ann") -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(client, session_id, 3600, owner=owner)


def say(client: redis.Redis, session_id: str, *texts: str, owner: str | None = "ann") -> None:
    chat(client, session_id, owner).add_messages([HumanMessage(text) for text in texts or ("hello",)])


def sleep(client: redis.Redis, services: Services, session_id: str, *texts: str, owner: str | None = "ann") -> None:
    say(client, session_id, *texts, owner=owner)
    assert archive_session(services, session_id).outcome is Outcome.ARCHIVED


def the_id(services: Services) -> str:
    """The id of the only purge there is."""
    [found] = [*orders.open_orders(services), *receipts.finished(services)]
    return found


def harmless(*results: Result) -> bool:
    return not any(char in result.out + result.err for result in results for char in "\x1b\x9b\u202e")
