"""Control characters, shown as escapes wherever text of a person is printed or logged."""

from __future__ import annotations

import re

# Characters that could control a terminal: C0 except tab and line feed, DEL, C1, marks of the text direction, breaks of
# lines, and annotations. And halves of surrogate pairs, which have no UTF-8 form.
CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]"
)


def printable(text: str) -> str:
    """The text with control characters shown as escapes, so that no message controls the terminal."""
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """The text on one line, for a table's cell."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
