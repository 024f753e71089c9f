"""How far a long computation is, at what rate, and how much time is left; on stderr."""

import sys
import time
from typing import TextIO

# Where stderr is a file, a line this often is enough.
_QUIET_PERIOD_S = 30.0
_TERMINAL_PERIOD_S = 0.2


class Progress:
    """A line on stderr that counts up; use it in a `with` block."""

    def __init__(self, what: str, total: int, stream: TextIO | None = None) -> None:
        """Begin.

        Args:
            what: the things counted, in the plural.
            total: how many there will be.
            stream: where to write; stderr by default.
        """
        self._what = what
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._period_s = _TERMINAL_PERIOD_S if self._terminal else _QUIET_PERIOD_S
        self._done = 0
        self._start = self._said = time.monotonic()

    def advance(self) -> None:
        """Count one more."""
        self._done += 1
        now = time.monotonic()
        if self._done == self._total or now - self._said >= self._period_s:
            self._said = now
            self._say(now)

    def _say(self, now: float) -> None:
        rate = self._done / max(now - self._start, 1e-9)
        left = (self._total - self._done) / rate
        text = (
            f'{self._done}/{self._total} {self._what}, {rate * 60:.1f} a minute, '
            f'{_duration(left)} left'
        )
        begin, end = ('\r\x1b[K', '') if self._terminal else ('', '\n')
        print(f'{begin}{text}', end=end, file=self._stream, flush=True)

    def __enter__(self) -> 'Progress':
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Leave the line."""
        if self._terminal:
            print(file=self._stream)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f'{hours} h {minutes:02d} min'
    return f'{minutes} min {seconds:02d} s' if minutes else f'{seconds} s'
