"""What must hold while the arms are armed: unchanged files, a steady clock, a live e-stop."""

from collections.abc import Callable
from collections.abc import Iterable
import hashlib
from pathlib import Path
import time


class FileWatch:
    """Tells whether files are still those that were read.

    By their content: that of kilobytes is hashed in less than 0.1 ms, and size and time of a file
    may be those of the one before.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._seen = {path: _digest(path) for path in paths}

    def changed(self) -> str | None:
        """Return the name of a file whose content has changed; None if none has."""
        for path, digest in self._seen.items():
            if _digest(path) != digest:
                return str(path)
        return None


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


class ClockWatch:
    """Tells by how much a clock was set since it was last asked, by one that nobody sets.

    Args:
        now_ns: the clock.
        allowed_s: what is less is taken for the clock's own correction.
        steady_ns: the one that nobody sets.
    """

    def __init__(
        self,
        now_ns: Callable[[], int],
        allowed_s: float,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clock, self._steady = now_ns, steady_ns
        self._allowed_ns = allowed_s * 1e9
        self._last = self._look()

    def jumped_ns(self) -> int:
        """Return by how much it jumped since the last call; 0 if it did not."""
        before, now, after = self._look()
        last_before, last_now, last_after = self._last
        self._last = before, now, after
        # The steady clock was read before and after: the process may have been held up between.
        went = now - last_now
        jump = went - min(max(went, before - last_after), after - last_before)
        return jump if abs(jump) > self._allowed_ns else 0

    def _look(self) -> tuple[int, int, int]:
        return self._steady(), self._clock(), self._steady()


class Heartbeat:
    """Tells whether a publisher that must be heard is heard.

    Args:
        period_s: it is lost when silent for longer; 0: it may be silent.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._heard_ns: int | None = None

    @property
    def is_needed(self) -> bool:
        """Return whether it may not be silent."""
        return self._period_s > 0.0

    def beat(self, now_ns: int) -> None:
        """Note that it was heard."""
        self._heard_ns = now_ns

    def lost(self, now_ns: int) -> bool:
        """Return whether it has been silent for too long, or was never heard."""
        if not self.is_needed:
            return False
        return self._heard_ns is None or now_ns - self._heard_ns > self._period_s * 1e9
