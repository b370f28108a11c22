"""Background: what the console's process goes on with after a page was sent, such as an erasure.

Each piece of work runs in a thread of its own. When the process ends, it is asked to stop at its next step. What must
not be lost, such as an order, lies in the archive, and the workers go on with it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from torpor.history.protocol import TorporError, TransientError
from torpor.worker.console.error_places import place_of

T = TypeVar("T")

log = logging.getLogger("torpor.console")

_MOST = 8
# Work that does not come to its next step within this time ends with the process.
_PATIENCE_SECONDS = 10.0


class Ended(BaseException):
    """The process ends, so the work stops here."""


class Background:
    """The work in progress, so much of it at a time."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._ending = threading.Event()

    def start(self, name: str, work: Callable[[], None]) -> bool:
        """Do some work in a thread; False if there is enough work already, or if the process ends."""
        thread = threading.Thread(target=self._run, args=[name, work], name=name, daemon=True)
        with self._lock:
            if self._ending.is_set() or len(self._threads) >= self._most:
                return False
            self._threads.add(thread)
        thread.start()
        return True

    def try_within(self, name: str, seconds: float, work: Callable[[], T]) -> Future[T]:
        """Do some work, and wait for it for a while: the future is done, unless the work goes on in its thread.

        Raises TransientError if there is enough work already.
        """
        future: Future[T] = Future()

        def done() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
                raise

        if not self.start(name, done):
            raise TransientError("the console has enough work at the moment: try again in some minutes")
        wait([future], seconds)
        return future

    def go_on(self) -> None:
        """Raise Ended if the process ends. Work calls this at each step."""
        if self._ending.is_set():
            raise Ended

    def end(self) -> None:
        """Ask all work to stop, and wait a while for it."""
        self._ending.set()
        until = time.monotonic() + _PATIENCE_SECONDS
        with self._lock:
            threads = list(self._threads)
        for each in threads:
            each.join(max(until - time.monotonic(), 0))

    def _run(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Ended:
            log.info("%s stops here, because the console ends", name)
        except TorporError as error:
            log.warning("%s has failed: %s", name, error)
        except Exception as error:
            log.error("%s has failed: %s", name, place_of(error))
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
