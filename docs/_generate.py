# ruff: noqa: INP001 - a hook of mkdocs, not a package
"""Makes the pages of the site that come from the code, and keeps links to files outside docs/ right.

mkdocs calls the functions whose names begin with `on_`. `python docs/_generate.py` writes the tables of settings and of
metrics into their pages, so that the repository shows them too; a test compares.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

# Page of the site -> file of the repository that it shows.
SHOWN = {
    "index.md": "README.md",
    "examples.md": "examples/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?!https?:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)]*)?\)")
_BLOCK = "<!-- generated: {name} -->\n(?P<body>.*?)<!-- generated: end -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that show files of the repository."""
    from mkdocs.structure.files import File

    for page, source in SHOWN.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs's
    """Fill the generated parts of a page, and point its links at pages of the site."""
    uri = page.file.src_uri
    for name, make in GENERATED.items():
        if f"<!-- generated: {name} -->" in markdown:
            markdown = filled(markdown, name, make())
    return with_links(markdown, uri, config.repo_url)


def with_links(markdown: str, uri: str, repository: str | None) -> str:
    """Links between files of the repository as links between pages; without a page and a `repository`, as text."""
    source = SHOWN.get(uri, f"docs/{uri}")
    pages = {shown: page for page, shown in SHOWN.items()}

    def linked(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["path"]))
        page = pages.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        if page:
            return f"[{match['text']}]({os.path.relpath(page, posixpath.dirname(uri) or '.')}{match['anchor'] or ''})"
        return f"[{match['text']}]({repository.rstrip('/')}/blob/main/{target})" if repository else match["text"]

    return _LINK.sub(linked, markdown)


def filled(markdown: str, name: str, body: str) -> str:
    """The page with another text in one of its generated parts."""
    block = re.compile(_BLOCK.format(name=name), re.DOTALL)
    return block.sub(lambda _: f"<!-- generated: {name} -->\n{body}<!-- generated: end -->", markdown)


def metrics_table() -> str:
    """Every metric, as the table in the code has it."""
    from torpor.worker.monitoring.table import markdown

    return markdown()


def instruments_table() -> str:
    """Every metric that OpenTelemetry gets."""
    from torpor.worker.meters import markdown

    return markdown()


def settings_table() -> str:
    """Every setting, its default and its description, as the settings class has them."""
    from torpor.worker.deployment.settings import PREFIX, Settings

    return _settings_of(Settings, PREFIX)


def console_settings_table() -> str:
    """Every setting of the web console."""
    from torpor.worker.console.settings import ConsoleSettings
    from torpor.worker.deployment.settings import CONSOLE_PREFIX

    return _settings_of(ConsoleSettings, CONSOLE_PREFIX)


def _settings_of(settings: Any, prefix: str) -> str:
    from pydantic import SecretStr

    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in settings.model_fields.items():
        default = "required"
        if not field.is_required():
            value = field.get_default()
            value = value.get_secret_value() if isinstance(value, SecretStr) else value
            default = "" if value is None or value == frozenset() else f"`{value}`"
        rows.append(f"| `{prefix}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def acts_table() -> str:
    """Every act that has an entry in the audit trail, and where people do it."""
    from torpor.worker.audit.act import Act
    from torpor.worker.cli.commands import COMMANDS
    from torpor.worker.console.serving.page_table import PAGES

    rows = ["| act | command | console |", "| --- | --- | --- |"]
    for act in Act:
        commands = [f"`torpor {name}`" for name, each in COMMANDS.items() if act in _acts(each.acts)]
        pages = [f"`{page.path}`" for page in PAGES if page.entry is act]
        rows.append(f"| `{act}` | {', '.join(commands) or '-'} | {', '.join(pages) or '-'} |")
    return "\n".join(rows) + "\n"


def no_entry_table() -> str:
    """Every command, and every form and file of the console, that has no entry in the audit trail, by the reason."""
    from torpor.worker.audit.act import LOOKS, NoEntry
    from torpor.worker.cli.commands import COMMANDS
    from torpor.worker.console.serving.page_table import PAGES

    found: dict[str, list[str]] = {}
    for name, command in COMMANDS.items():
        if isinstance(command.acts, NoEntry):
            found.setdefault(command.acts.why, []).append(f"`torpor {name}`")
    for page in PAGES:
        if isinstance(page.entry, NoEntry) and page.entry is not LOOKS:
            found.setdefault(page.entry.why, []).append(f"`{page.path}`")
    found[LOOKS.why].append("the other pages of the console")
    rows = ["| what | why it has no entry |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| {', '.join(names)} | {why} |" for why, names in found.items())]) + "\n"


def _acts(of_command: Any) -> tuple[Any, ...]:
    return of_command if isinstance(of_command, tuple) else ()


def commands() -> str:
    """The help of every command, as a terminal shows it."""
    from typer.testing import CliRunner

    from torpor.worker.cli.commands import COMMANDS, app

    runner = CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"})
    return "\n".join(
        f"## torpor {name}\n\n```text\n{runner.invoke(app, [name, '--help'], prog_name='torpor').output.strip()}\n```\n"
        for name in COMMANDS
    )


def public_names() -> str:
    """What mkdocstrings is to show of each public name, in order."""
    import torpor

    return "\n".join(f"::: {_path(name)}\n    options:\n      heading_level: 2\n" for name in _documented(torpor))


def _documented(package: Any) -> list[str]:
    return sorted(name for name in package.__all__ if not name.startswith("_"))


def _path(name: str) -> str:
    """Where a public name is defined, since mkdocstrings reads the source and the package imports names lazily."""
    value = getattr(importlib.import_module("torpor"), name)
    if inspect.isclass(value) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    return f"torpor.{name}"


def _formats() -> Any:
    source = importlib.util.spec_from_file_location("_formats", ROOT / "docs" / "_formats.py")
    assert source
    assert source.loader
    formats = importlib.util.module_from_spec(source)
    source.loader.exec_module(formats)
    return formats


def kinds_table() -> str:
    """What Torpor does with each kind of message that LangChain.js writes."""
    return str(_formats().kinds_table())


def formats_table() -> str:
    """What Torpor does with the messages of each format and package."""
    return str(_formats().formats_table())


GENERATED: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "console settings": console_settings_table,
    "acts": acts_table,
    "acts without an entry": no_entry_table,
    "metrics": metrics_table,
    "instruments": instruments_table,
    "formats": formats_table,
    "kinds": kinds_table,
    "commands": commands,
    "api": public_names,
}
# The pages that the repository shows with their tables: generated part -> page.
WRITTEN = {
    "settings": "reference/settings.md",
    "console settings": "reference/settings.md",
    "acts": "access.md",
    "acts without an entry": "access.md",
    "metrics": "metrics.md",
    "instruments": "metrics.md",
    "formats": "migrating.md",
    "kinds": "migrating.md",
}


def main() -> None:
    """Write the tables that the repository shows."""
    for part, name in WRITTEN.items():
        page = ROOT / "docs" / name
        page.write_text(filled(page.read_text(encoding="utf-8"), part, GENERATED[part]()), encoding="utf-8")


if __name__ == "__main__":
    main()
