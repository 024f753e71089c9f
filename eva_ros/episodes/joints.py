"""The joints over time, from the joint states of one topic or of one for each arm."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eva_ros.episodes.sync import AsOfBuffer
from eva_ros.episodes.sync import Sample
from eva_ros.errors import UserError
from eva_ros.robot.spec import ARM_NAMES
from eva_ros.robot.spec import Robot

Floats = Sequence[float] | NDArray[np.float64]

# Rest is judged by how far the joints went in this time.
_REST_WINDOW_NS = 100_000_000


class NotReady(UserError):  # noqa: N818
    """There is no observation now; the sentence says which camera or joint is missing."""


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


class JointTrack:
    """The last seconds of a robot's joint states."""

    def __init__(self, robot: Robot, max_age_s: float) -> None:
        """Begin with nothing.

        Args:
            robot: whose joints.
            max_age_s: a joint state older than this is not used, and labels are not
                interpolated across a longer gap.
        """
        self._robot = robot
        self._max_age_ns = round(max_age_s * 1e9)
        self._buffers: dict[str, AsOfBuffer[NDArray[np.float64]]] = {
            topic: AsOfBuffer() for topic in robot.joint_state_topics
        }
        self._complaints: dict[str, str] = {}

    @property
    def newest(self) -> dict[str, int]:
        """Return the latest stamp of each topic that has been heard."""
        found = {topic: buffer.newest for topic, buffer in self._buffers.items()}
        return {topic: sample.stamp_ns for topic, sample in found.items() if sample}

    def clear(self) -> None:
        """Forget everything."""
        for buffer in self._buffers.values():
            buffer.clear()
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
            value = np.stack(
                [
                    self._join(topic, 'from_joint_state', names, positions),
                    self._join(topic, 'velocities_from_joint_state', names, velocities),
                ]
            )
        except UserError as error:
            self._complaints[topic] = str(error)
            return 0
        return self._buffers[topic].add(stamp_ns, value)

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
        arms = [self._robot.arms[arm] for arm in ARM_NAMES]
        own = [arm for arm in arms if arm.state_topic == topic]
        return np.concatenate([getattr(arm, method)(names, values) for arm in own])

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
            NotReady: there is no state on one side, or the two are too far apart.
        """
        values = {topic: self._between(topic, stamp_ns) for topic in self._buffers}
        return self._all_joints(values)[0]

    def at_rest(self, now_ns: int) -> bool:
        """Return whether every joint moved slower than the robot's rest velocity just now.

        From positions, which every robot reports: how far the joints went within 0.1 s.
        """
        for buffer in self._buffers.values():
            newest = buffer.at(now_ns)
            before = newest and buffer.at(newest.stamp_ns - _REST_WINDOW_NS)
            if not newest or not before:
                return False
            seconds = (newest.stamp_ns - before.stamp_ns) * 1e-9
            moved = np.abs(newest.value[0] - before.value[0]).max()
            if moved >= self._robot.rest_velocity * seconds:
                return False
        return True

    def _found(self, topic: str, now_ns: int) -> Sample[NDArray[np.float64]]:
        sample = self._buffers[topic].at(now_ns)
        if sample is None:
            raise NotReady(self._nothing(topic, now_ns))
        age_ns = now_ns - sample.stamp_ns
        if age_ns > self._max_age_ns:
            reason = self._complaints.get(topic, 'is it still published?')
            raise NotReady(
                f"The newest joint state on '{topic}' is {age_ns * 1e-9:.2f} s old (at most "
                f'{self._max_age_ns * 1e-9:.2f} s): {reason}'
            )
        return sample

    def _nothing(self, topic: str, now_ns: int) -> str:
        newest = self._buffers[topic].newest
        if newest:
            ahead_s = (newest.stamp_ns - now_ns) * 1e-9
            return (
                f"The joint states on '{topic}' are stamped {ahead_s:.2f} s in the future: do the "
                'clocks agree?'
            )
        if topic in self._complaints:
            return f"No joint state on '{topic}' is complete: {self._complaints[topic]}"
        return f"There is no joint state on '{topic}' yet."

    def _between(self, topic: str, stamp_ns: int) -> NDArray[np.float64]:
        before = self._found(topic, stamp_ns)
        if before.stamp_ns == stamp_ns:
            return before.value
        after = self._buffers[topic].after(stamp_ns)
        if after is None:
            raise NotReady(f"There is no joint state on '{topic}' after the image.")
        gap_ns = after.stamp_ns - before.stamp_ns
        if gap_ns > self._max_age_ns:
            raise NotReady(f"The joint states on '{topic}' have a gap of {gap_ns * 1e-9:.2f} s.")
        share = (stamp_ns - before.stamp_ns) / gap_ns
        return before.value + share * (after.value - before.value)

    def _all_joints(self, values: dict[str, NDArray]) -> NDArray[np.float64]:
        """Return positions and velocities of all joints [2, J] from each topic's."""
        parts, taken = [], dict.fromkeys(values, 0)
        for name in ARM_NAMES:
            arm = self._robot.arms[name]
            topic, count = arm.state_topic, len(arm.joint_names)
            parts.append(values[topic][:, taken[topic] : taken[topic] + count])
            taken[topic] += count
        return np.concatenate(parts, axis=1)
