"""The command that prints the Lua scripts, for applications in other languages than Python."""

from __future__ import annotations

from typing import Annotated

import typer

from torpor.history.protocol import InvalidArgument, all_scripts
from torpor.worker.cli import printing
from torpor.worker.cli.shared import Json


def scripts(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these scripts.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Print the Lua scripts, for programs in other languages.

    A table has their names and the SHA-1 that EVALSHA knows them by. With --json, each name has its `sha1` and its
    `source`, so that a program in another language can send the same scripts. Needs neither Redis nor settings.

    Example: torpor scripts append read --json > scripts.json
    """
    known = {each.name: each for each in all_scripts()}
    if unknown := set(names or ()) - known.keys():
        raise InvalidArgument(f"there is no script {', '.join(sorted(unknown))}")
    wanted = [known[name] for name in names or known]
    if as_json:
        printing.print_json({each.name: {"sha1": each.sha, "source": each.source.decode()} for each in wanted})
    else:
        rows = ([each.name, each.sha, printing.size(len(each.source))] for each in wanted)
        printing.print_table(["script", "SHA-1", "size"], rows)
