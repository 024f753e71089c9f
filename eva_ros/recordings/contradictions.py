"""Joint states on one topic that contradict each other: two publishers, or one that errs.

A bag doesn't say who published a message, so this is judged by what no joint does: it leaps away
and back, faster than it can move, or alternates between two places with every message.
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.observations.reasons import figure
from eva_ros.recordings.arm_states import ArmStates
from eva_ros.recordings.records import JointStateRecord
from eva_ros.recordings.records import Record
from eva_ros.recordings.streams import JUMP_NS
from eva_ros.robot.leaps import encoder_noise
from eva_ros.robot.leaps import SPEED_MARGIN
from eva_ros.robot.spec import Arm
from eva_ros.robot.spec import Robot

# One that goes on like before, up to so many times as far, is in motion.
_SUDDEN = 3.0
# A leap back so much later belongs to the leap away.
_LONGEST_S = 1.0
# So many messages in a row that alternate, each so many times farther apart than noise, and no
# longer than this: slower, a joint may swing.
_ALTERNATIONS, _ALTERNATION, _SWING_S = 5, 2.5, 0.11

_ADVICE = (
    'No joint moves like that: two nodes publish the topic, or one publishes wrong values. As '
    "nothing tells them apart, nothing of the bag is used: see 'ros2 topic info -v' for who "
    'publishes it, stop the one that is not the driver, and record again.'
)


class ContradictionError(UserError):
    """Joint states contradict each other.

    Attributes:
        sentences: What contradicts what and what to do, one for each arm.
    """

    def __init__(self, facts: list[str]) -> None:
        super().__init__(' '.join([*facts, _ADVICE]))
        self.sentences = [f'{fact} {_ADVICE}' for fact in facts]


class Contradictions:
    """Watches the joint states of a bag as they were received."""

    def __init__(self, robot: Robot, received: Collection[str]) -> None:
        """Begin with nothing.

        Args:
            robot: whose joints and limits.
            received: joint-state topics whose stamps cannot be used.
        """
        self._arms = []
        for name, arm in robot.arms.items():
            fastest = robot.limits.max_velocity[robot.arm_indices(name)]
            self._arms.append(_ArmWatch(arm, fastest, arm.state_topic in received))

    def through(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield records, and look at those of joint states."""
        for record in records:
            if isinstance(record, JointStateRecord):
                for arm in self._arms:
                    arm.add(record)
            yield record

    def facts(self) -> list[str]:
        """Return what contradicts what, a sentence for each arm that has such joint states."""
        return [found for arm in self._arms if (found := arm.fact())]


@dataclass(frozen=True)
class _Leap:
    """From where a joint leapt, how far, when on its own clock, and whether it rested exactly."""

    start: float
    step: float
    at_s: float
    rested: bool


@dataclass
class _Finding:
    """Where a joint was before, at and after the first contradiction, when, and how many."""

    places: tuple[float, float, float]
    at_s: float
    count: int = 1


class _ArmWatch:
    """Watches the joints of one arm, each from message to message that holds it."""

    def __init__(self, arm: Arm, fastest: NDArray, received: bool) -> None:
        count = len(arm.joint_names)
        self._arm, self._received, self._states = arm, received, ArmStates(arm)
        self._fastest = SPEED_MARGIN * np.where(np.isfinite(fastest), fastest, np.inf)
        is_gripper = np.arange(count) >= len(arm.joints)
        # Of joints of an unknown unit nobody can say what is noise.
        self._noise = np.where(arm.in_rad | is_gripper, encoder_noise(is_gripper), np.inf)
        self._value, self._step = np.full(count, np.nan), np.full(count, np.nan)
        self._stamp, self._heard = np.zeros(count, np.int64), np.zeros(count, np.int64)
        # Time since each joint's first message, how often its value was repeated exactly, and
        # how many messages in a row alternated.
        self._clock_s, self._repeats = np.zeros(count), np.zeros(count, int)
        self._alternations = np.zeros(count, int)
        self._leaps: dict[int, _Leap] = {}
        self._found: dict[int, _Finding] = {}

    def add(self, record: JointStateRecord) -> None:
        """Take in a joint state; what is no measurement says nothing."""
        wrong_topic = record.topic != self._arm.state_topic
        if wrong_topic or len(record.names) != len(record.positions):
            return
        found = self._states.values(record)
        if found is None or not np.isfinite(found[1]).all():
            return
        held, values = found
        waited_s, elapsed_s = self._elapsed_s(record, held)
        step = values - self._value[held]
        with np.errstate(invalid='ignore', over='ignore'):
            reach = self._fastest[held] * elapsed_s + self._noise[held]
            leaps = np.abs(step) > reach
            # An encoder that wraps contradicts nothing.
            leaps &= np.abs(np.abs(step) - 2 * pi) > reach
            # Messages that were held up and sent at once go on as they did before.
            last = self._step[held]
            leaps &= ~((np.sign(step) == np.sign(last)) & (np.abs(step) < _SUDDEN * np.abs(last)))
        for place in np.flatnonzero(leaps):
            self._leap(int(held[place]), values[place], step[place], elapsed_s[place])
        self._alternate(held, values, step, waited_s, leaps)
        self._repeats[held] = np.where(step == 0, self._repeats[held] + 1, 0)
        self._clock_s[held] += elapsed_s
        self._value[held], self._step[held] = values, step
        self._stamp[held], self._heard[held] = record.stamp_ns, record.received_ns

    def _elapsed_s(self, record: JointStateRecord, held: NDArray) -> tuple[NDArray, NDArray]:
        """Return how long ago each joint was received, and what its stamp allows beyond that."""
        known = self._heard[held] > 0
        waited_ns = np.where(known, np.abs(record.received_ns - self._heard[held]), 0)
        apart_ns = np.abs(record.stamp_ns - self._stamp[held])
        usable = (apart_ns <= JUMP_NS) & known & (not self._received)
        elapsed_ns = np.maximum(waited_ns, np.where(usable, apart_ns, 0))
        return waited_ns * 1e-9, elapsed_ns * 1e-9

    def _leap(self, joint: int, value: float, step: float, elapsed_s: float) -> None:
        """Note a leap; one that goes back to where another came from is a contradiction."""
        now_s, rested = self._clock_s[joint], bool(self._repeats[joint])
        before = self._leaps.get(joint)
        self._leaps[joint] = _Leap(self._value[joint], step, now_s, rested)
        if (
            not before
            or now_s + elapsed_s - before.at_s > _LONGEST_S
            or (step > 0) == (before.step > 0)
        ):
            return
        off = abs(value - before.start)
        if off > min(abs(step), abs(before.step)) / 2:
            return
        # Values that are held and renewed seldom make stairs, and a gripper may be a switch.
        stairs = joint >= len(self._arm.joints) or off > self._noise[joint]
        if not (before.rested and rested and stairs):
            self._tell(joint, (before.start, self._value[joint], value))

    def _alternate(
        self,
        held: NDArray,
        values: NDArray,
        step: NDArray,
        waited_s: NDArray,
        leaps: NDArray,
    ) -> None:
        """Note joints that alternate between two places."""
        last = self._step[held]
        with np.errstate(invalid='ignore', over='ignore'):
            least = np.minimum(np.abs(step), np.abs(last))
            swings = (np.sign(step) == -np.sign(last)) & (np.abs(step + last) < least / 4)
            swings &= (least > _ALTERNATION * self._noise[held]) & (waited_s <= _SWING_S)
        self._alternations[held] = np.where(swings, self._alternations[held] + 1, 0)
        for place in np.flatnonzero((self._alternations[held] >= _ALTERNATIONS) & ~leaps):
            joint = int(held[place])
            before = self._value[joint] - self._step[joint]
            self._tell(joint, (before, self._value[joint], values[place]))

    def _tell(self, joint: int, places: tuple[float, float, float]) -> None:
        if joint in self._found:
            self._found[joint].count += 1
        else:
            self._found[joint] = _Finding(places, float(self._clock_s[joint]))

    def fact(self) -> str:
        """Return what contradicts what; '' where nothing does."""
        if not self._found:
            return ''
        first_s = min(finding.at_s for finding in self._found.values())
        joints = '; '.join(
            '{} goes from {} to {} and back to {} ({} times)'.format(
                self._arm.joint_names[joint], *map(figure, finding.places), finding.count
            )
            for joint, finding in sorted(self._found.items())
        )
        topic = self._arm.state_topic
        return (
            f"{self._arm.name.capitalize()} arm: joint states on '{topic}' contradict each other, "
            f'first {first_s:.2f} s after it was first heard: {joints}.'
        )
