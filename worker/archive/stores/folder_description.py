"""The description of an object in a folder: a JSON file next to the object's own, `<name>=.meta.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from torpor.worker.archive.stores import NEVER

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
        """Read a description; raises ValueError, LookupError or TypeError if it is damaged."""
        read = json.loads(content)
        custom_time = read["custom_time"]
        return cls(
            read["metadata"],
            custom_time and datetime.fromisoformat(custom_time),
            read.get("held", False),
            int(read.get("metageneration", 1)),
        )

    def __bytes__(self) -> bytes:
        custom_time = self.custom_time and self.custom_time.isoformat()
        written = {
            "metadata": dict(self.metadata),
            "custom_time": custom_time,
            "held": self.held,
            "metageneration": self.metageneration,
        }
        return json.dumps(written, ensure_ascii=False).encode()

    def amended(self, *, custom_time: datetime | None, held: bool | None) -> Description:
        """The description with the later of the two custom times, and with this hold unless `held` is None."""
        moments = [moment for moment in (self.custom_time, custom_time) if moment]
        amended = replace(self, custom_time=max(moments, default=None), held=self.held if held is None else held)
        return self if amended == self else replace(amended, metageneration=self.metageneration + 1)

    def described_as(self, described: Description, *, contested: bool) -> Description:
        """The description of an object that somebody puts again; if `contested`, always of a new metageneration."""
        custom_time = described.custom_time or (NEVER if self.custom_time else None)
        amended = self.amended(custom_time=custom_time, held=described.held or None)
        amended = replace(amended, metadata=described.metadata, metageneration=self.metageneration)
        return replace(amended, metageneration=self.metageneration + 1) if contested or amended != self else self

    def expired(self, now: datetime) -> bool:
        """True if the object may be deleted because its custom time has passed."""
        return self.custom_time is not None and self.custom_time <= now and not self.held
