"""What must hold while the arms are armed: unchanged files, a steady clock, a live e-stop."""

from collections.abc import Callable
from collections.abc import Iterable
import hashlib
from pathlib import Path
import time


class FileWatch:
    """Detects that files have changed since they were read.

    Compares content, since a new file can have the size and time of the old one; a few kilobytes
    are hashed in less than 0.1 ms.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._seen = {path: _digest(path) for path in paths}

    def changed(self) -> str | None:
        """Return the name of a file with changed content; None if there is none."""
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
    """Detects that a clock was set, by comparing it with a steady one.

    Args:
        now_ns: Clock to watch.
        allowed_s: Smaller jumps are the clock's own corrections.
        steady_ns: Clock that cannot be set.
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
        """Return the size of the jump since the last call; 0 if there was none."""
        before, now, after = self._look()
        last_before, last_now, last_after = self._last
        self._last = before, now, after
        # The steady clock is read before and after: the process may be held up in between.
        went = now - last_now
        jump = went - min(max(went, before - last_after), after - last_before)
        return jump if abs(jump) > self._allowed_ns else 0

    def _look(self) -> tuple[int, int, int]:
        return self._steady(), self._clock(), self._steady()


class Heartbeat:
    """Detects that a publisher has fallen silent.

    Args:
        period_s: Longest silence before it counts as lost; 0: any.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._heard_ns: int | None = None

    @property
    def is_needed(self) -> bool:
        """Return whether silence counts."""
        return self._period_s > 0.0

    def beat(self, now_ns: int) -> None:
        """Note a message."""
        self._heard_ns = now_ns

    def lost(self, now_ns: int) -> bool:
        """Return whether it has been silent for too long, or was never heard."""
        if not self.is_needed:
            return False
        return self._heard_ns is None or now_ns - self._heard_ns > self._period_s * 1e9
