"""Where the end effectors are, from a URDF (Pinocchio)."""

from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray
import pinocchio

from eva_ros.errors import UserError
from eva_ros.robot.spec import Robot
from eva_ros.robot.urdf import find_urdf
from eva_ros.robot.urdf import gripper_ranges
from eva_ros.robot.urdf import to_urdf
from eva_ros.robot.urdf import urdf_joint_names

Array = NDArray[np.float64]


class ForwardKinematics:
    """Forward kinematics of the arms in the URDF's root frame.

    The URDF names its joints as the robot's names inside, or as its controllers do.

    Args:
        robot: whose joints and end-effector frames.
        urdf_path: the robot's own URDF if None.

    Raises:
        UserError: no URDF, or it lacks a joint or an end-effector frame.
    """

    def __init__(self, robot: Robot, urdf_path: Path | None = None) -> None:
        self.robot, self.path = robot, find_urdf(robot, urdf_path)
        self.urdf_names = urdf_joint_names(robot, self.path)
        self.model = pinocchio.buildModelFromUrdf(str(self.path))
        self.data = self.model.createData()
        self.joint_ids = [self.model.getJointId(name) for name in self.urdf_names]
        self._columns = [self.model.joints[joint].idx_q for joint in self.joint_ids]
        self._ranges = gripper_ranges(robot, self.path)
        self._mimic = _mimic_columns(self.path, self.model)
        self._frames = {
            name: self.frame_id(arm.end_effector_frame)
            for name, arm in robot.arms.items()
            if arm.end_effector_frame
        }

    def end_effector(self, q: ArrayLike) -> dict[str, Array]:
        """Return each arm's end-effector position [..., 3] in m for joints [..., J].

        Arms whose YAML names no end_effector_frame are left out.
        """
        q = np.asarray(q, dtype=np.float64)
        flat = self.configurations(q.reshape(-1, q.shape[-1]))
        found: dict[str, list[Array]] = {arm: [] for arm in self._frames}
        for configuration in flat:
            pinocchio.framesForwardKinematics(self.model, self.data, configuration)
            for arm, frame in self._frames.items():
                found[arm].append(self.data.oMf[frame].translation.copy())
        return {arm: np.array(rows).reshape(*q.shape[:-1], 3) for arm, rows in found.items()}

    def frame(self, q: ArrayLike, name: str) -> tuple[Array, Array]:
        """Return rotation [3, 3] and position [3] of a frame of the URDF for joints [J]."""
        frame = self.frame_id(name)
        configuration = self.configurations(np.atleast_2d(q))[0]
        pinocchio.framesForwardKinematics(self.model, self.data, configuration)
        pose = self.data.oMf[frame]
        return pose.rotation.copy(), pose.translation.copy()

    def configurations(self, q: Array) -> Array:
        """Return the model's configurations [N, nq] for joints inside [N, J]."""
        values = self.to_urdf(q)
        configurations = np.tile(pinocchio.neutral(self.model), (len(values), 1))
        configurations[:, self._columns] = values
        for column, source, multiplier, offset in self._mimic:
            configurations[:, column] = multiplier * configurations[:, source] + offset
        return configurations

    def to_urdf(self, q: ArrayLike) -> Array:
        """Return joints inside [..., J] as the URDF has them: rad, m or rad for the grippers."""
        return to_urdf(self.robot, q, self._ranges)

    @property
    def strokes(self) -> Array:
        """Return how far each gripper's URDF joint goes from closed to open [G], m or rad."""
        return self._ranges[:, 1]

    def frame_id(self, name: str) -> int:
        """Return the number of a frame of the URDF; UserError where it has none."""
        if not self.model.existFrame(name):
            raise UserError(f'The URDF {self.path} has no frame {name}.')
        return self.model.getFrameId(name)


@lru_cache(maxsize=8)
def forward_kinematics(robot: Robot) -> ForwardKinematics:
    """Return the kinematics of a robot's own URDF, built once."""
    return ForwardKinematics(robot)


def _mimic_columns(path: Path, model: pinocchio.Model) -> list[tuple[int, int, float, float]]:
    """Return (column, source column, multiplier, offset) of joints that mimic another one."""
    found = []
    for joint in ElementTree.parse(path).getroot().iter('joint'):
        mimic = joint.find('mimic')
        if mimic is None or not model.existJointName(joint.get('name')):
            continue
        columns = [
            model.joints[model.getJointId(name)].idx_q
            for name in (joint.get('name'), mimic.get('joint'))
        ]
        multiplier, offset = mimic.get('multiplier', '1'), mimic.get('offset', '0')
        found.append((*columns, float(multiplier), float(offset)))
    return found
