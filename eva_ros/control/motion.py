"""A motion of both arms that is under way, and what they are sent to begin one."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eva_ros.control.trajectory import ArmTrajectory
from eva_ros.control.watch import ExecutionWatch
from eva_ros.robot.splines import HermiteSpline


@dataclass(frozen=True, eq=False)
class Motion:
    """A path that is being executed, and who looks whether it is.

    Attributes:
        path: of all joints, to rest.
        start_ns: when it began.
        rollout_id: that it came from; 0: from none.
        watch: compares what is measured with it.
    """

    path: HermiteSpline
    start_ns: int
    rollout_id: int
    watch: ExecutionWatch | None = None

    @property
    def end_ns(self) -> int:
        """Return when it comes to its end."""
        return self.start_ns + round(self.path.duration * 1e9)

    def elapsed_s(self, now_ns: int) -> float:
        """Return how long it has been under way."""
        return (now_ns - self.start_ns) * 1e-9

    def is_over(self, now_ns: int) -> bool:
        """Return whether it has come to its end."""
        return self.elapsed_s(now_ns) >= self.path.duration

    def place(self, now_ns: int) -> NDArray[np.float64]:
        """Return where it leads the joints to at a time [J]; before and after it, to its ends."""
        return self.path.sample(self.path.times[0] + self.elapsed_s(now_ns))[0]

    def shifted(self, by_ns: int) -> 'Motion':
        """Return the same motion by a clock that was set by so much."""
        return replace(self, start_ns=self.start_ns + by_ns)


@dataclass(frozen=True)
class Order:
    """What both arms get: trajectories, and the motion they describe; empty: nothing.

    Attributes:
        command: by arm.
        path: of all joints.
        goes_on: it goes on with a motion under way, and so needs its stamp: begun at receipt, it
            would lead back over the way that was gone until then.
    """

    command: Mapping[str, ArmTrajectory]
    path: HermiteSpline | None = None
    goes_on: bool = False

    def __bool__(self) -> bool:
        return bool(self.command)


NOTHING = Order({})
