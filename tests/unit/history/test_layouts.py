"""The names of other libraries' keys."""

from __future__ import annotations

import pytest

from torpor.history.errors import NotAdoptable
from torpor.history.formats.known import FORMATS

NAMES = [name for name, each in FORMATS.items() if each.end]


@pytest.mark.parametrize("name", FORMATS)
def test_the_key_of_a_session_has_its_id(name: str) -> None:
    layout = FORMATS[name]
    assert layout.session_id(layout.key("a:b")) == "a:b"


@pytest.mark.parametrize("name", NAMES)
def test_a_refusal_names_the_whole_key(name: str) -> None:
    layout = FORMATS[name]
    for key in (layout.prefix.encode() + layout.end, layout.key("s").removesuffix(layout.end)):
        with pytest.raises(NotAdoptable) as refused:
            layout.session_id(key)
        assert repr(key.decode()) in str(refused.value)
