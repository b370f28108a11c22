"""Adoption turns a session that another library has written into one of ours; `returning.py` does the reverse.

The keys of the other library and ours are in different slots, so no script can move messages between them. An adoption
has five steps, each atomic, and the next adopter continues where the last one stopped:

1. begin_adoption  writes a record of the adoption in our slot; each session has at most one
2. take_list       renames the other library's list within its slot, and gives it a token; take_documents makes such a
                   list of documents
3. adopt           appends a page of it to our session and updates the record, both in our slot
4. delete_taken    deletes the taken list, when all of it is written; delete_companion what that library had beside it
5. end_adoption    deletes the record

An adopter looks at the taken list only after it has read the record, and a record ends only when its list is gone.
Therefore a late adopter's page is refused, because the record has changed or ended. And a taken list whose token is not
the record's is a new one, because the record's own list has been written and deleted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from torpor.history import calls
from torpor.history.adoption import Adoptable, Adoption, Look, too_large
from torpor.history.errors import NotAdoptable, SessionPurged
from torpor.history.expiry import Expiry
from torpor.history.formats.known import other_format, stored_otherwise
from torpor.history.formats.layout import Layout, Taken
from torpor.history.keys import is_torpors_list
from torpor.history.limits import MAX_MESSAGE_BYTES
from torpor.history.order import Order
from torpor.history.owners import ANY_OWNER, Caller, named_owner
from torpor.history.session import SessionInfo, Status
from torpor.history.store.reading import PAGE_BYTES
from torpor.history.store.runner import Operations, Runner
from torpor.history.store.sources import Source, source_of


class Adopting(Operations):
    """Takes sessions over from other libraries."""

    async def adopt(
        self,
        session_id: str,
        layout: Layout,
        *,
        expiry: Expiry = Expiry(),  # noqa: B008 - frozen
        owner: Caller = None,
        only_known: bool = False,
        allow_reuse: bool = False,
        max_bytes: int = MAX_MESSAGE_BYTES,
    ) -> int:
        """Move another library's messages of a session to the end of ours; returns how many messages were moved.

        One round trip if there are none. If it is killed anywhere, the next call finishes it. If several run at once,
        each message is written once. Messages that the other library adds meanwhile come last. If `expiry` has no idle
        timeout, the rest of the key's TTL becomes the session's. A message that is nested too deep to be read is moved
        as it is. Raises NotAdoptable, also for a message of more than `max_bytes`, OwnerMismatch, SessionPurged, and
        SessionNotFound with `only_known` if the session may be asleep. Then the key stays as it is.
        """
        adopter = _Adopter(self.runner, session_id, layout, expiry, owner, allow_reuse, max_bytes, only_known)
        return await adopter.run()

    async def finish_adoption(self, adoption: Adoption) -> int:
        """Finish an adoption that has begun; returns how many messages were moved."""
        owner = ANY_OWNER if adoption.owner is None else adoption.owner
        adopter = _Adopter(self.runner, adoption.session_id, adoption.layout, owner=owner)
        return await adopter.carry_on(adoption)

    async def adoptable(
        self, session_id: str, layout: Layout, *, owner: Caller = None, max_bytes: int = MAX_MESSAGE_BYTES
    ) -> Adoptable | None:
        """Look at what `adopt` would take; changes nothing. Raises NotAdoptable, OwnerMismatch and SessionPurged."""
        return await _Adopter(self.runner, session_id, layout, owner=owner, max_bytes=max_bytes).look()


@dataclass(frozen=True, slots=True)
class _Adopter:
    """Adopts one session."""

    runner: Runner
    session_id: str
    layout: Layout
    expiry: Expiry = Expiry()  # noqa: RUF009 - frozen
    owner: Caller = None
    allow_reuse: bool = False
    max_bytes: int = MAX_MESSAGE_BYTES
    only_known: bool = False
    source: Source = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", source_of(self.runner, self.session_id, self.layout, self.max_bytes))

    async def run(self) -> int:
        """Adopt until the other library has no messages of the session."""
        moved = 0
        await self.runner.deployed()  # the caller's next operation needs it, too
        while found := await self.find():
            adoption = await self._begin()
            if found.token is None and adoption.layout == self.layout:
                await self.source.take(found)
            owner = self.owner if adoption.owner is None else adoption.owner
            moved += await replace(self, layout=adoption.layout, owner=owner).carry_on(adoption)
        return moved

    async def look(self) -> Adoptable | None:
        """Find the messages to adopt, and show the first and the last."""
        converted: Counter[str] = Counter()
        found = await self.find(converted)
        first = await self._peek(0) if found else None
        last = await self._peek(first.total - 1) if first else None
        if not (first and first.messages and last and last.messages):
            return None  # there is none, or another process takes it
        info = await self._info(self.owner)
        if info and info.status is Status.PURGED and not self.allow_reuse:
            raise SessionPurged(f"session {self.session_id!r} was purged")
        return Adoptable(first.total, self._taken(first.messages[0]), self._taken(last.messages[-1]), converted)

    async def find(self, converted: Counter[str] | None = None) -> Look | None:
        """Find the messages to adopt, and check all of them unless they are taken already; raises NotAdoptable.

        Counts in `converted` the kinds of messages that will be converted.
        """
        key = self._checked_key()
        order = Order()
        found = await self._peek(0)
        if not found:
            await self._check_elsewhere(key)
        while found and found.token is None:
            for position, element in enumerate(found.messages, found.start):
                taken = self._checked(key, element, position)
                order.add(taken.element)
                if taken.converted and converted is not None:
                    converted[taken.converted] += 1
            if found.stop >= found.total:
                await self._check_order(key, order)
                break
            found = await self._peek(found.stop)
        return found

    def _checked(self, key: bytes, element: bytes, position: int) -> Taken:
        taken = self.layout.take(element)
        if taken is None:
            raise NotAdoptable(key, self.layout.no_element, f"message {position}: ")
        if len(taken.element) > self.max_bytes:  # it was not before it was converted
            raise too_large(key, position, self.max_bytes)
        return taken

    async def _check_elsewhere(self, key: bytes) -> None:
        """Refuse to find nothing where another format has the session; raises NotAdoptable."""
        for name, layout in stored_otherwise(self.layout):
            if await source_of(self.runner, self.session_id, layout, self.max_bytes).seems_there():
                raise NotAdoptable(key, f"its messages are stored in another way: name the format {name}")

    def _checked_key(self) -> bytes:
        """The other library's key; raises NotAdoptable if it is another's, whatever stands there."""
        key = self.layout.key(self.session_id)
        if is_torpors_list(key):
            raise NotAdoptable(key, "it is Torpor's own")
        if other := other_format(self.layout, key):
            raise NotAdoptable(key, f"it has the prefix of another format: --format {other}")
        return key

    async def carry_on(self, adoption: Adoption) -> int:
        """Write the taken messages, delete their list and end the adoption; returns how many this adopter wrote."""
        moved = 0
        while (look := await self._peek(adoption.written)) and look.token and adoption.token in (None, look.token):
            if look.messages:
                further = replace(adoption, token=look.token, written=look.stop)
                now = await self._write(adoption, further, look)
                if now is None or now.name != adoption.name:
                    return moved
                moved += len(look.messages) if now == further else 0
                adoption = now
            if adoption.token == look.token and adoption.written >= look.total:
                await self._delete_taken(look.token)
                break
        for companion in self.layout.companions(self.session_id).items():
            await self.runner.perform(calls.delete_companion(*companion))
        await self.runner.perform(calls.end_adoption(await self.runner.deployed(), adoption))
        return moved

    async def _check_order(self, key: bytes, order: Order) -> None:
        """Refuse messages in the other order, and those that may be so unnoticed; raises NotAdoptable.

        If the session is in Redis, they may continue it, and then signs do not count.
        """
        layout = self.layout
        oldest_first = layout.mistakable and not layout.newest_first
        javascripts = oldest_first and order.are_javascripts and not order.is_right
        unclear = javascripts or (oldest_first and order.may_be_javascripts and not order.seems_right)
        if (
            not layout.check_order
            or layout.order_is_certain
            or not (order.seems_wrong or unclear)
            or not (order.is_wrong or javascripts or await self._info(ANY_OWNER) is None)
        ):
            return
        if not order.seems_wrong:
            are = "are as LangChain.js writes them"
            unsure = "show no order, and LangChain.js may have written them"
            raise NotAdoptable(
                key,
                f"its messages {are if javascripts else unsure}, newest first: name the format "
                "langchain-js, or insist with --force or Layout(..., check_order=False)",
            )
        looks, named = ("oldest", "newest") if layout.newest_first else ("newest", "oldest")
        raise NotAdoptable(
            key,
            f"its messages look {looks} first, and the layout says {named} first: {layout.if_reversed} "
            "with --force or Layout(..., check_order=False)",
        )

    async def _info(self, owner: Caller) -> SessionInfo | None:
        return await self.runner.perform(calls.info(await self.runner.deployed(), self.session_id, owner=owner))

    async def _peek(self, start: int) -> Look | None:
        return await self.source.peek(start, PAGE_BYTES)

    async def _begin(self) -> Adoption:
        new = Adoption.new(self.session_id, self.layout, named_owner(self.owner))
        deployment = await self.runner.deployed(record=True)
        return await self.runner.perform(
            calls.begin_adoption(
                deployment, new, owner=self.owner, allow_reuse=self.allow_reuse, only_known=self.only_known
            )
        )

    async def _write(self, adoption: Adoption, further: Adoption, look: Look) -> Adoption | None:
        expiry = replace(self.expiry, idle=self.expiry.idle or look.ttl)
        return await self.runner.perform(
            calls.adopt(
                await self.runner.deployed(),
                adoption,
                further,
                [self._taken(element) for element in look.messages],
                expiry=expiry,
                owner=self.owner,
                allow_reuse=self.allow_reuse,
            )
        )

    def _taken(self, element: bytes) -> bytes:
        """The element to write: as it is if this version can't read what another one has taken."""
        taken = self.layout.take(element)
        return taken.element if taken else element

    async def _delete_taken(self, token: str) -> None:
        await self.runner.perform(calls.delete_taken(self.runner.namespace, self.session_id, self.layout, token))
