"""An arm's joints in joint states, which may hold them in any order, or only some of them."""

import numpy as np
from numpy.typing import NDArray

from eva_ros.observations.joints import is_sentinel
from eva_ros.recordings.records import JointStateRecord
from eva_ros.robot.spec import Arm


class ArmStates:
    """Finds an arm's joints in joint states."""

    def __init__(self, arm: Arm) -> None:
        self._names = arm.state_joints
        self._scale, self._zero = arm.state_interface.scale, arm.state_interface.offset
        self._places: dict[tuple[str, ...], NDArray] = {}

    def held(self, names: tuple[str, ...]) -> tuple[NDArray, NDArray]:
        """Return which of the arm's joints a message of these names holds, and where."""
        if len(self._places) > 1000:
            self._places.clear()
        if names not in self._places:
            given = {name: place for place, name in enumerate(names)}
            found = [(i, given[n]) for i, n in enumerate(self._names) if n in given]
            self._places[names] = np.array(found, int).reshape(-1, 2)
        return self._places[names][:, 0], self._places[names][:, 1]

    def values(self, record: JointStateRecord) -> tuple[NDArray, NDArray] | None:
        """Return which joints a joint state holds and where they are, in rad and openings.

        None where the arm's values are not a measurement: all joints are -1.
        """
        held, places = self.held(record.names)
        raw = np.asarray(record.positions, np.float64)[places]
        if is_sentinel(record.positions) or is_sentinel(raw):
            return None
        return held, (raw - self._zero[held]) / self._scale[held]
