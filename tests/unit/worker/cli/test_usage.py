"""Options that don't count together are refused: each pair of options of each command, by the table of usages."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from importlib import import_module
from itertools import combinations
from typing import Any

import pytest
from typer.main import get_command

from torpor.history.protocol import InvalidArgument
from torpor.worker.cli.commands import COMMANDS, _load, app, check_usage, name_of
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


# The options before the name of a command; a flag is done before the command is looked at.
OF_ALL: list[Any] = get_command(app).params
BEFORE = [name_of(each) for each in OF_ALL if not each.is_flag]


def read_settings(command: str) -> set[str]:
    """The settings that a command reads of those that options before its name override, by its source.

    A command that connects, or hands the settings on, reads all; `load_settings(context.obj).archive_url` reads one.
    """
    overridden = {name.removeprefix("--").replace("-", "_") for name in BEFORE}
    module, _, function = COMMANDS[command].where.partition(".")
    tree = ast.parse(inspect.getsource(import_module(f"torpor.worker.cli.{module}")))
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
    seen, waiting, read = set[str](), [function], set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        nodes = list(ast.walk(functions[name]))
        alone = {each.value: each.attr for each in nodes if isinstance(each, ast.Attribute)}
        for each in (each for each in nodes if isinstance(each, ast.Call)):
            called = ast.unparse(each.func)
            if called in functions and called not in seen:
                waiting.append(called)
            if called in ("connected", "services_of", "redis_of"):
                read |= overridden
            if ast.unparse(each) == "load_settings(context.obj)":
                read |= {alone[each]} & overridden if each in alone else overridden
    return read


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


def check(command: str, *names: str, obj: dict[str, str] | None = None) -> None:
    """Check a command line with these options, and with those that the command can't do without."""
    values = {name.partition("=")[0]: name for name in reversed(names)}  # what chooses the way comes first
    needed = {name: name for name, each in parameters(command).items() if each.required}
    line = [word for name in (needed | values).values() for word in given(command, name)]
    check_usage(loaded(command).make_context(command, line, obj=obj or {}))


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


def is_refused_after(command: str, setting: str, *names: str) -> bool:
    """As `is_refused`, with an option before the name of the command."""
    try:
        check(command, *names, obj={setting.removeprefix("--").replace("-", "_"): "elsewhere"})
    except InvalidArgument as error:
        assert str(error) == f"{setting} has no effect on this command: leave it out before its name"
        return True
    return False


@EACH
def test_an_option_before_a_command_that_has_no_use_for_it_is_refused_beside_each_of_its_own(command: str) -> None:
    assert set(USAGES[command].settings.split()) <= set(BEFORE)
    for setting in BEFORE:
        for way in USAGES[command].ways:
            for name in ((), *((each,) for each in way.others)):
                idle = setting not in USAGES[command].settings.split()
                assert is_refused_after(command, setting, *way.choice, *name) == idle, (setting, way, name)


@EACH
def test_an_option_before_a_command_counts_only_if_the_command_reads_it(command: str) -> None:
    counts = USAGES[command].settings.split()
    assert {f"--{name.replace('_', '-')}" for name in read_settings(command)} == set(counts)


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
