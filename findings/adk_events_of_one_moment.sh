#!/usr/bin/env bash
# ADK's DatabaseSessionService returns events that have the same time in the order of their random ids.
#
# Versions: google-adk 2.13.0 with SQLAlchemy 2.1.9 and aiosqlite 0.22.1.
# Why it matters: a conversation that is brought over from a store whose times are whole seconds can have a question, a
#   tool call, its result and the answer at one time. They come back shuffled, and `num_recent_events` returns others
#   than the last. A model that gets a tool's result before its call refuses the conversation or misreads it.
#   SqliteSessionService of the same package, and the service in memory that tests use, keep the order.
# Seen, for 20 conversations of four such events (the last count is chance: one order in 24 is the right one):
#   InMemorySessionService: 20 of 20 in the order in which they were appended
#   SqliteSessionService: 20 of 20 in the order in which they were appended
#   DatabaseSessionService: 0 of 20 in the order in which they were appended
# Source: `get_session` sorts by time and then by id, so that the order is the same at each read; the ids are random
#   UUIDs. https://github.com/google/adk-python/issues/453 shows what a shuffled history does.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q google-adk==2.13.0 SQLAlchemy==2.1.9 aiosqlite==0.22.1 greenlet==3.5.6

"$folder/venv/bin/python" -W ignore - "$folder" <<'PY'
import asyncio
import sys

from google.adk.events import Event
from google.adk.sessions import BaseSessionService, DatabaseSessionService, InMemorySessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai.types import Content, Part

APPENDED = ["question", "tool call", "result", "answer"]
CONVERSATIONS = 20


async def in_order(service: BaseSessionService) -> int:
    """How many conversations of one second come back as they were appended."""
    same = 0
    for number in range(CONVERSATIONS):
        chat = {"app_name": "app", "user_id": "ann", "session_id": f"chat {number}"}
        session = await service.create_session(**chat)
        for text in APPENDED:
            event = Event(author="agent", timestamp=1_700_000_000.0, content=Content(parts=[Part(text=text)]))
            await service.append_event(session, event)
        stored = await service.get_session(**chat)
        same += [event.content.parts[0].text for event in stored.events] == APPENDED
    return same


async def main() -> dict[str, int]:
    services = [
        InMemorySessionService(),
        SqliteSessionService(f"{sys.argv[1]}/one.db"),
        DatabaseSessionService(f"sqlite+aiosqlite:///{sys.argv[1]}/other.db"),
    ]
    return {type(service).__name__: await in_order(service) for service in services}


seen = asyncio.run(main())
for name, same in seen.items():
    print(f"{name}: {same} of {CONVERSATIONS} in the order in which they were appended")
memory, sqlite, database = seen.values()
sys.exit(0 if memory == sqlite == CONVERSATIONS and database < CONVERSATIONS / 2 else "the behaviour is gone")
PY
