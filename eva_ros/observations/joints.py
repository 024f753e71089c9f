"""The joints over time, from the joint states of one topic or of one for each arm."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.observations.reasons import doubt
from eva_ros.observations.reasons import spelled
from eva_ros.observations.sync import AsOfBuffer
from eva_ros.observations.sync import Sample
from eva_ros.observations.wraps import Wrap
from eva_ros.observations.wraps import wrapped
from eva_ros.robot.spec import Arm
from eva_ros.robot.spec import Robot

Floats = Sequence[float] | NDArray[np.float64]
# Which of a topic's joints, by their places in it.
Joints = tuple[int, ...]

# What some drivers report for every joint before they have read the arm.
_SENTINEL = -1.0

# Rest is judged by how far the joints went in this time.
_REST_WINDOW_NS = 100_000_000
# Messages of so many kinds of content are known by heart.
_MOST_LAYOUTS = 256


class NotReady(UserError):  # noqa: N818
    """There is no observation now; the sentence says which camera or joint is missing."""


class NotYet(NotReady):
    """A stream begins after the instant; `late` says so where the clocks are not in doubt."""

    def __init__(self, stream: str, ahead_s: float) -> None:
        super().__init__(
            f'{stream} are stamped {spelled(ahead_s)} in the future: '
            f'{doubt(ahead_s, "do the clocks agree?")}'
        )
        self.late = f'{stream} begin only then.'


@dataclass(frozen=True, eq=False)
class JointReading:
    """All joints as of an instant.

    Attributes:
        stamp_ns: of the joint state, the older one's where there are two.
        positions: [J], the robot's order and units.
        velocities: [J], nan where the robot reports none.
    """

    stamp_ns: int
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Layout:
    """Where a message holds all joints of a topic: (number - zero) / scale is the joint."""

    held: Joints
    index: NDArray[np.int64]
    zero: NDArray[np.float64]
    scale: NDArray[np.float64]


def _layout(arms: Sequence[Arm], names: Sequence[str]) -> _Layout | None:
    """Return the layout of messages with these names; None where one lacks or is there twice."""
    wanted = [name for arm in arms for name in arm.state_joints]
    place = {name: index for index, name in enumerate(names)}
    if len(place) < len(names) or not all(name in place for name in wanted):
        return None
    index = np.array([place[name] for name in wanted])
    zero = np.concatenate([arm.state_interface.offset for arm in arms])
    scale = np.concatenate([arm.state_interface.scale for arm in arms])
    return _Layout(tuple(range(len(wanted))), index, zero, scale)


class JointTrack:
    """The last seconds of a robot's joint states.

    A message may hold some joints of its topic only (a driver for each arm on one topic, grippers
    apart): each joint then has the newest value that any message gave it.
    """

    def __init__(
        self, robot: Robot, max_age_s: float, ages_s: Mapping[str, float] | None = None
    ) -> None:
        """Begin with nothing.

        Args:
            robot: whose joints.
            max_age_s: a joint state older than this is not used, and labels are not
                interpolated across a longer gap.
            ages_s: another age for single topics.
        """
        self._robot = robot
        self._max_age_ns = {
            topic: round((ages_s or {}).get(topic, max_age_s) * 1e9)
            for topic in robot.joint_state_topics
        }
        # The joints of each topic, and a buffer for each set of them that messages hold.
        self._joints: dict[str, tuple[str, ...]] = {
            topic: tuple(n for arm in self._arms(topic) for n in arm.state_joints)
            for topic in robot.joint_state_topics
        }
        # Their names inside, and whether they turn, in rad; grippers open.
        self._inside: dict[str, tuple[str, ...]] = {
            topic: tuple(n for arm in self._arms(topic) for n in arm.joint_names)
            for topic in robot.joint_state_topics
        }
        self._turns: dict[str, NDArray[np.bool_]] = {
            topic: np.concatenate([np.zeros(0, bool), *(a.in_rad for a in self._arms(topic))])
            for topic in robot.joint_state_topics
        }
        self._buffers: dict[str, dict[Joints, AsOfBuffer[NDArray[np.float64]]]] = {
            topic: {} for topic in robot.joint_state_topics
        }
        self._complaints: dict[str, str] = {}
        self._layouts: dict[tuple[str, tuple[str, ...]], _Layout | None] = {}

    @property
    def newest(self) -> dict[str, int]:
        """Return the latest stamp of each topic that has been heard."""
        found = {
            topic: [b.newest.stamp_ns for b in buffers.values() if b.newest]
            for topic, buffers in self._buffers.items()
        }
        return {topic: max(stamps) for topic, stamps in found.items() if stamps}

    def clear(self) -> None:
        """Forget everything."""
        for buffers in self._buffers.values():
            buffers.clear()
        self._complaints.clear()

    def add(
        self,
        stamp_ns: int,
        names: Sequence[str],
        positions: Floats,
        velocities: Floats = (),
        topic: str = '',
    ) -> int:
        """Take in a joint state; one that lacks joints is left out and named when asked.

        Args:
            stamp_ns: of its header.
            names: the robot's own names, in any order.
            positions: in the robot's units.
            velocities: as many, or none.
            topic: where it came from; needed where the arms have a topic each.

        Returns:
            How far the clock was set back, in ns; usually 0.
        """
        topic = self._topic(topic)
        try:
            whole = self._whole(topic, names, positions, velocities)
            held, value = whole or self._value(topic, names, positions, velocities)
        except UserError as error:
            self._complaints[topic] = str(error)
            return 0
        buffer = self._buffers[topic].setdefault(held, AsOfBuffer())
        jump_ns = buffer.add(stamp_ns, value)
        if jump_ns:
            # The other topics' as well: one that fell silent would come back to life later.
            self.clear()
            self._buffers[topic][held] = buffer
        return jump_ns

    def _whole(
        self, topic: str, names: Sequence[str], positions: Floats, velocities: Floats
    ) -> tuple[Joints, NDArray[np.float64]] | None:
        """Return what `_value` does, without a look at names that were seen before.

        None where the message is not as it should be: `_value` says why.
        """
        key = (topic, tuple(names))
        if key not in self._layouts:
            if len(self._layouts) > _MOST_LAYOUTS:
                self._layouts.clear()
            self._layouts[key] = _layout(self._arms(topic), names)
        layout = self._layouts[key]
        raw = np.asarray(positions, np.float64)
        if layout is None or len(raw) != len(names) or len(velocities) not in (0, len(names)):
            return None
        values = np.full((2, len(layout.index)), np.nan)
        values[0] = (raw[layout.index] - layout.zero) / layout.scale
        if len(velocities):
            values[1] = np.asarray(velocities, np.float64)[layout.index] / layout.scale
        unread = _SENTINEL in raw and self._unread(topic, names, raw)
        if unread or not np.isfinite(values[0]).all():
            return None
        return layout.held, values

    def _value(
        self, topic: str, names: Sequence[str], positions: Floats, velocities: Floats
    ) -> tuple[Joints, NDArray[np.float64]]:
        """Return which of the topic's joints a message holds, and their values [2, held]."""
        wanted = self._joints[topic]
        unread = self._unread(topic, names, positions)
        if unread:
            raise UserError(unread)
        given = set(names)
        held = tuple(index for index, name in enumerate(wanted) if name in given)
        if not held:
            what = 'names no joint' if not len(names) else f'lacks {", ".join(wanted)}'
            raise UserError(f'The joint state {what}.')
        if len(held) < len(wanted):
            lacking = ', '.join(name for name in wanted if name not in given)
            self._complaints[topic] = f'The joint state lacks {lacking}.'
            names, positions, velocities = _filled(wanted, names, positions, velocities)
        both = np.stack(
            [
                self._join(topic, 'from_joint_state', names, positions),
                self._join(topic, 'velocities_from_joint_state', names, velocities),
            ]
        )
        return held, both if len(held) == len(wanted) else both[:, held]

    def _unread(self, topic: str, names: Sequence[str], positions: Floats) -> str:
        """Return a sentence where a message, or what it holds of one arm, is no measurement."""
        if is_sentinel(positions):
            return 'All its joints are -1: the driver has not read the arm.'
        given = dict(zip(names, positions))
        for arm in self._arms(topic):
            if is_sentinel([given[name] for name in arm.state_joints if name in given]):
                return f'All joints of the {arm.name} arm are -1: the driver has not read it.'
        return ''

    def _topic(self, topic: str) -> str:
        topics = self._robot.joint_state_topics
        if not topic and len(topics) == 1:
            return topics[0]
        name = topic.lstrip('/')
        if name not in topics:
            raise UserError(
                f"A joint state of '{topic}' is none of {self._robot.name}'s, which are on "
                f'{" and ".join(topics)}.'
            )
        return name

    def _join(self, topic: str, method: str, names: Sequence[str], values: Floats):
        parts = [getattr(arm, method)(names, values) for arm in self._arms(topic)]
        return np.concatenate(parts)

    def _arms(self, topic: str) -> list[Arm]:
        return [arm for arm in self._robot.arms.values() if arm.state_topic == topic]

    def at(self, now_ns: int) -> JointReading:
        """Return the newest joints not after an instant.

        Raises:
            NotReady: there are none, or they are too old.
        """
        found = {topic: self._found(topic, now_ns) for topic in self._buffers}
        both = self._all_joints({topic: sample.value for topic, sample in found.items()})
        return JointReading(min(s.stamp_ns for s in found.values()), both[0], both[1])

    def interpolated(self, stamp_ns: int) -> NDArray[np.float64]:
        """Return the joints [J] at an instant, linear between the states before and after it.

        Raises:
            NotReady: there is no state on one side, the two are too far apart, or an encoder
                wraps between them.
        """
        values = {topic: self._between(topic, stamp_ns) for topic in self._buffers}
        return self._all_joints(values)[0]

    def wrap(self, since_ns: int, until_ns: int) -> Wrap | None:
        """Return the first jump by a full turn between the states as of two instants."""
        found = [
            self._first_wrap(topic, held, buffer.span(since_ns, until_ns))
            for topic, buffers in self._buffers.items()
            for held, buffer in buffers.items()
        ]
        return min((w for w in found if w), key=lambda wrap: wrap.stamp_ns, default=None)

    def _first_wrap(
        self, topic: str, held: Joints, samples: Sequence[Sample[NDArray[np.float64]]]
    ) -> Wrap | None:
        if len(samples) < 2:
            return None
        steps = np.diff([sample.value[0] for sample in samples], axis=0)
        seconds = np.diff([sample.stamp_ns for sample in samples])[:, None] * 1e-9
        turned = np.argwhere(wrapped(steps, seconds) & self._turns[topic][list(held)])
        if not len(turned):
            return None
        row, column = turned[0]
        name = self._inside[topic][held[column]]
        return Wrap(name, samples[row + 1].stamp_ns, float(steps[row, column]))

    def at_rest(self, now_ns: int) -> bool:
        """Return whether every joint moved slower than the robot's rest velocity just now.

        From positions, which every robot reports: how far the joints went within 0.1 s.
        """
        for buffers in self._buffers.values():
            if not buffers or not all(self._rests(b, now_ns) for b in buffers.values()):
                return False
        return True

    def _rests(self, buffer: AsOfBuffer[NDArray[np.float64]], now_ns: int) -> bool:
        newest = buffer.at(now_ns)
        before = newest and buffer.at(newest.stamp_ns - _REST_WINDOW_NS)
        if not newest or not before:
            return False
        seconds = (newest.stamp_ns - before.stamp_ns) * 1e-9
        moved = np.abs(newest.value[0] - before.value[0]).max()
        return bool(moved < self._robot.rest_velocity * seconds)

    def _found(self, topic: str, now_ns: int) -> Sample[NDArray[np.float64]]:
        """Return the topic's joints as of an instant, stamped as the oldest part of them."""
        samples = {
            held: sample
            for held, buffer in self._buffers[topic].items()
            if (sample := buffer.at(now_ns))
        }
        sample = self._merged(topic, samples)
        if sample is None:
            raise self._nothing(topic, now_ns)
        age_ns = now_ns - sample.stamp_ns
        if age_ns > self._max_age_ns[topic]:
            reason = doubt(age_ns * 1e-9, self._complaints.get(topic, 'is it still published?'))
            raise NotReady(
                f"The newest joint state on '{topic}' is {spelled(age_ns * 1e-9)} old (at most "
                f'{self._max_age_ns[topic] * 1e-9:.2f} s): {reason}'
            )
        return sample

    def _merged(
        self, topic: str, samples: dict[Joints, Sample[NDArray[np.float64]]]
    ) -> Sample[NDArray[np.float64]] | None:
        """Return one sample of all joints, each from the newest message; None if any lacks."""
        count = len(self._joints[topic])
        if len(samples) == 1 and len(next(iter(samples))) == count:
            return next(iter(samples.values()))
        value, stamps = np.zeros((2, count)), [0] * count
        for held, sample in sorted(samples.items(), key=lambda entry: entry[1].stamp_ns):
            value[:, held] = sample.value
            for index in held:
                stamps[index] = sample.stamp_ns
        if {index for held in samples for index in held} != set(range(count)):
            return None
        return Sample(min(stamps), value)

    def _nothing(self, topic: str, now_ns: int) -> NotReady:
        heard = self.newest.get(topic)
        if heard and heard > now_ns:
            ahead_s = (heard - now_ns) * 1e-9
            return NotYet(f"The joint states on '{topic}'", ahead_s)
        if topic in self._complaints:
            why = self._complaints[topic]
            return NotReady(f"No joint state on '{topic}' is complete: {why}")
        return NotReady(f"There is no joint state on '{topic}' yet.")

    def _between(self, topic: str, stamp_ns: int) -> NDArray[np.float64]:
        """Return the topic's joints [2, joints] at an instant between two samples of each."""
        self._found(topic, stamp_ns)
        samples = {
            held: Sample(newest.stamp_ns, self._line(topic, held, buffer, stamp_ns))
            for held, buffer in self._buffers[topic].items()
            if (newest := buffer.at(stamp_ns))
            and stamp_ns - newest.stamp_ns <= self._max_age_ns[topic]
        }
        merged = self._merged(topic, samples)
        assert merged is not None, '_found has found all joints at this instant'
        return merged.value

    def _line(
        self, topic: str, held: Joints, buffer: AsOfBuffer[NDArray[np.float64]], stamp_ns: int
    ) -> NDArray[np.float64]:
        before, after = buffer.at(stamp_ns), buffer.after(stamp_ns)
        assert before is not None
        if before.stamp_ns == stamp_ns:
            return before.value
        if after is None:
            raise NotReady(f"There is no joint state on '{topic}' after the image.")
        gap_ns = after.stamp_ns - before.stamp_ns
        if gap_ns > self._max_age_ns[topic]:
            raise NotReady(
                f"The joint states on '{topic}' have a gap of {spelled(gap_ns * 1e-9)}."
            )
        wrap = self._first_wrap(topic, held, (before, after))
        if wrap:
            raise NotReady(f'{wrap}: labels are not interpolated across it.')
        share = (stamp_ns - before.stamp_ns) / gap_ns
        return before.value + share * (after.value - before.value)

    def _all_joints(self, values: dict[str, NDArray]) -> NDArray[np.float64]:
        """Return positions and velocities of all joints [2, J] from each topic's."""
        parts, taken = [], dict.fromkeys(values, 0)
        for arm in self._robot.arms.values():
            topic, count = arm.state_topic, len(arm.joint_names)
            parts.append(values[topic][:, taken[topic] : taken[topic] + count])
            taken[topic] += count
        return np.concatenate(parts, axis=1)


def is_sentinel(positions: Floats) -> bool:
    """Return whether all of two or more joints are exactly -1: no measurement."""
    values = np.asarray(positions)
    return len(values) > 1 and bool(np.all(values == _SENTINEL))


def _filled(
    wanted: Sequence[str], names: Sequence[str], positions: Floats, velocities: Floats
) -> tuple[list[str], list[float], list[float]]:
    """Return a message with the joints that it lacks put in; the caller takes them out again."""
    if len(names) != len(positions):
        raise UserError(f'A joint state has {len(names)} names but {len(positions)} positions.')
    lacking = [name for name in wanted if name not in set(names)]
    filler = float(positions[0])
    rates = [*velocities, *[0.0] * len(lacking)] if len(velocities) == len(names) else []
    return [*names, *lacking], [*positions, *[filler] * len(lacking)], rates
