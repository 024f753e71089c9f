"""The last few observations, for whoever asks for one by its stamp."""

from collections import deque
from collections.abc import Callable
import threading
import time

from eva_ros.observations.ingest import Observation
from eva_ros.ros.observations import ReceivedObservation

_KEPT = 30


class RecentObservations:
    """Keeps the last observations and waits for one that fits.

    Args:
        span_ns: How long before the newest one they are kept at least, however many there are.
    """

    def __init__(self, span_ns: int = 0) -> None:
        self._changed = threading.Condition()
        self._span_ns = span_ns
        self._kept: deque[ReceivedObservation] = deque()

    def add(self, received: ReceivedObservation) -> None:
        """Keep an observation; one that is older than the last means that time was set back."""
        with self._changed:
            if self._kept and received.stamp_ns < self._kept[-1].stamp_ns:
                self._kept.clear()
            self._kept.append(received)
            oldest_ns = received.stamp_ns - self._span_ns
            while len(self._kept) > _KEPT and self._kept[0].stamp_ns < oldest_ns:
                self._kept.popleft()
            self._changed.notify_all()

    def wait(
        self,
        *,
        stamp_ns: int = 0,
        not_before_ns: int = 0,
        timeout_s: float,
        given_up: Callable[[], bool] = lambda: False,
    ) -> ReceivedObservation | None:
        """Return an observation, waiting for it at most `timeout_s`.

        Args:
            stamp_ns: the one with this stamp; 0 is the newest.
            not_before_ns: none taken before this instant.
            timeout_s: wall time.
            given_up: asked about every tenth of a second.

        Returns:
            None if none came.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = self._find(stamp_ns, not_before_ns)
                left_s = deadline - time.monotonic()
                if found or left_s <= 0 or given_up():
                    return found
                self._changed.wait(min(left_s, 0.1))

    def before(self, stamp_ns: int, count: int, period_ns: int) -> list[Observation]:
        """Return the observations that were made `count`, ..., 2, 1 periods before an instant.

        Each is the nearest one that is not more than half a period off, and stands for one
        instant only; what is missing is left out.
        """
        with self._changed:
            kept = [received.observation for received in self._kept]
        found: list[Observation] = []
        for number in range(count, 0, -1):
            due_ns = stamp_ns - number * period_ns
            near = min(kept, key=lambda o: abs(o.stamp_ns - due_ns), default=None)
            if near and abs(near.stamp_ns - due_ns) <= period_ns // 2 and near not in found:
                found.append(near)
        return found

    def _find(self, stamp_ns: int, not_before_ns: int) -> ReceivedObservation | None:
        for received in reversed(self._kept):
            if received.stamp_ns < not_before_ns:
                return None
            if stamp_ns in (0, received.stamp_ns):
                return received
        return None
