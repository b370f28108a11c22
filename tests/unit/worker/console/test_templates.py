"""Every template keeps to the rules of the content security policy and of forms."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import nodes

from torpor.worker.console import rendering

FOLDER = Path(rendering.__file__).with_name("templates")
TEMPLATES = sorted(FOLDER.rglob("*.html"))
LABELLED = {"input", "select", "textarea"}
# Inputs that show nothing, or name themselves.
UNLABELLED = {"hidden", "submit", "button"}
# Addresses that a browser follows or loads.
ADDRESSES = {"href", "src", "action", "formaction", "hx-get", "hx-post"}


class Elements(HTMLParser):
    """The elements of a template as it is written, with placeholders for what Jinja puts in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.forms: list[tuple[dict[str, str], list[str]]] = []
        self.labels: set[str] = set()
        self.wrapped: list[dict[str, str]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.found.append((tag, given))
        if tag == "form":
            self.forms.append((given, []))
        if tag == "label":
            self.labels.add(given.get("for", ""))
            self._open.append(tag)
        if tag in LABELLED and self._open:
            self.wrapped.append(given)
        if tag == "input" and self.forms:
            self.forms[-1][1].append(given.get("name", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "label":
            self._open.pop()


def value_of(match: re.Match[str]) -> str:
    """A word in place of an expression, the same for the same one: it may stand in an attribute."""
    return "v" + re.sub(r"\W+", "_", match[1].strip())


def elements(path: Path) -> Elements:
    return Elements(plain(path))


def plain(path: Path) -> str:
    """A template without Jinja's statements, and with words in place of its expressions."""
    text = re.sub(r"\{\{(.*?)\}\}", value_of, path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\{#.*?#\}|\{%.*?%\}", "", text, flags=re.DOTALL)


def test_there_are_templates() -> None:
    assert {"base.html", "overview.html"} <= {path.name for path in TEMPLATES}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_value_gets_around_escaping(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe\b|autoescape|Markup|xmlattr|\|\s*tojson\b", text)
    tree = rendering.templates().parse(text)
    assert not {each.name for each in tree.find_all(nodes.Filter)} & {"safe", "xmlattr", "tojson", "forceescape"}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_element_has_a_script_or_style_of_its_own(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"<(style|iframe|object|embed|svg|meta http-equiv)\b", text)
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    for tag, given in elements(path).found:
        assert not {name for name in given if name.startswith(("on", "hx-on")) or name in {"style", "hx-vals"}}, tag
        for name in ADDRESSES & set(given):
            # A value may be a part of an address, but not its beginning, where it could name a scheme or a host;
            # those that begin with a value must come from the console's own code (`static`, `target`, ...).
            assert re.match(r"/(?!/)|#|\?|v[a-z]|https://", given[name]), (tag, name, given[name])


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_value_in_an_attribute_is_quoted(path: Path) -> None:
    for tag in re.findall(r"<[a-z](?:\"[^\"]*\"|'[^']*'|[^\"'>])*>", plain(path)):
        bare = re.sub(r"\"[^\"]*\"|'[^']*'", "", tag)
        assert not re.search(r"=[^\s>]", bare), tag


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_form_that_acts_posts_with_the_token_and_the_others_have_none(path: Path) -> None:
    for form, names in elements(path).forms:
        assert form["method"] in {"get", "post"}, form
        assert ("csrf" in names) == (form["method"] == "post"), form


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_field_has_a_label(path: Path) -> None:
    page = elements(path)
    for tag, given in page.found:
        if tag in LABELLED and given.get("type") not in UNLABELLED:
            named = given.get("id") in page.labels or given in page.wrapped
            assert named or {"aria-label", "aria-labelledby"} & set(given), (tag, given)
