"""Signals that end a training are held back until its step is whole."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupts:
    """Holds back the first of some signals while it is entered; a second one acts at once.

    A signal that is ignored stays ignored, and outside the main thread, which alone receives
    signals, nothing is held back.

    Attributes:
        received: Number of the signal that was held back, 0 if there was none.

    Args:
        signals: Signals to hold back.
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self.received = 0
        self._signals = signals
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> 'Interrupts':
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._hold)
                for number in self._signals
                if signal.getsignal(number) is not signal.SIG_IGN
            }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _hold(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        self.__exit__()
