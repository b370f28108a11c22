"""The description of an object in a folder: a JSON file next to the object's own, `<name>=.meta.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torpor.worker.archive.stores import HOLD_NOTES, NEVER

# No object name ends like this.
SUFFIX = "=.meta.json"


def description_path(path: Path) -> Path:
    """The file that describes the object in the file `path`."""
    return path.with_name(path.name + SUFFIX)


@dataclass(frozen=True, slots=True)
class Description:
    """The metadata, the custom time, the hold and the metageneration of an object; as StoredObject has them."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    custom_time: datetime | None = None
    held: bool = False
    metageneration: int = 1

    @classmethod
    def parse(cls, content: bytes) -> Description:
        """Read a description; raises ValueError, which says what is wrong with it."""
        try:
            read = json.loads(content)
            metadata, moment, held = read["metadata"], read["custom_time"], read.get("held", False)
            custom_time = moment and datetime.fromisoformat(moment)
            metageneration = int(read.get("metageneration", 1))
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        except (LookupError, TypeError, AttributeError) as exc:
            raise ValueError(f"{type(exc).__name__}: {exc}") from exc
        has_texts = isinstance(metadata, dict) and all(map(_is_text, metadata.values()))
        has_zone = custom_time is None or (isinstance(custom_time, datetime) and custom_time.tzinfo is not None)
        if not (has_texts and has_zone and isinstance(held, bool)):
            raise ValueError("it needs texts as metadata, a custom time with a time zone or none, and a hold or none")
        return cls(metadata, custom_time, held, metageneration)

    def __bytes__(self) -> bytes:
        custom_time = self.custom_time and self.custom_time.isoformat()
        written = {
            "metadata": dict(self.metadata),
            "custom_time": custom_time,
            "held": self.held,
            "metageneration": self.metageneration,
        }
        return json.dumps(written, ensure_ascii=False).encode()

    def amended(
        self,
        *,
        custom_time: datetime | None,
        held: bool | None,
        entries: Mapping[str, str | None] = MappingProxyType({}),
    ) -> Description:
        """The description with the later of the two custom times, with this hold unless `held` is None, and `entries`.

        An entry of None is removed from the metadata.
        """
        moments = [moment for moment in (self.custom_time, custom_time) if moment]
        metadata = {name: value for name, value in {**self.metadata, **entries}.items() if value is not None}
        amended = replace(
            self,
            metadata=metadata,
            custom_time=max(moments, default=None),
            held=self.held if held is None else held,
        )
        return self if amended == self else replace(amended, metageneration=self.metageneration + 1)

    def annotated(self, entries: Mapping[str, str]) -> Description:
        """The description with these entries of the metadata, of a new metageneration."""
        return replace(self, metadata={**self.metadata, **entries}, metageneration=self.metageneration + 1)

    def described_as(self, described: Description, *, contested: bool) -> Description:
        """The description of an object that somebody puts again; if `contested`, always of a new metageneration."""
        custom_time = described.custom_time or (NEVER if self.custom_time else None)
        amended = self.amended(custom_time=custom_time, held=described.held or None)
        noted = {name: self.metadata[name] for name in HOLD_NOTES if name in self.metadata}
        amended = replace(amended, metadata={**noted, **described.metadata}, metageneration=self.metageneration)
        return replace(amended, metageneration=self.metageneration + 1) if contested or amended != self else self

    def expired(self, now: datetime) -> bool:
        """True if the object may be deleted because its custom time has passed."""
        return self.custom_time is not None and self.custom_time <= now and not self.held


def _is_text(value: Any) -> bool:
    """True for text that has a UTF-8 form."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False
