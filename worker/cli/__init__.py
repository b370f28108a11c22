"""The `torpor` command, over the same functions as the tasks.

Only what a call needs is imported: `torpor --help` loads no module of a command, `torpor status` no LangChain.
"""

from __future__ import annotations

import atexit
import gc
import signal
import sys
from io import TextIOWrapper
from types import FrameType

from torpor.worker.cli import celerys

# Imported modules and classes live to the end. With Python's own threshold, the garbage collector examines them again
# and again during the imports, and once more at the end: a quarter of the CPU time of `torpor status`.
_GC_THRESHOLD = 50_000
_MISSING = """\
torpor: the command needs packages that are not installed ({missing} is missing).
Install them with: pip install 'torpor[{extra}]'
"""
# What only the console needs.
_OF_CONSOLE = {"authlib", "httpx2", "itsdangerous", "jinja2", "joserfc", "limits", "starlette", "uvicorn"}


class Interrupted(SystemExit):
    """The user has pressed Ctrl-C. What the command was doing is left as if it had been killed: it can be run again."""


def main() -> None:
    """Run the command; turn errors and Ctrl-C into a line on standard error and an exit code."""
    gc.set_threshold(_GC_THRESHOLD)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a character that the terminal's encoding lacks is no error
    atexit.register(gc.freeze)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the process is to ignore it, as with nohup
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _interrupt_again
    try:
        if sys.argv[1:2] and sys.argv[1] in celerys.COMMANDS:  # without what the other commands need
            celerys.run(sys.argv[1], sys.argv[2:])
        from torpor.worker.cli.commands import app

        app()
    except Interrupted:
        sys.stderr.write("\n" * sys.stderr.isatty() + "torpor: interrupted\n")  # a terminal has echoed ^C
        raise
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "torpor":
            raise
        extra = "console" if error.name.partition(".")[0] in _OF_CONSOLE else "worker"
        sys.stderr.write(_MISSING.format(missing=error.name, extra=extra))
        sys.exit(2)
    except Exception as error:
        from torpor.worker.cli.failure import fail

        fail(error)


def _interrupt(number: int, _: FrameType | None) -> None:
    """End the process as an error would, threads included; a second Ctrl-C ends it at once."""
    signal.signal(number, signal.SIG_DFL)
    raise Interrupted(128 + signal.SIGINT)


def _interrupt_again(ignored: sys.UnraisableHookArgs) -> None:
    """Raise Interrupted a moment later, if it came up in a callback, where Python ignores exceptions.

    Each import runs such a callback: https://docs.python.org/3/library/sys.html#sys.unraisablehook
    """
    if isinstance(ignored.exc_value, Interrupted):
        signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(ignored)
