"""The ways in which each command is used, in one table: which options count together.

An option that has no effect beside another one is refused, before anything is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torpor.history.protocol import InvalidArgument


@dataclass(frozen=True, slots=True)
class Way:
    """One way to use a command. Each field has the names of options and arguments, separated by blanks.

    `chosen_by` are those that choose this way, such as `--id`, or `ACTION=fork` for the value of an argument. `takes`
    are the others that have an effect then. With `--dry-run`, those of `act` have none: they are accepted, so that the
    same line can be run without it. `met` are accepted because what they ask for happens anyway.
    """

    chosen_by: str = ""
    takes: str = ""
    act: str = ""
    met: str = ""

    @property
    def choice(self) -> frozenset[str]:
        """What chooses this way; with the value of an argument, if it matters."""
        return frozenset(self.chosen_by.split())

    @property
    def others(self) -> Sequence[str]:
        """What is accepted beside it."""
        return f"{self.takes} {self.act} {self.met}".split()

    @property
    def names(self) -> Sequence[str]:
        """All that is accepted."""
        return [*(each.partition("=")[0] for each in self.chosen_by.split()), *self.others]


@dataclass(frozen=True, slots=True)
class Usage:
    """The ways to use a command. The first one whose choice was given counts.

    Of `apart`, one option alone may be given. `settings` are the options that may stand before the command's name.
    """

    ways: tuple[Way, ...]
    apart: str = ""
    settings: str = "--redis-url --archive-url --namespace"

    def check(self, given: Mapping[str, str], settings: Sequence[str] = ()) -> None:
        """Raise InvalidArgument if something was given that does not count.

        `given` has the names and values of the command's own options and arguments, and `settings` the names of the
        options before the command.
        """
        idle = [name for name in settings if name not in self.settings.split()]
        if idle:
            raise InvalidArgument(f"{idle[0]} has no effect on this command: leave it out before its name")
        both = [name for name in self.apart.split() if name in given]
        if len(both) > 1:
            raise InvalidArgument(f"give only one of {_listed(both)}")
        stated = given.keys() | {f"{name}={value}" for name, value in given.items()}
        way = next((way for way in self.ways if way.choice <= stated), None)
        if way is None:
            raise InvalidArgument(f"give {', or '.join(self._least([way.choice for way in self.ways]))}")
        for name in given:
            if name not in way.names:
                raise InvalidArgument(self._refusal(name, way))

    def _refusal(self, name: str, way: Way) -> str:
        """Why an option does not count: another one is missing, or one that is there leaves no use for it."""
        further = [each for each in self.ways if each.choice > way.choice]
        missing = [each.choice - way.choice for each in further if name in each.names]
        if missing:
            return f"{name} needs {' or '.join(self._least(missing))}"
        beside = dict.fromkeys([*way.others, *(each for more in further for each in more.names)])
        only = [each for each in beside if each not in way.choice]
        return f"{name} can't be given with {self._said(way.choice)}" + (f": only {_listed(only)} can" if only else "")

    def _least(self, choices: Sequence[frozenset[str]]) -> list[str]:
        """The choices in words, without those that only add something to another one."""
        least = [each for each in choices if not any(other < each for other in choices)]
        return [self._said(each) for each in dict.fromkeys(least)]

    def _said(self, choice: frozenset[str]) -> str:
        """A choice in words, in the order of the table; of an argument that has a certain value, the value."""
        order = dict.fromkeys(each for way in self.ways for each in way.chosen_by.split())
        return _listed([each.rpartition("=")[2] for each in order if each in choice])


def _listed(names: Sequence[str]) -> str:
    """Names in words: `a, b and c`."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if names[1:] else names[0]


_WHO = "--by --reason"
_JSON_ALONE = Way(takes="--json")
_ONE = Way(takes=f"SESSION {_WHO} --json")
_NARROWED = "--kind --prefix --since --limit --cursor"
_PURGED = "--scope --record-nothing-found --dry-run --json"
_CHANGED = "--force --dry-run --json"
_ASKED_FIRST = f"--yes {_WHO}"
_GIVEN_BACK = f"--prefix --ttl {_WHO} --json"
_EXAMINED = "--assume --messages --archive"
_ADOPTED = "--prefix --owner --owner-pattern --force --rate --json"

USAGES: Mapping[str, Usage] = {
    "status": Usage((Way(takes="--archive --json"),)),
    "top": Usage((Way("--json", "--last", met="--once"), Way("--once", "--last"), Way(takes="--interval --last"))),
    "deployment": Usage(
        (
            Way("ACTION=move-archive", _CHANGED, act=_ASKED_FIRST),
            Way("ACTION=recover", f"--give-up {_CHANGED}", act=_ASKED_FIRST),
            Way("ACTION=fork", _CHANGED, act=_ASKED_FIRST),
            Way(takes="ACTION --json"),
        )
    ),
    "sessions": Usage(
        (
            Way("--id", "--json"),
            Way("--count-asleep", "--rate --json"),
            Way("--conflicts", "--limit --json"),
            Way("--owner --asleep", f"{_NARROWED} --json"),
            Way("--owner", f"{_NARROWED} --due --json"),
            Way("--all", f"{_NARROWED} --rate --json"),
            Way("--asleep", f"{_NARROWED} --rate --json"),
            Way(takes=f"{_NARROWED} --due --rate --json"),
        )
    ),
    "show": Usage((_ONE,)),
    "sweep": Usage((Way("--dry-run", "--json", act=_WHO, met="--once"), Way(takes=f"--once {_WHO} --json"))),
    "archive": Usage((_ONE,)),
    "restore": Usage((_ONE,)),
    "purge": Usage(
        (
            Way("--resume", f"{_WHO} --json", met="--yes"),
            Way("--session", _PURGED, act=_ASKED_FIRST),
            Way("--owner", f"--idle-for {_PURGED}", act=_ASKED_FIRST),
            Way("--idle-for", _PURGED, act=_ASKED_FIRST),
        )
    ),
    "purge-status": Usage((Way(takes="ID --json"),)),
    "receipts": Usage((Way("ID", met="--json"), _JSON_ALONE)),
    "hold": Usage((Way("--session", f"{_WHO} --json"), Way("--owner", f"{_WHO} --json"))),
    "unhold": Usage((Way("--session", f"{_WHO} --json"), Way("--owner", f"{_WHO} --json"))),
    "holds": Usage((_JSON_ALONE,)),
    "audit": Usage((Way(takes="--by --act --session --owner --purge --job --since --limit --json"),)),
    "bucket": Usage((Way("--apply", f"{_WHO} --json"), _JSON_ALONE)),
    "events": Usage((Way(takes="--follow --count --json"),)),
    "console": Usage((Way(takes="--host --port"),)),
    "serve-metrics": Usage((Way(takes="--port"),)),
    "quarantine": Usage((_JSON_ALONE,)),
    "requeue": Usage((Way("SESSION", f"{_WHO} --json"), Way("--all", f"{_WHO} --json"))),
    "doctor": Usage(
        (
            Way("--detach", f"--repair {_EXAMINED} --rate {_WHO} --json", met="--share"),
            Way("--share", f"--repair {_EXAMINED} --rate {_WHO} --json"),
            Way("--repair", f"{_EXAMINED} {_WHO} --json"),
            Way(takes=f"{_EXAMINED} --json"),
        )
    ),
    "import": Usage((Way(takes="FILE --owner --owner-field --dry-run --json", act=f"--ttl {_WHO}"),)),
    "export": Usage(
        (
            Way("--owner --output", f"{_WHO} --json"),
            Way("--all --parquet --here", f"{_WHO} --json"),
            Way("--all --output --here", f"{_WHO} --json"),
            Way("--all --parquet", f"--detach --rate {_WHO} --json"),
            Way("--all --output", f"--detach --rate {_WHO} --json"),
            Way("--all --to", _GIVEN_BACK),
            Way("--all --to-memorystore", _GIVEN_BACK),
            Way("--all", _WHO),
            Way("SESSION --parquet", f"{_WHO} --json"),
            Way("SESSION --output", f"{_WHO} --json"),
            Way("SESSION --to", _GIVEN_BACK),
            Way("SESSION --to-memorystore", _GIVEN_BACK),
            Way("SESSION", _WHO),
        ),
        apart="--output --parquet --to --to-memorystore",
    ),
    "sql": Usage((Way(takes="ENGINE"),), settings="--archive-url"),
    "jobs": Usage((Way("--cancel", f"{_WHO} --json"), Way("--resume", f"{_WHO} --json"), Way(takes="ID --json"))),
    "compress": Usage(
        (
            Way("--dry-run", "--rate --json", act=_WHO),
            Way("--here", f"--rate {_WHO} --json"),
            Way(takes=f"--detach --rate {_WHO} --json"),
        )
    ),
    "adopt": Usage(
        (
            Way("--detect", "--json"),
            Way("--match --format --dry-run", _ADOPTED, act=f"--ttl {_WHO}"),
            Way("--match --format --here", f"{_ADOPTED} --ttl {_WHO}"),
            Way("--match --format", f"{_ADOPTED} --ttl --detach {_WHO}"),
        ),
        apart="--owner --owner-pattern",
    ),
    "assign-owner": Usage(
        (
            Way("FILE", "--dry-run --json", act=_ASKED_FIRST),
            Way("--match --owner", "--dry-run --json", act=_ASKED_FIRST),
            Way("--match --owner-pattern", "--dry-run --json", act=_ASKED_FIRST),
        )
    ),
    "separate": Usage((_ONE,)),
    "scripts": Usage((Way(takes="NAME --json"),), settings=""),
    "demo": Usage((Way(takes="--conversations --redis-url --archive-url --keep --console"),), settings=""),
}
