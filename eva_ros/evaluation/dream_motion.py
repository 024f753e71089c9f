"""What an inverse dynamics model says of the motion in dreams."""

import numpy as np
from numpy.typing import NDArray
import torch

from eva_ros.alignment.judge import path_length
from eva_ros.alignment.reward import executability
from eva_ros.alignment.reward import MotionLimits
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_rollout
from eva_ros.robot.kinematics import ForwardKinematics
from eva_ros.robot.spec import Robot

# Figures of a clip that are printed as one figure over all clips.
INSTRUCTED, DREAMED_RAD, RECORDED_RAD = 'instructed arm', 'dreamed motion', 'recorded motion'


class DreamMotion:
    """What an IDM says of the motion in dreams."""

    def __init__(self, idm: InverseDynamics, robot: Robot) -> None:
        """Prepare to read dreams of a robot."""
        self._idm = idm
        self._kinematics = ForwardKinematics(robot) if robot.has_end_effectors else None
        self._grippers = torch.tensor(idm.config.gripper_mask)
        # As `eva align` judges: a limit that the robot YAML does not give never binds.
        self._limits = MotionLimits.of(robot.limits, robot.gripper_mask)

    def figures(self, dream: NDArray, real: NDArray, joints: NDArray) -> dict[str, float]:
        """Return the figures of a dream [T, H, W, 3] of a clip with these frames and joints."""
        read, real_read = self._read(dream), self._read(real)
        dreamed, recorded = self._travelled(read), self._travelled(joints)
        arm = max(recorded, key=lambda name: recorded[name])
        figures = {
            DREAMED_RAD: sum(dreamed.values()),
            RECORDED_RAD: sum(recorded.values()),
            INSTRUCTED: float(max(dreamed, key=lambda name: dreamed[name]) == arm),
            'start_speed_off_rad_s': abs(self._start_speed(read) - self._start_speed(joints)),
            'idm_start_speed_off_rad_s': abs(
                self._start_speed(real_read) - self._start_speed(joints)
            ),
            **self._misses(read, real_read, joints),
        }
        dt = 1 / self._idm.config.rate_hz
        figures['executability'] = float(
            executability(torch.from_numpy(read), dt, self._limits).score
        )
        return figures

    def _read(self, frames: NDArray) -> NDArray[np.float64]:
        return read_rollout(self._idm, frames).positions.double().numpy()

    def _start_speed(self, path: NDArray) -> float:
        """Return the speed of the fastest arm joint in the first two steps, rad/s."""
        arms = ~np.asarray(self._idm.config.gripper_mask)
        return float(np.abs(path[2] - path[0])[arms].max() / 2 * self._idm.config.rate_hz)

    def _travelled(self, path: NDArray) -> dict[str, float]:
        """Return how far each arm's joints travel, rad."""
        dt, positions = 1 / self._idm.config.rate_hz, torch.from_numpy(np.asarray(path, float))
        return {
            arm: float(path_length(positions[:, own], dt, self._grippers[own]))
            for arm, columns in self._idm.config.columns.items()
            for own in [slice(columns.start, columns.stop)]
        }

    def _misses(self, dream: NDArray, idm: NDArray, joints: NDArray) -> dict[str, float]:
        """Return how far off a clip ends: the fingertips of the arm that moves most in m.

        Where no URDF says where these are, the arm joints instead: their mean error in rad.
        """
        still = np.repeat(joints[:1], len(joints), 0)
        paths = {'dream_miss': dream, 'idm_miss': idm, 'still_miss': still}
        if self._kinematics is None:
            arms = ~np.asarray(self._idm.config.gripper_mask)
            return {
                f'{name}_rad': float(np.abs(path[-1] - joints[-1])[arms].mean())
                for name, path in paths.items()
            }
        truth = self._kinematics.end_effector(joints)
        arm = max(truth, key=lambda name: np.linalg.norm(truth[name][-1] - truth[name][0]))
        tips = {n: self._kinematics.end_effector(path)[arm][-1] for n, path in paths.items()}
        return {f'{n}_m': float(np.linalg.norm(tip - truth[arm][-1])) for n, tip in tips.items()}
