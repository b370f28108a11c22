"""Options that don't count together are refused: each pair of options of each command, by the table of usages."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import pytest

from torpor.history.protocol import InvalidArgument
from torpor.worker.cli.commands import COMMANDS, _load, check_usage, name_of
from torpor.worker.cli.usage import USAGES

EACH = pytest.mark.parametrize("command", COMMANDS)
# What options and arguments take that take neither a number nor any text.
WORDS = {
    "ACTION": "show",
    "ENGINE": "duckdb",
    "--act": "show",
    "--assume": "new",
    "--format": "community",
    "--kind": "chat",
    "--scope": "live",
    "--to": "community",
}
WITH_DRY_RUN = [name for name, usage in USAGES.items() if any("--dry-run" in way.names for way in usage.ways)]


@cache
def loaded(command: str) -> Any:
    return _load(command)


@cache
def parameters(command: str) -> dict[str, Any]:
    """The options and arguments of a command, by the names that the table has."""
    return {name_of(each): each for each in loaded(command).params}


def given(command: str, name: str) -> list[str]:
    """An option or an argument on a command line, with a value that it takes."""
    name, _, value = name.partition("=")
    parameter = parameters(command)[name]
    some = value or WORDS.get(name, "1")
    if parameter.param_type_name == "argument":
        return [some]
    return [name] if parameter.is_flag else [name, some]


def check(command: str, *names: str) -> None:
    """Check a command line with these options, and with those that the command can't do without."""
    values = {name.partition("=")[0]: name for name in reversed(names)}  # what chooses the way comes first
    needed = {name: name for name, each in parameters(command).items() if each.required}
    line = [word for name in (needed | values).values() for word in given(command, name)]
    check_usage(loaded(command).make_context(command, line, obj={}))


def is_refused(command: str, *names: str) -> bool:
    try:
        check(command, *names)
    except InvalidArgument:
        return True
    return False


def test_each_command_has_its_usages() -> None:
    assert USAGES.keys() == COMMANDS.keys()


@EACH
def test_the_table_has_each_option_and_each_argument_of_a_command_and_no_other(command: str) -> None:
    assert {name for way in USAGES[command].ways for name in way.names} == parameters(command).keys()
    for way in USAGES[command].ways:
        assert len(way.names) == len(set(way.names)), "each once"


@EACH
def test_each_way_can_be_gone_with_each_of_its_options(command: str) -> None:
    for way in USAGES[command].ways:
        check(command, *way.choice)
        for name in way.others:
            check(command, *way.choice, name)


@EACH
def test_two_options_that_no_way_has_together_are_refused_with_whatever_else(command: str) -> None:
    apart = USAGES[command].apart.split()
    for one, other in combinations(parameters(command), 2):
        together = [way for way in USAGES[command].ways if {one, other} <= set(way.names)]
        if together and not {one, other} <= set(apart):
            assert any(not is_refused(command, *way.choice, one, other) for way in together)
        else:
            for way in USAGES[command].ways:
                assert is_refused(command, *way.choice, one, other), (way, one, other)


@pytest.mark.parametrize("command", WITH_DRY_RUN)
def test_a_dry_run_accepts_what_the_line_without_it_has(command: str) -> None:
    for way in USAGES[command].ways:
        if "--dry-run" in way.names:
            for name in way.act.split():
                check(command, *way.choice, "--dry-run", name)


@pytest.mark.parametrize("command", COMMANDS)
def test_options_before_a_command_that_has_no_use_for_them_are_refused(command: str) -> None:
    way = USAGES[command].ways[0]
    line = [word for name in way.choice for word in given(command, name)]
    line += [word for name, each in parameters(command).items() if each.required for word in given(command, name)]
    context = loaded(command).make_context(command, line, obj={"redis_url": "redis://elsewhere"})
    if USAGES[command].settings:
        check_usage(context)
    else:
        with pytest.raises(InvalidArgument, match="--redis-url has no effect on this command"):
            check_usage(context)


@pytest.mark.parametrize(
    ("command", "names", "said"),
    [
        (
            "sessions",
            "--count-asleep --limit",
            "--limit can't be given with --count-asleep: only --rate and --json can",
        ),
        ("sessions", "--id --limit", "--limit can't be given with --id: only --json can"),
        ("jobs", "ID --by", "--by needs --cancel or --resume"),
        ("deployment", "--force", "--force needs move-archive or recover or fork"),
        ("requeue", "SESSION --all", "--all can't be given with SESSION: only --by, --reason and --json can"),
        ("export", "--all --ttl", "--ttl needs --to or --to-memorystore"),
        ("export", "SESSION --output --to", "give only one of --output and --to"),
        ("adopt", "", "give --detect, or --match and --format"),
    ],
)
def test_the_refusal_says_what_can_be_given(command: str, names: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check(command, *names.split())
    assert str(refused.value) == said
