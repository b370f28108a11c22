"""Act: what people do, by the command or the console. Each act has its name here, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Act(StrEnum):
    """What a person does."""

    SHOW = "show"
    EXPORT = "export"
    IMPORT = "import"
    ADOPT = "adopt"
    ASSIGN_OWNER = "assign-owner"
    SEPARATE = "separate"
    HOLD = "hold"
    UNHOLD = "unhold"
    PURGE = "purge"
    ARCHIVE = "archive"
    RESTORE = "restore"
    SWEEP = "sweep"
    REQUEUE = "requeue"
    EXAMINE = "examine"
    REPAIR = "repair"
    COMPRESS = "compress"
    RESUME_JOB = "resume-job"
    CANCEL_JOB = "cancel-job"
    ADD_RULE = "add-rule"
    MOVE_ARCHIVE = "move-archive"
    RECOVER = "recover"
    FORK = "fork"


@dataclass(frozen=True, slots=True)
class NoEntry:
    """Why something that people can do has no entry in the audit trail."""

    why: str


# What only looks.
LOOKS = NoEntry("It shows no text of a message, and changes nothing.")
