"""Where the repository and its tests lie."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent

# Real conversations, where the machine has them.
CONVERSATIONS = ROOT.parent / "shared" / "data" / "conversations.jsonl"

# What `make stack` installs: servers that Debian lacks.
SERVERS = ROOT / ".venv-stack" / "files"
