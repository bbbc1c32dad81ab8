"""Defer SIGINT and SIGTERM until the driver of a Ray cluster can handle them."""

import signal
from types import FrameType


class DeferredSignals:
    """Records signals and raises the first one when the driver calls `raise_pending`.

    An exception that a signal handler raises inside Ray's own code does not reach the driver.
    """

    def __enter__(self) -> "DeferredSignals":
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._handlers = {number: signal.getsignal(number) for number in numbers}
        self._received: list[int] = []
        self.install()
        return self

    def install(self) -> None:
        """Install the handlers, also after Ray has installed its own."""
        for number in self._handlers:
            signal.signal(number, self._record_signal)

    def raise_pending(self) -> None:
        """Restore the handler of the first received signal and send that signal again."""
        if self._received:
            number = self._received[0]
            signal.signal(number, self._handlers[signal.Signals(number)])
            signal.raise_signal(number)

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if kind is None:
            self.raise_pending()

    def _record_signal(self, number: int, frame: FrameType | None) -> None:
        self._received.append(number)
