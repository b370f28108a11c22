"""The `torpor` command, over the same functions as the tasks.

Only what a call needs is imported: `torpor --help` loads no module of a command, `torpor status` no LangChain.
"""

from __future__ import annotations

import atexit
import gc
import sys
from io import TextIOWrapper

# Imported modules and classes live to the end. With Python's own threshold, the garbage collector examines them again
# and again during the imports, and once more at the end: a quarter of the CPU time of `torpor status`.
_GC_THRESHOLD = 50_000
_MISSING = """\
torpor: the command needs packages that are not installed ({missing} is missing).
Install them with: pip install 'torpor[worker]'
"""


def main() -> None:
    """Run the command; turn errors into a line on standard error and an exit code."""
    gc.set_threshold(_GC_THRESHOLD)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a character that the terminal's encoding lacks is no error
    atexit.register(gc.freeze)
    try:
        from torpor.worker.cli.commands import app

        app()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "torpor":
            raise
        sys.stderr.write(_MISSING.format(missing=error.name))
        sys.exit(2)
    except Exception as error:
        from torpor.worker.cli.failure import fail

        fail(error)
