"""A chat in the terminal with an agent of the OpenAI Agents SDK, whose session sleeps when nobody talks.

    pip install 'torpor[agents,archive]'
    export OPENAI_API_KEY=...
    python examples/agents_chat.py gpt-5-mini --session ann-1 --archive gs://my-bucket/chats

Start it again with the same session when a worker has put it to sleep: the chat goes on where it ended. An empty line
ends it, and "undo" takes the last turn back.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress

from agents import Agent, Runner

from torpor import MemorystoreSession, SessionArchive, connect


async def undo(session: MemorystoreSession) -> None:
    """Take items back up to the user's last one."""
    while item := await session.pop_item():
        if item.get("role") == "user":
            return


async def chat(agent: Agent, session: MemorystoreSession) -> None:
    """Answer line by line."""
    while question := await asyncio.to_thread(input, "you: "):
        if question == "undo":
            await undo(session)
        else:
            result = await Runner.run(agent, question, session=session)
            print("ai:", result.final_output)


async def main() -> None:
    """Open the session and chat."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="of OpenAI")
    parser.add_argument("--session", required=True)
    parser.add_argument("--redis", default="redis://localhost:6379/0")
    parser.add_argument("--archive", required=True, help="gs://bucket/prefix or file:///path, as the workers have it")
    options = parser.parse_args()

    agent = Agent(name="assistant", instructions="Be brief.", model=options.model)
    archive = SessionArchive(options.archive)
    async with connect(options.redis, asynchronous=True) as client:
        with suppress(EOFError):
            await chat(agent, MemorystoreSession(client, options.session, ttl=3600, archive=archive))


if __name__ == "__main__":
    asyncio.run(main())
