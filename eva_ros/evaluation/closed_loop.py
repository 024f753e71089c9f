"""The closed loop on a simulated robot, without ROS: look, dream, move, until the task is done.

Ingest and decoding are the functions that the nodes call, and the gate is the object that the
node drives, with the same state. Time is simulated: the arms hold for a fixed think time while
the model dreams, however long that takes on this machine, so an episode is the same everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eva_ros.control.chunk import Chunk
from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.settings import GateSettings
from eva_ros.control.state import ArmingFacts
from eva_ros.control.trajectory import ArmTrajectory
from eva_ros.control.verdict import Verdict
from eva_ros.errors import UserError
from eva_ros.idm.reading import Reading
from eva_ros.observations.ingest import NotReady
from eva_ros.observations.ingest import Observation
from eva_ros.observations.ingest import ObservationBuilder
from eva_ros.observations.views import ViewSpec
from eva_ros.robot.spec import Robot
from eva_ros.sim.robot import CameraImage
from eva_ros.sim.robot import JointState
from eva_ros.sim.robot import SimRobot
from eva_ros.sim.robot import TrajectoryCommand
from eva_ros.sim.scenes import TIME_LIMIT_S
from eva_ros.world_model.pipeline import Rollout

# How often the task is judged and rest is looked for; a multiple of the joint states' period.
_SLICE_S = 0.02


@dataclass(frozen=True)
class LoopSettings:
    """Time limits of an attempt, in seconds of simulated time.

    Attributes:
        time_limit_s: The attempt fails after this.
        think_time_s: Time charged for each dream, during which the arms hold.
        rest_timeout_s: The attempt fails if the arms do not come to rest for this long; before
            the first motion this is an error.
    """

    time_limit_s: float = TIME_LIMIT_S
    think_time_s: float = 0.2
    rest_timeout_s: float = 5.0


@dataclass(frozen=True)
class Plan:
    """A planned motion from an observation.

    Attributes:
        positions: Joint positions [T, J]; step 0 is the observed instant; rad, grippers 0 to 1.
        dt: Time between two steps, in s.
        confidence: Confidence of the decoder, 0 to 1; nan if it gives none.
        frames: Dream that was decoded [T, H, W, 3], uint8; None for a control.
        rollout: The dream with its seed and checkpoint; None for a control.
        reading: What was read from the dream, as read; None for a control.
    """

    positions: NDArray[np.float64]
    dt: float
    confidence: float = float('nan')
    frames: NDArray[np.uint8] | None = None
    rollout: Rollout | None = None
    reading: Reading | None = None


Planner = Callable[[Observation], Plan]


@dataclass(frozen=True)
class Step:
    """One turn of look, dream, move."""

    observation: Observation
    plan: Plan
    chunk: Chunk
    verdict: Verdict


@dataclass(frozen=True)
class EpisodeResult:
    """Result of one attempt.

    Attributes:
        success: Whether the task was done within the time limit.
        elapsed_s: Simulated time until success or the end.
        moving_s: Simulated time during which a trajectory was executed.
        accepted: Number of chunks sent to the arms.
        refused: Number of chunks refused by the gate.
        tasks_done: Names of all tasks done, asked for or not, first to last.
        gym_aloha_success: Whether a transfer met the criterion of gym-aloha, which also counts a
            left hand that lifts the cube by itself; None for other tasks.
    """

    success: bool
    elapsed_s: float
    moving_s: float
    accepted: int
    refused: int
    tasks_done: tuple[str, ...]
    gym_aloha_success: bool | None


def run_episode(
    sim: SimRobot,
    instruction: str,
    planner: Planner,
    robot: Robot,
    view: ViewSpec,
    gate: GateSettings,
    loop: LoopSettings,
    on_step: Callable[[Step], None] = lambda step: None,
) -> EpisodeResult:
    """Attempt a task once.

    Args:
        sim: Simulated robot, reset to the scene.
        instruction: Instruction, sent along with every chunk.
        planner: Function from an observation to a plan: a model or a control.
        robot: Description of the robot.
        view: Camera layout of the observations.
        gate: Settings of the command gate.
        loop: Time limits of the attempt.
        on_step: Called with every turn, e.g. to keep its images.
    """
    supervisor = CommandSupervisor(robot, gate, dry_run=False, now_ns=sim.time_ns)
    attempt = _Attempt(sim, supervisor, ObservationBuilder(robot, view), loop)
    moving_ns, accepted, refused = 0, 0, 0
    while not attempt.over:
        observation = attempt.look()
        if observation is None:
            break
        plan = planner(observation)
        attempt.advance(loop.think_time_s)
        if attempt.over:
            break
        chunk = make_chunk(robot, instruction, observation, plan, accepted + refused + 1)
        verdict = attempt.check(chunk)
        on_step(Step(observation, plan, chunk, verdict))
        if verdict.accepted:
            accepted += 1
            moving_ns += attempt.move(verdict, chunk.rollout_id)
        else:
            refused += 1
    return EpisodeResult(
        success=sim.success(),
        elapsed_s=attempt.elapsed_s,
        moving_s=moving_ns * 1e-9,
        accepted=accepted,
        refused=refused,
        tasks_done=sim.tasks_done(),
        gym_aloha_success=sim.gym_aloha_success(),
    )


def make_chunk(
    robot: Robot, instruction: str, observation: Observation, plan: Plan, number: int
) -> Chunk:
    """Return the chunk that carries a plan to the gate, stamped with its observation."""
    return Chunk(
        observation_stamp_ns=observation.stamp_ns,
        rollout_id=number,
        joint_names=robot.joint_names,
        dt=plan.dt,
        positions=plan.positions,
        observed_positions=observation.joint_positions,
        instruction=instruction,
        confidence=plan.confidence,
    )


class _Attempt:
    """The simulated robot and its gate, with a time limit and a judge."""

    def __init__(
        self,
        sim: SimRobot,
        supervisor: CommandSupervisor,
        builder: ObservationBuilder,
        loop: LoopSettings,
    ) -> None:
        self.sim = sim
        self.supervisor = supervisor
        self.builder = builder
        self.loop = loop
        self.start_ns = sim.time_ns
        self.has_moved = False

    @property
    def elapsed_s(self) -> float:
        return (self.sim.time_ns - self.start_ns) * 1e-9

    @property
    def over(self) -> bool:
        return self.sim.success() or self.elapsed_s > self.loop.time_limit_s - 1e-9

    def advance(self, duration_s: float) -> None:
        """Advance time, at most until the attempt is over, and collect observations."""
        end_ns = self.sim.time_ns + round(duration_s * 1e9)
        while self.sim.time_ns < end_ns and not self.over:
            left_s = (end_ns - self.sim.time_ns) * 1e-9
            for event in self.sim.advance(min(_SLICE_S, left_s)):
                self._take_in(event)
            self.supervisor.finish(self.sim.time_ns)

    def look(self) -> Observation | None:
        """Wait until both arms are at rest and all cameras have seen them at rest.

        Returns:
            The observation; None if the attempt ended first or the arms do not come to rest.
        """
        self.sim.cameras_on = True
        since_ns = self.sim.time_ns
        rest_ns: int | None = None
        while not self.over:
            if self.sim.time_ns - since_ns > self.loop.rest_timeout_s * 1e9:
                if self.has_moved:
                    # An arm pushed against the table or the other arm may tremble.
                    return None
                raise UserError(
                    f'The arms of {self.supervisor.robot.name} did not come to rest within '
                    f'{self.loop.rest_timeout_s} s: check rest_velocity in the robot YAML.'
                )
            self.advance(_SLICE_S)
            observation = self._latest()
            if observation is None or not observation.at_rest:
                rest_ns = None
                continue
            rest_ns = self.sim.time_ns if rest_ns is None else rest_ns
            if min(observation.image_stamps.values()) >= rest_ns:
                # No images are needed until the arms have moved, and rendering is slow.
                self.sim.cameras_on = False
                return observation
        return None

    def check(self, chunk: Chunk) -> Verdict:
        """Check a chunk with the gate; the first one arms it, as an operator arms the node."""
        now_ns = self.sim.time_ns
        joints = self.builder.joints(now_ns)
        if not self.supervisor.is_armed:
            facts = ArmingFacts((now_ns - joints.stamp_ns) * 1e-9)
            armed, reason = self.supervisor.arm(facts, now_ns)
            if not armed:
                raise UserError(reason)
        return self.supervisor.judge(chunk, joints.positions, joints.stamp_ns, now_ns)

    def move(self, verdict: Verdict, rollout_id: int) -> int:
        """Send the trajectories of all arms and wait for their end; return the duration in ns."""
        begun_ns = self.sim.time_ns
        measured = self.builder.joints(begun_ns).positions
        order = self.supervisor.execute(verdict, rollout_id, measured, begun_ns)
        assert order is not None
        for arm, trajectory in order.command.items():
            self._send(arm, trajectory)
        self.has_moved = True
        ends = [trajectory.time_from_start[-1] for trajectory in order.command.values()]
        self.advance(max(ends))
        return self.sim.time_ns - begun_ns

    def _send(self, arm: str, trajectory: ArmTrajectory) -> None:
        command = TrajectoryCommand(
            stamp_ns=0,
            joint_names=trajectory.joint_names,
            time_from_start=trajectory.time_from_start,
            positions=trajectory.positions,
            velocities=trajectory.velocities,
            accelerations=trajectory.accelerations,
        )
        rejection = self.sim.send(arm, command)
        if rejection:
            raise UserError(f'The controller of the {arm} arm rejected a command: {rejection}')

    def _take_in(self, event: CameraImage | JointState) -> None:
        if isinstance(event, CameraImage):
            self.builder.add_image(event.camera, event.stamp_ns, event.data, 'jpeg')
            return
        self.builder.add_joint_state(
            event.stamp_ns, event.names, event.positions, event.velocities
        )

    def _latest(self) -> Observation | None:
        try:
            return self.builder.latest(self.sim.time_ns)
        except NotReady:
            return None
