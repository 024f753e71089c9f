"""The stop that both arms were sent: do they do it, and what if one was not reached?"""

import numpy as np
from numpy.typing import NDArray

from eva_ros.control import reasons
from eva_ros.control.chunk_checks import tracking_error
from eva_ros.control.running_motion import Motion
from eva_ros.control.running_motion import Order
from eva_ros.control.settings import GateSettings
from eva_ros.control.stop import brake
from eva_ros.control.stop import side_by_side
from eva_ros.control.stop import standing
from eva_ros.control.tracking_monitor import TrackingMonitor
from eva_ros.control.trajectory import check_command
from eva_ros.robot.spec import Robot

Array = NDArray[np.float64]

# Arms come to rest a little after what they were sent does.
_SETTLE_NS = 500_000_000


class StopMonitor:
    """Remembers the stop that was sent last, and the motions that it was to end.

    An arm that a stop did not reach goes on with what it was sent before: that is seen from its
    joints, and its next stop begins there, while the other arm's goes on with the one it has. An
    arm that did not begin to move is not taken to where it should be, but stays.

    Args:
        robot: whose arms.

    Attributes:
        motion: the stop under way, or the last one; None before the first.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._told: set[str] = set()
        self._before: tuple[Motion, ...] = ()
        self._goes_on: dict[str, Motion] = {}
        self.motion: Motion | None = None

    @property
    def unreached(self) -> tuple[str, ...]:
        """Return the arms that go on with what they were sent before."""
        return tuple(self._goes_on)

    def watched_ns(self, now_ns: int) -> int:
        """Return for how long the arms are still watched; 0: no more.

        A little longer than an arm may do what it was sent: the stop, or what that was to end.
        """
        motions = (self.motion, *self._before) if self.motion is not None else ()
        last_ns = max((motion.end_ns + _SETTLE_NS for motion in motions), default=now_ns)
        return max(0, last_ns - now_ns)

    def clock_jumped(self, by_ns: int) -> None:
        """Take over what is remembered into a clock that jumped."""
        self.motion = self.motion and self.motion.shifted(by_ns)
        self._before = tuple(motion.shifted(by_ns) for motion in self._before)
        self._goes_on = {arm: motion.shifted(by_ns) for arm, motion in self._goes_on.items()}

    def begin(
        self,
        running: Motion,
        settings: GateSettings,
        measured: Array | None,
        now_ns: int,
        *,
        urgent: bool,
    ) -> Order:
        """Return a stop of both arms, and remember it.

        Args:
            running: what was sent last.
            settings: of the gate.
            measured: joints now [J]; None if unknown, and the stop is not monitored.
            now_ns: time now.
            urgent: an e-stop.

        Raises:
            RefusedError: it is not fit to be sent.
        """
        if self._goes_on and measured is not None:
            self._look_at_the_others(running, measured, now_ns)
        # What fails from here on leaves the arms with what they were sent last.
        self.motion = running
        doing = {arm: self._goes_on.get(arm, running) for arm in self._robot.arms}
        if running.watch is not None and running.watch.idle:
            begin = standing(running.path.positions[0], settings.hold_s)
            doing |= dict.fromkeys(running.watch.idle, Motion(begin, now_ns))
        stops = {
            motion: brake(
                self._robot, settings, motion.path, motion.elapsed_s(now_ns), urgent=urgent
            )
            for motion in dict.fromkeys(doing.values())
        }
        if set(stops) == {running}:
            stop = stops[running]
        else:
            paths = {arm: stops[motion].path for arm, motion in doing.items()}
            stop = side_by_side(self._robot, paths)
        check_command(stop.command, self._robot, is_a_stop=True)
        self._before = tuple(
            motion for motion in (running, *self._before) if not motion.is_over(now_ns)
        )
        self._goes_on, self._told = {}, set()
        watch = None
        if measured is not None:
            watch = TrackingMonitor(self._robot, settings, stop.path, measured, moving=True)
        self.motion = Motion(stop.path, now_ns, running.rollout_id, watch)
        return stop

    def _look_at_the_others(self, stop: Motion, measured: Array, now_ns: int) -> None:
        """Find arms that go on too, and are not far enough from the stop yet to be a fault."""

        def away(motion: Motion) -> float:
            return float(np.abs(measured - motion.place(now_ns))[part].max())

        for arm in self._robot.arms:
            part = self._robot.arm_indices(arm)
            nearest = min(self._before, key=away, default=stop)
            if arm not in self._goes_on and away(nearest) < away(stop):
                self._goes_on[arm] = nearest

    def fault(
        self, arm: str, measured: Array, stamp_ns: int, settings: GateSettings
    ) -> tuple[str, str] | None:
        """Return what is wrong with an arm that is to stop, as reason and sentence; None: nothing.

        Args:
            arm: 'left' or 'right'.
            measured: its joints [K].
            stamp_ns: when they were measured.
            settings: for max_tracking_error.
        """
        stop = self.motion
        if stop is None or stop.watch is None or stamp_ns < stop.start_ns:
            return None
        if arm in self._told or not self.watched_ns(stamp_ns):
            return None
        fault = stop.watch.fault(arm, measured, stop.elapsed_s(stamp_ns))
        if fault is None or fault[0] != reasons.TRACKING:
            return fault
        part = self._robot.arm_indices(arm)
        allowed = tracking_error(self._robot, settings)[part]
        for motion in self._before:
            away = np.abs(measured - motion.place(stamp_ns)[part])
            if (away <= allowed).all():
                self._goes_on[arm] = motion
                return (
                    reasons.ARM_NOT_FOLLOWING,
                    f'The {arm} arm goes on: its stop did not reach it.',
                )
        return fault

    def tell(self, arm: str) -> None:
        """Do not say again what is wrong with an arm, until the next stop."""
        self._told.add(arm)
