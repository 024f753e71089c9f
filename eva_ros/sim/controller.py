"""Python model of ros2_control's joint_trajectory_controller as in ROS 2 Jazzy.

As in Jazzy, an accepted trajectory replaces the old one at once; the controller moves from its
current state straight to the first point, which is due at stamp + time_from_start, even if the
stamp lies in the future; stamp 0 means now; points in the past are skipped; the order of the
spline between two points depends on what both specify; at the end it holds the last point. Like
the original it checks neither NaN nor limits.

`splice=True` is the behaviour after Kilted (`allow_trajectory_replacement` of rolling): the old
trajectory continues until the new one's stamp, and the new one starts from there.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from eva_ros.robot.splines import evaluate
from eva_ros.robot.splines import segment_coefficients

Array = NDArray[np.float64]
Rows = Sequence[Sequence[float]] | Array

_LONG_AGO_NS = -(2**62)


@dataclass(frozen=True, eq=False)
class TrajectoryCommand:
    """A trajectory message, in units of the controller.

    Attributes:
        stamp_ns: Time at which time_from_start begins; 0 means on receipt.
        joint_names: Joint names [J], in any order.
        time_from_start: Due time of each point, in s [K].
        positions: Positions [K, J].
        velocities: Velocities [K, J], or None; rows of points without velocities are empty.
        accelerations: Accelerations, likewise.
    """

    stamp_ns: int
    joint_names: Sequence[str]
    time_from_start: Sequence[float] | Array
    positions: Rows
    velocities: Rows | None = None
    accelerations: Rows | None = None


@dataclass(frozen=True, eq=False)
class JointMotion:
    """Position [J], and velocity and acceleration [J] where they are known."""

    positions: Array
    velocities: Array | None = None
    accelerations: Array | None = None


class _Plan:
    """An accepted trajectory in the controller's joint order, and where it begins."""

    def __init__(
        self, begin_ns: int, begin: JointMotion, due_ns: list[int], points: list[JointMotion]
    ) -> None:
        self.begin_ns = begin_ns
        self.due_ns = due_ns
        self.last = _with_rates(points[-1])
        self._times = [begin_ns, *due_ns]
        self._points = [begin, *points]
        self._pieces: dict[int, Array] = {}

    def position(self, now_ns: int) -> Array:
        """Return the desired positions [J] at a time."""
        piece = bisect_right(self.due_ns, now_ns)
        if piece == len(self.due_ns):
            return self.last.positions
        t = (now_ns - self._times[piece]) * 1e-9
        return np.array((1.0, t, t**2, t**3, t**4, t**5)) @ self._piece(piece)

    def motion(self, now_ns: int) -> JointMotion:
        """Return desired positions, velocities and accelerations at a time."""
        piece = bisect_right(self.due_ns, now_ns)
        if piece == len(self.due_ns):
            return self.last
        t = np.float64((now_ns - self._times[piece]) * 1e-9)
        return JointMotion(*evaluate(self._piece(piece), t))

    def _piece(self, i: int) -> Array:
        """Return the polynomial before point i: linear, cubic or quintic by what both give."""
        if i not in self._pieces:
            a, b = self._points[i], self._points[i + 1]
            duration = np.float64((self._times[i + 1] - self._times[i]) * 1e-9)
            velocities = accelerations = None
            if a.velocities is not None and b.velocities is not None:
                velocities = (a.velocities, b.velocities)
                if a.accelerations is not None and b.accelerations is not None:
                    accelerations = (a.accelerations, b.accelerations)
            self._pieces[i] = segment_coefficients(
                duration, a.positions, b.positions, velocities, accelerations
            )
        return self._pieces[i]


@dataclass(eq=False)
class TrajectoryController:
    """The controller of one arm.

    Call sample() once per control period: a new trajectory starts from the last sample, as the
    real controller starts from its last command. Times agree with the real controller to within
    one period, because it samples one period ahead.

    Args:
        joints: Joints of the controller.
        position: Position before the first trajectory [J].
        splice: Whether to keep the old trajectory until the new one's stamp.
        allow_nonzero_velocity_at_trajectory_end: Whether to accept a last point that moves.
    """

    joints: Sequence[str]
    position: ArrayLike
    splice: bool = False
    allow_nonzero_velocity_at_trajectory_end: bool = False

    def __post_init__(self) -> None:
        """Hold the first position."""
        self.joints = tuple(self.joints)
        held = JointMotion(np.array(self.position, dtype=np.float64))
        self._plans = [_Plan(_LONG_AGO_NS, held, [_LONG_AGO_NS], [held])]
        self._sampled_ns = _LONG_AGO_NS

    def accept(self, trajectory: TrajectoryCommand, now_ns: int) -> str | None:
        """Accept a trajectory, or return why not; a refused one does not stop the current one.

        Args:
            trajectory: Received trajectory.
            now_ns: Time of receipt.

        Returns:
            None if accepted, otherwise the reason.
        """
        reason = self._rejection(trajectory, now_ns)
        if reason is not None:
            return reason
        start_ns = trajectory.stamp_ns or now_ns
        due_ns = [start_ns + _ns(seconds) for seconds in trajectory.time_from_start]
        begin_ns = max(start_ns, now_ns) if self.splice else now_ns
        if self.splice:
            begin = self._plan_at(begin_ns).motion(begin_ns)
        else:
            begin = self.desired()
            if begin.velocities is not None and begin.velocities.any():
                begin_ns = self._sampled_ns
        kept = [plan for plan in self._plans if plan.begin_ns < begin_ns] if self.splice else []
        self._plans = [*kept, _Plan(begin_ns, begin, due_ns, self._points(trajectory))]
        return None

    def sample(self, now_ns: int) -> Array:
        """Return the commanded positions [J]; times must not decrease."""
        while len(self._plans) > 1 and self._plans[1].begin_ns <= now_ns:
            self._plans.pop(0)
        self._sampled_ns = now_ns
        return self._plan_at(now_ns).position(now_ns)

    def desired(self) -> JointMotion:
        """Return position, velocity and acceleration of the last sample."""
        return self._plan_at(self._sampled_ns).motion(self._sampled_ns)

    def is_moving(self, now_ns: int) -> bool:
        """Return whether a trajectory has points left."""
        return now_ns < self._plans[-1].due_ns[-1]

    def _plan_at(self, now_ns: int) -> _Plan:
        started = [plan for plan in self._plans if plan.begin_ns <= now_ns]
        return started[-1] if started else self._plans[0]

    def _points(self, trajectory: TrajectoryCommand) -> list[JointMotion]:
        # As in the original, a joint left out because another is named twice is sent to zero.
        order = [self.joints.index(name) for name in trajectory.joint_names]

        def ordered(row: Sequence[float]) -> Array:
            values = np.zeros(len(self.joints))
            values[order] = np.asarray(row, dtype=np.float64)
            return values

        def given(rows: Rows | None, i: int) -> Array | None:
            return None if rows is None or len(rows[i]) == 0 else ordered(rows[i])

        return [
            JointMotion(
                ordered(trajectory.positions[i]),
                given(trajectory.velocities, i),
                given(trajectory.accelerations, i),
            )
            for i in range(len(trajectory.time_from_start))
        ]

    def _rejection(self, trajectory: TrajectoryCommand, now_ns: int) -> str | None:
        """Return why validate_trajectory_msg would reject the message, or None."""
        names, times = list(trajectory.joint_names), list(trajectory.time_from_start)
        if len(names) != len(self.joints):
            return "Joints on incoming trajectory don't match the controller joints."
        if not times:
            return 'Empty trajectory received.'
        unknown = [name for name in names if name not in self.joints]
        if unknown:
            return f"Incoming joint {unknown[0]} doesn't match the controller's joints."
        last = trajectory.velocities
        if last is not None and not self.allow_nonzero_velocity_at_trajectory_end:
            for name, velocity in zip(names, last[-1]):
                if abs(velocity) > np.finfo(np.float32).eps:
                    return f'Velocity of last trajectory point of joint {name} is not zero.'
        if trajectory.stamp_ns and trajectory.stamp_ns + _ns(times[-1]) < now_ns:
            return 'Received trajectory with non-zero start time that ends in the past.'
        return _point_rejection(trajectory, [_ns(seconds) for seconds in times])


def _point_rejection(trajectory: TrajectoryCommand, times: list[int]) -> str | None:
    """Return what is wrong with the points of a message, or None."""
    names = trajectory.joint_names
    for i in range(len(times)):
        if i > 0 and times[i] <= times[i - 1]:
            return f'Time between points {i - 1} and {i} is not strictly increasing.'
        for what in ('positions', 'velocities', 'accelerations'):
            rows = getattr(trajectory, what)
            given = 0 if rows is None else len(rows[i])
            if given != len(names) and (given or what == 'positions'):
                return f'Mismatch between joint_names and {what} at point {i}.'
    return None


def _ns(seconds: float) -> int:
    return round(float(seconds) * 1e9)


def _with_rates(motion: JointMotion) -> JointMotion:
    """Return the motion with zeros for what it does not give."""
    zeros = np.zeros_like(motion.positions)
    return JointMotion(
        motion.positions,
        zeros if motion.velocities is None else motion.velocities,
        zeros if motion.accelerations is None else motion.accelerations,
    )
