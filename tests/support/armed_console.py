"""The command with armed failpoints; see armed_worker.py. With tests/ on PYTHONPATH: `-m support.armed_console`."""

from __future__ import annotations

import support.armed_worker  # noqa: F401 - arms the failpoints of this process
from torpor.worker import cli

if __name__ == "__main__":
    cli.main()
