"""Do both arms do what was sent? Looked at while a motion is under way; without ROS or clocks."""

import numpy as np
from numpy.typing import NDArray

from eva_ros.control import reasons
from eva_ros.control.chunk_checks import tracking_error
from eva_ros.control.settings import GateSettings
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline

Array = NDArray[np.float64]

# An arm has begun when a joint has done so much of what it was sent, once that is as far as this.
_SENT_RAD = 0.02
_BEGUN = 0.5


class TrackingMonitor:
    """Compares measured joints with a motion that was sent.

    Args:
        robot: whose arms.
        settings: for max_tracking_error, start_timeout_s and frozen_joint_state_s.
        path: what was sent, of all joints.
        begin: measured joints when it was sent [J].
        moving: the arms were moving already.

    Attributes:
        idle: arms that were found not to have begun.
    """

    def __init__(
        self,
        robot: Robot,
        settings: GateSettings,
        path: HermiteSpline,
        begin: Array,
        *,
        moving: bool = False,
    ) -> None:
        self._robot = robot
        self._settings = settings
        self._path = path
        self._begin = begin
        self._allowed = tracking_error(robot, settings)
        self._moving = moving
        self._joints = {arm: robot.arm_joints_mask(arm) for arm in robot.arms}
        self._begun = set(robot.arms) if moving else set()
        self._last: dict[str, tuple[float, bytes]] = {}
        self._range = {arm: (begin[robot.arm_indices(arm)],) * 2 for arm in robot.arms}
        self.idle: set[str] = set()

    def fault(self, arm: str, measured: Array, elapsed_s: float) -> tuple[str, str] | None:
        """Return what is wrong with an arm, as reason and sentence; None if it follows.

        Args:
            arm: 'left' or 'right'.
            measured: its joints [K].
            elapsed_s: when they were measured, since the motion began.
        """
        sent = self._sent(arm, elapsed_s)
        low, high = self._range[arm]
        self._range[arm] = np.minimum(low, measured), np.maximum(high, measured)
        return (
            self._not_begun(arm, elapsed_s)
            or self._frozen(arm, measured, elapsed_s, sent)
            or self._astray(arm, measured, sent)
        )

    def _sent(self, arm: str, elapsed_s: float) -> Array:
        at = self._path.times[0] + elapsed_s
        return self._path.sample(at)[0][self._robot.arm_indices(arm)]

    def _frozen(
        self, arm: str, measured: Array, elapsed_s: float, sent: Array
    ) -> tuple[str, str] | None:
        since_s, value = self._last.get(arm, (elapsed_s, b''))
        if measured.tobytes() != value:
            self._last[arm] = (elapsed_s, measured.tobytes())
            return None
        moved = np.abs(sent - self._sent(arm, since_s))[self._joints[arm]].max()
        waits = arm not in self._begun or moved < _SENT_RAD
        if waits or elapsed_s - since_s < self._settings.frozen_joint_state_s:
            return None
        return (
            reasons.STALE_JOINT_STATE,
            f'The joint states of the {arm} arm have not changed for {elapsed_s - since_s:.2f} s '
            'while it was to move.',
        )

    def _not_begun(self, arm: str, elapsed_s: float) -> tuple[str, str] | None:
        if arm in self._begun:
            return None
        due_s = elapsed_s - self._settings.start_timeout_s
        has_begun = self._has_begun(arm, self._sent(arm, due_s))
        if has_begun is None:
            return None
        if has_begun:
            self._begun.add(arm)
            self.idle.discard(arm)
            return None
        self.idle.add(arm)
        return (
            reasons.ARM_NOT_FOLLOWING,
            f'The {arm} arm has not begun to move '
            f'{self._settings.start_timeout_s:g} s after it should have.',
        )

    def _has_begun(self, arm: str, sent: Array) -> bool | None:
        """Return whether an arm has done some of the way to `sent`; None: it is too short.

        A way that leads back was done too: what counts is how far the arm ever was from where it
        began. Arms that were held up on the way before lie beyond where they are sent at first,
        and need not move until that leads them on.
        """
        begin, (low, high) = self._begin[self._robot.arm_indices(arm)], self._range[arm]
        way, joints = sent - self._sent(arm, 0.0), self._joints[arm]
        ahead = np.minimum(np.abs(way), np.sign(way) * (sent - begin))[joints]
        done = np.where(way < 0.0, begin - low, high - begin)[joints]
        long = ahead >= _SENT_RAD
        return bool((done >= _BEGUN * ahead)[long].any()) if long.any() else None

    def _astray(self, arm: str, measured: Array, sent: Array) -> tuple[str, str] | None:
        part = self._robot.arm_indices(arm)
        error, allowed = np.abs(measured - sent), self._allowed[part]
        if (error <= allowed).all():
            return None
        j = int(np.argmax(error / allowed))
        name = self._robot.joint_names[part.start + j]
        away, joints = np.abs(measured - self._begin[part]), self._joints[arm]
        if not self._moving and away[joints].max() < error[joints].max():
            # Whether it moved at all or only trembles: it is nearer to where it stood.
            self.idle.add(arm)
        return (
            reasons.TRACKING,
            f'Joint {name} of the {arm} arm is {error[j]:.3f} from where it was sent; '
            f'max_tracking_error is {allowed[j]:g}.',
        )
