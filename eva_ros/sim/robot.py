"""The interface of the simulated robot: images and joint states out, joint trajectories in.

The node `sim_robot`, the closed loop and the recorder all use this class, so that recordings,
measurements and the demo agree.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from eva_ros.robot.paths import SIM_ROBOT
from eva_ros.robot.spec import load_robot
from eva_ros.sim.controller import TrajectoryCommand as TrajectoryCommand
from eva_ros.sim.controller import TrajectoryController
from eva_ros.sim.judge import Judge
from eva_ros.sim.judge import Sight
from eva_ros.sim.scenes import CLEAN
from eva_ros.sim.scenes import Scenes
from eva_ros.sim.scenes import TIME_LIMIT_S
from eva_ros.sim.tasks import draw_scene
from eva_ros.sim.tasks import find_task
from eva_ros.sim.tasks import Scene
from eva_ros.sim.tasks import TASKS
from eva_ros.sim.world import AlohaWorld
from eva_ros.sim.world import CAMERAS
from eva_ros.sim.world import IMAGE_SIZE
from eva_ros.sim.world import SIDES
from eva_ros.sim.world import STEP_NS

CONTROL_NS = 10_000_000
CAMERA_NS = 50_000_000
FIRST_NS = 1_000_000_000
JPEG_QUALITY = 90


@dataclass(frozen=True)
class CameraImage:
    """An image as published by a camera driver: JPEG bytes."""

    stamp_ns: int
    camera: str
    data: bytes


@dataclass(frozen=True)
class JointState:
    """Measured joints with the controllers' names and units [14]."""

    stamp_ns: int
    names: tuple[str, ...]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]


class SimRobot:
    """A simulated ALOHA that executes trajectories as ros2_control does.

    Attributes:
        cameras_on: Whether images are rendered; may be set between calls of advance().
        camera_ns: Time between two images, a multiple of CONTROL_NS; may be set as well.
        task: Name of the task that is judged.

    Args:
        task: Name of the task whose scene is sampled.
        seed: Random seed of the scene.
        scenes: Whether scenes are clean or randomised.
        height: Image height in pixels.
        width: Image width in pixels.
        splice: Whether trajectories are replaced as in rolling instead of Jazzy.
    """

    def __init__(
        self,
        task: str,
        seed: int,
        *,
        scenes: Scenes = CLEAN,
        height: int = IMAGE_SIZE[0],
        width: int = IMAGE_SIZE[1],
        splice: bool = False,
    ):
        """Sample the scene; the clock starts at one second."""
        self._size = (height, width)
        self._splice = splice
        self._robot = load_robot(SIM_ROBOT)
        self._scenes = scenes
        self._world = AlohaWorld(height, width)
        self._base_ns = FIRST_NS
        self.cameras_on = True
        self.camera_ns = CAMERA_NS
        self.reset(task, seed)

    @property
    def time_ns(self) -> int:
        """Return the simulated time, which continues across resets."""
        return self._base_ns + self._world.time_ns

    @property
    def world(self) -> AlohaWorld:
        """Return the world, for experts, judges and images only (privileged)."""
        return self._world

    def reset(self, task: str, seed: int, scene: Scene | None = None) -> None:
        """Start an episode with arms and cube at their start positions.

        Args:
            task: Name of the task that is judged.
            seed: Random seed of the scene.
            scene: Scene to use instead of sampling one.
        """
        chosen = find_task(task)
        self.task = task
        self._base_ns = self.time_ns
        self._scene = scene or draw_scene(chosen, seed, self._scenes)
        self._load_world(chosen.target, self._scene.look is not None)
        self._world.reset(self._scene.joints, self._scene.target, self._scene.look)
        self._judges = {known.name: Judge(known) for known in (*TASKS.values(), chosen)}
        self._controllers = {
            arm: TrajectoryController(
                self._robot.arms[arm].controller.joints,
                self._robot.arm_command(arm, self._scene.joints[None])[1][0],
                splice=self._splice,
            )
            for arm in SIDES
        }

    def _load_world(self, target: str, cluttered: bool) -> None:
        if self._world.kind != (target, cluttered):
            self._world.close()
            self._world = AlohaWorld(*self._size, target, cluttered)

    @property
    def scene(self) -> Scene:
        """Return the scene at the start of the episode (privileged)."""
        return self._scene

    def success(self) -> bool:
        """Return whether the task has been done since the reset."""
        return self._judges[self.task].success

    def in_time(self) -> bool:
        """Return whether the task was done within its time limit."""
        done_ns = self._judges[self.task].done_ns
        return done_ns is not None and done_ns <= TIME_LIMIT_S * 1e9

    def tasks_done(self) -> tuple[str, ...]:
        """Return the names of all tasks done since the reset, asked for or not, in that order."""
        done = [(judge.done_ns, name) for name, judge in self._judges.items() if judge.success]
        return tuple(name for _, name in sorted(done))

    def gym_aloha_success(self) -> bool | None:
        """Return whether a transfer was done by gym-aloha's criterion; None for other tasks."""
        if self.task != 'transfer_cube':
            return None
        return self._judges[self.task].gym_aloha_done_ns is not None

    def restart_clock(self) -> None:
        """Reset the clock to one second, for a recorder that starts a new bag."""
        self._base_ns = FIRST_NS - self._world.time_ns

    def send(self, arm: str, command: TrajectoryCommand) -> str | None:
        """Send a trajectory to an arm's controller; return why it was rejected, or None."""
        return self._controllers[arm].accept(command, self.time_ns)

    def commanded(self) -> NDArray[np.float64]:
        """Return the current commands to the actuators [14], in the robot's order."""
        parts = []
        for arm in SIDES:
            values = self._controllers[arm].sample(self.time_ns)
            parts.append(self._robot.arms[arm].command_interface.from_message(values))
        return np.concatenate(parts)

    def advance(self, duration_s: float) -> list[CameraImage | JointState]:
        """Advance time and return what the robot published meanwhile, in order of stamps.

        Time advances in control periods of 10 ms; a shorter remainder is rounded up.
        """
        events: list[CameraImage | JointState] = []
        for _ in range(max(1, int(np.ceil(duration_s * 1e9 / CONTROL_NS - 1e-6)))):
            self._world.command(self.commanded())
            self._world.step(CONTROL_NS // STEP_NS)
            sight = Sight.of(self._world)
            for judge in self._judges.values():
                judge.watch(sight)
            events.extend(self._publish())
        return events

    def _publish(self) -> Iterator[CameraImage | JointState]:
        now = self.time_ns
        if self.cameras_on and now % self.camera_ns == 0:
            for camera in CAMERAS:
                yield CameraImage(now, camera, _jpeg(self._world.render(camera)))
        yield self.joint_state()

    def joint_state(self) -> JointState:
        """Return the measured joints now."""
        names, positions = self._robot.to_joint_state(self._world.joints)
        rates = self._world.velocities
        velocities = [
            arm.state_interface.rates_to_message(rates[self._robot.arm_indices(name)])
            for name, arm in self._robot.arms.items()
        ]
        return JointState(self.time_ns, names, positions, np.concatenate(velocities))

    def close(self) -> None:
        """Release the renderer."""
        self._world.close()


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
