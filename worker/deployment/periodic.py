"""PeriodicThread: calls a function again and again in a daemon thread, until it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from logging import Logger

from torpor.history.protocol import TorporError
from torpor.worker.logs import outages


class PeriodicThread:
    """Calls `action` after each pause. A call that fails is logged, and the next one comes all the same."""

    def __init__(
        self,
        name: str,
        action: Callable[[], object],
        *,
        pause: Callable[[], float],
        log: Logger,
        failure: str,
        logged: type[Exception] | tuple[()] = (),
    ) -> None:
        """`pause` returns the seconds to wait before the next call; `failure` is logged in front of an error.

        An error that the action has `logged` is not logged again.
        """
        self._action = action
        self._pause = pause
        self._log = log
        self._failure = failure
        self._logged_already = logged
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; its first call comes after a pause."""
        self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """End the pauses, and wait for a call that is running, for `timeout` seconds at most."""
        self._stopped.set()
        self._thread.join(timeout)

    @property
    def is_stopped(self) -> bool:
        """True as soon as `stop` was called; a long action asks for it."""
        return self._stopped.is_set()

    def call(self, *raised: type[Exception]) -> None:
        """Call the action once, in the caller's thread. Errors are logged, except for those to be `raised`."""
        try:
            self._action()
        except raised:
            raise
        except self._logged_already:
            pass
        except Exception as error:  # it may pass: the next call tries again
            # The text of an error that is not Torpor's could have a message.
            known = error if isinstance(error, TorporError) else type(error).__name__
            self._log.log(outages.level(error), "%s: %s", self._failure, known)

    def _run(self) -> None:
        while not self._stopped.wait(self._pause()):
            self.call()
