"""A chat service on FastAPI: all calls are awaited on one client of redis.asyncio, without threads.

    pip install 'torpor[archive]' fastapi uvicorn langchain langchain-openai
    export MODEL=openai:gpt-5-mini REDIS_URL=redis://localhost:6379/0 ARCHIVE_URL=gs://my-bucket/chats
    uvicorn --app-dir examples fastapi_app:app
    curl localhost:8000/chat/ann-1 --json '{"text": "Where is my order?"}'

DELETE /chat/ann-1 empties the session for good, POST /chat/ann-1/close puts it to sleep now.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from langchain.chat_models import init_chat_model
from langchain_core.messages import HumanMessage
from pydantic import BaseModel

from torpor import InvalidArgument, MemorystoreChatMessageHistory, SessionArchive, SessionHeld, TransientError, connect


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client, one archive and one model for the process."""
    async with connect(os.environ["REDIS_URL"], asynchronous=True) as client:
        app.state.client = client
        app.state.archive = SessionArchive(os.environ["ARCHIVE_URL"])
        app.state.model = init_chat_model(os.environ["MODEL"])
        yield


async def refused(_: Request, error: Exception) -> JSONResponse:
    """The HTTP status of each error of Torpor, with its text, which never has a message of the chat."""
    return JSONResponse({"detail": str(error)}, next(code for kind, code in CODES.items() if isinstance(error, kind)))


CODES = {InvalidArgument: 422, SessionHeld: 409, TransientError: 503}
app = FastAPI(lifespan=lifespan, exception_handlers=dict.fromkeys(CODES, refused))


def history_of(session_id: str, request: Request) -> MemorystoreChatMessageHistory:
    """The history of the session in the path; making one costs nothing."""
    state = request.app.state
    return MemorystoreChatMessageHistory(state.client, session_id, ttl=3600, archive=state.archive)


Chat = Annotated[MemorystoreChatMessageHistory, Depends(history_of)]


class Said(BaseModel):
    """One message, as the service takes and gives it."""

    text: str
    by: str = "human"


@app.post("/chat/{session_id}")
async def answer(said: Said, chat: Chat, request: Request) -> Said:
    """Answer, and write all of the turn or nothing."""
    question = HumanMessage(said.text)
    reply = await request.app.state.model.ainvoke([*await chat.aget_messages(), question])
    await chat.aadd_messages([question, reply])
    return Said(text=reply.text, by=reply.type)


@app.get("/chat/{session_id}")
async def transcript(chat: Chat) -> list[Said]:
    """The transcript, oldest first; wakes the session if it sleeps."""
    return [Said(text=message.text, by=message.type) for message in await chat.aget_messages()]


@app.delete("/chat/{session_id}", status_code=204)
async def clear(chat: Chat) -> None:
    """Empty the session for good."""
    await chat.aclear()


@app.post("/chat/{session_id}/close")
async def close(chat: Chat) -> bool:
    """Have a worker put the session to sleep now; false if it is asleep."""
    return await chat.aclose()
