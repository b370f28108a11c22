"""One session, for `torpor sessions --id`: its facts, its life and its objects."""

from __future__ import annotations

from datetime import datetime

from torpor.worker.access.life import Life, life
from torpor.worker.cli import printing
from torpor.worker.deployment.services import Services


def life_of(services: Services, session_id: str, *, as_json: bool) -> None:
    """Print all that is known of a session without its messages."""
    seen = life(services, session_id)
    if as_json:
        printing.print_json(seen)
        return
    if seen.unavailable:
        printing.warn(f"warning: the archive does not answer, so this is only what Redis knows: {seen.unavailable}")
    printing.print_facts(_facts(seen))
    printing.print_table(
        ("when", "what", "messages", "detail"),
        [
            (_moment(each.at), each.step, "-" if each.messages is None else f"{each.messages:,}", each.detail or "-")
            for each in seen.happenings
        ],
    )
    printing.print_table(
        ("object", "what", "messages", "size", "written", "held"),
        [
            (
                each.name,
                each.what,
                "-" if each.messages is None else f"{each.messages:,}",
                printing.size(each.size),
                _moment(each.created),
                "held" if each.held else "no",
            )
            for each in seen.objects
        ],
    )


def _facts(seen: Life) -> dict[str, str]:
    holds = {
        f"hold of the {hold.kind}": hold.damage
        or f"{hold.reason}, since {_moment(hold.since)}{f', by {hold.by}' if hold.by else ''}"
        for hold in seen.holds
    }
    others = {
        f"used by {other.owner or 'somebody else'} too": f"{other.messages:,} messages in {other.place}"
        for other in seen.others
    }
    return {
        "session": seen.session_id,
        "state": seen.state,
        "kind": seen.kind or "-",
        "owner": seen.owner or "-",
        "messages": f"{seen.messages:,} in Redis, {seen.archived:,} in the archive",
        "created": _moment(seen.created),
        "last active": _moment(seen.last_active),
        "due": _moment(seen.due_at),
        "idle timeout": printing.span(seen.idle_timeout),
        "retention": printing.span(seen.retention) if seen.retention else "for ever",
        "expires": _moment(seen.expires),
        **holds,
        **others,
        **({"error": f"{seen.error or 'none'} ({seen.attempts} attempts)"} if seen.attempts or seen.error else {}),
        **({"purge": seen.purge} if seen.purge else {}),
    }


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "-"
