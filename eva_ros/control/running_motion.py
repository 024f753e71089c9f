"""The motion of both arms that is under way, and what they are sent: one class for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eva_ros.control.tracking_monitor import TrackingMonitor
from eva_ros.control.trajectory import ArmTrajectory
from eva_ros.robot.splines import HermiteSpline


@dataclass(frozen=True, eq=False)
class Motion:
    """The motion under way: the path being executed and what monitors it.

    Attributes:
        path: Path of all joints, ending at rest.
        start_ns: Time at which it began, in ns.
        rollout_id: Rollout that it came from; 0 if none.
        watch: Monitor that compares the measured joints with it.
    """

    path: HermiteSpline
    start_ns: int
    rollout_id: int = 0
    watch: TrackingMonitor | None = None

    @property
    def end_ns(self) -> int:
        """Return when it comes to its end."""
        return self.start_ns + round(self.path.duration * 1e9)

    def elapsed_s(self, now_ns: int) -> float:
        """Return the time since it began; 0 before."""
        return max(0.0, (now_ns - self.start_ns) * 1e-9)

    def is_over(self, now_ns: int) -> bool:
        """Return whether it has come to its end."""
        return self.elapsed_s(now_ns) >= self.path.duration

    def place(self, now_ns: int) -> NDArray[np.float64]:
        """Return where it leads the joints to at a time [J]; before and after it, to its ends."""
        return self.path.sample(self.path.times[0] + self.elapsed_s(now_ns))[0]

    def shifted(self, by_ns: int) -> 'Motion':
        """Return the same motion by a clock that was set by so much."""
        return replace(self, start_ns=self.start_ns + by_ns)


@dataclass(frozen=True, eq=False)
class Order:
    """What to publish to both arms: a motion or a stop.

    Attributes:
        command: Trajectory by arm; those of a stop in mid-motion stay at its end for a while.
        path: Motion of all joints [K, J] from now on.
        goes_on: It continues the motion under way and so needs its stamp: begun at receipt, it
            would lead back over the distance covered until then.
    """

    command: Mapping[str, ArmTrajectory]
    path: HermiteSpline
    goes_on: bool = False
