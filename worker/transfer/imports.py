"""Import: writes the conversations of a file to Redis."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from torpor.history.protocol import ANY_OWNER, Expiry, SessionExists, SessionInfo, SessionPurged, Status
from torpor.worker.archive import contents
from torpor.worker.deployment.services import Services
from torpor.worker.errors import ImportFailed
from torpor.worker.transfer.json_lines import Conversation, OwnerSource, read_conversations

_BATCH = 100


@dataclass(slots=True)
class Imported:
    """The counts of an import, done or planned.

    `skipped` sessions were in Redis or the archive already. Those of them that have no owner, although the file names
    one, are `unowned`. `purged` ones stay away, because somebody had them erased.
    """

    sessions: int = 0
    messages: int = 0
    skipped: int = 0
    unowned: int = 0
    purged: int = 0


@dataclass(frozen=True, slots=True)
class _There:
    """What Redis and the archive have of a line's session."""

    info: SessionInfo | None
    archived: contents.Contents

    def __bool__(self) -> bool:
        return self.info is not None or bool(self.archived)

    @property
    def is_purged(self) -> bool:
        return self.info is not None and self.info.status is Status.PURGED

    @property
    def owners(self) -> set[str]:
        live = [self.info.owner] if self.info and self.info.owner is not None else []
        return {*live, *self.archived.owners}


def import_file(
    services: Services,
    path: Path,
    *,
    owners: OwnerSource = OwnerSource(),  # noqa: B008 - frozen
    expiry: Expiry = Expiry(),  # noqa: B008 - frozen
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Imported:
    """Write a file's conversations to Redis, each in one atomic turn.

    Repeatable: a session that is in Redis or the archive already is skipped, and one that was purged is passed over.
    `progress` is called after each line with the number of new sessions. Raises ImportFailed, as `check` does before.
    """
    imported = Imported()
    for conversation in read_conversations(path, owners, max_message_bytes=services.settings.max_message_bytes):
        found = _look(services, conversation.session_id)
        there = found or _write(services, conversation, expiry, dry_run=dry_run)
        _count(imported, path, conversation, there)
        progress(imported.sessions)
    return imported


def check(services: Services, path: Path, owners: OwnerSource) -> None:
    """Raise ImportFailed if a line is wrong, has a message above the limit, or names another owner than its session."""
    limit = services.settings.max_message_bytes
    read = read_conversations(path, owners, max_message_bytes=limit)
    sized = (_check_sizes(path, each, limit) for each in read)
    named = (replace(each, elements=[]) for each in sized if each.owner is not None)  # a batch may be large
    with ThreadPoolExecutor(services.settings.concurrency) as pool:
        while batch := list(islice(named, _BATCH)):
            looks = pool.map(lambda each: _look(services, each.session_id), batch)
            for conversation, there in zip(batch, looks, strict=True):
                _check_owner(path, conversation, there)


def _check_sizes(path: Path, conversation: Conversation, limit: int) -> Conversation:
    for position, element in enumerate(conversation.elements):
        if len(element) > limit:
            raise ImportFailed(
                f"{path}, line {conversation.line}: message {position} has {len(element):,} bytes; "
                f"{limit:,} is the limit (TORPOR_MAX_MESSAGE_BYTES)"
            )
    return conversation


def _check_owner(path: Path, conversation: Conversation, there: _There) -> None:
    if conversation.owner is not None and not there.is_purged and there.owners - {conversation.owner}:
        raise ImportFailed(
            f"{path}, line {conversation.line}: session {conversation.session_id!r} exists, "
            f"and belongs to another owner than {conversation.owner!r}"
        )


def _look(services: Services, session_id: str) -> _There:
    return _There(services.sessions.info(session_id, owner=ANY_OWNER), contents.look(services.archive, session_id))


def _write(services: Services, conversation: Conversation, expiry: Expiry, *, dry_run: bool) -> _There | None:
    """Write a conversation whose session is new; None if that is done, else what is there since the last look."""
    if dry_run:
        return None
    try:
        services.sessions.append(
            conversation.session_id,
            conversation.elements,
            expiry=expiry,
            owner=conversation.owner,
            only_new=True,
            max_bytes=services.settings.max_message_bytes,
            max_depth=None,  # an export has what Redis had, and the depth of other messages is checked before
        )
    except (SessionExists, SessionPurged):
        return _look(services, conversation.session_id)
    return None


def _count(imported: Imported, path: Path, conversation: Conversation, there: _There | None) -> None:
    if there is None:
        imported.sessions += 1
        imported.messages += len(conversation.elements)
    elif there.is_purged:
        imported.purged += 1
    else:
        _check_owner(path, conversation, there)
        imported.skipped += 1
        imported.unowned += conversation.owner is not None and not there.owners
