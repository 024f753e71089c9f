"""When the next observation is taken in mode overlap, so that its chunk is ready at the switch."""

from collections import deque
from statistics import median

# Number of past think times whose median predicts the next one.
_REMEMBERED = 5
# Where a chunk is replaced, unless somebody says where: late. A dream may wait before it closes a
# hand, and where each is replaced by one that waits, none ever does (docs/evaluate.md).
SWITCH = 0.9


class TurnPacing:
    """Times the observations of a task while the arms move.

    Args:
        switch: Part of the motion under way, 0 to 1, after which the next chunk is to be ready.
    """

    def __init__(self, switch: float) -> None:
        self._switch = switch
        self._took_s: deque[float] = deque(maxlen=_REMEMBERED)

    def took(self, seconds: float) -> None:
        """Note the time from an observation to the gate's verdict on its chunk, in s."""
        self._took_s.append(seconds)

    def look_ns(self, begun_ns: int, duration_s: float, now_ns: int) -> int | None:
        """Return when to take the next observation during a motion.

        Args:
            begun_ns: Time at which the motion began, in ns.
            duration_s: Duration of the motion, in s.
            now_ns: Time now, in ns.

        Returns:
            An instant from now on; None if the chunk would come after the motion, or if it is
            not known yet how long a turn takes: then the next observation is one of resting arms.
        """
        if not self._took_s:
            return None
        think_s = median(self._took_s)
        look_ns = max(now_ns, begun_ns + round((self._switch * duration_s - think_s) * 1e9))
        return look_ns if (look_ns - begun_ns) * 1e-9 + think_s < duration_s else None
