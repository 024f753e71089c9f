"""The closed loop on a simulated robot, without ROS: look, dream, move, until the task is done.

Ingest and decoding are the functions that the nodes call, and the gate is the object that the
node drives, with the same state and in the same mode. Time is simulated: each dream is charged a
think time, however long it takes on this machine, so an episode is the same everywhere. The arms
hold meanwhile, or in mode overlap finish the motion under way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eva_ros.control.chunk import Chunk
from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.settings import GateSettings
from eva_ros.control.state import ArmingFacts
from eva_ros.control.trajectory import ArmTrajectory
from eva_ros.control.turn_pacing import SWITCH
from eva_ros.control.turn_pacing import TurnPacing
from eva_ros.control.verdict import Verdict
from eva_ros.errors import UserError
from eva_ros.evaluation.metrics import standing_share
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
from eva_ros.world_model.rollout import Rollout

# How often the task is judged and rest is looked for; a multiple of the joint states' period.
_SLICE_S = 0.02


@dataclass(frozen=True)
class LoopSettings:
    """Time limits of an attempt, in seconds of simulated time.

    Attributes:
        time_limit_s: The attempt fails after this.
        think_times_s: Times that dreams took; each dream is charged one of them.
        switch: Part of a motion after which the next chunk is to be ready, in mode overlap.
        rest_timeout_s: The attempt fails if the arms do not come to rest for this long; before
            the first motion this is an error.
    """

    time_limit_s: float = TIME_LIMIT_S
    think_times_s: tuple[float, ...] = (0.2,)
    switch: float = SWITCH
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
        late: Number of dreams given up because the arms came to rest before they were ready.
        standing_s: Simulated time during which all joints stood still.
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
    late: int
    standing_s: float


def run_episode(
    sim: SimRobot,
    instruction: str,
    planner: Planner,
    robot: Robot,
    view: ViewSpec,
    gate: GateSettings,
    loop: LoopSettings,
    on_step: Callable[[Step], None] = lambda step: None,
    *,
    seed: int = 0,
    history: int = 0,
) -> EpisodeResult:
    """Attempt a task once, in the mode of the gate.

    Args:
        sim: Simulated robot, reset to the scene.
        instruction: Instruction, sent along with every chunk.
        planner: Function from an observation to a plan: a model or a control.
        robot: Description of the robot.
        view: Camera layout of the observations.
        gate: Settings of the command gate.
        loop: Time limits of the attempt.
        on_step: Called with every turn, e.g. to keep its images.
        seed: Random seed of the think times.
        history: Number of observations before one in motion that the planner takes.
    """
    supervisor = CommandSupervisor(robot, gate, dry_run=False, now_ns=sim.time_ns)
    builder = ObservationBuilder(robot, view)
    attempt = _Attempt(sim, supervisor, builder, loop, 1 / view.rate_hz, history)
    draw = np.random.default_rng(seed)
    accepted, refused, late = 0, 0, 0
    while not attempt.over:
        observation = attempt.look()
        if observation is None:
            break
        plan = planner(observation)
        in_time = attempt.think(observation, float(draw.choice(loop.think_times_s)))
        if attempt.over:
            break
        if not in_time:
            late += 1
            continue
        chunk = make_chunk(robot, instruction, observation, plan, accepted + refused + 1)
        verdict = attempt.check(chunk)
        on_step(Step(observation, plan, chunk, verdict))
        if verdict.accepted:
            accepted += 1
            attempt.move(verdict, chunk.rollout_id)
        else:
            refused += 1
            attempt.finish()
    return EpisodeResult(
        success=sim.success(),
        elapsed_s=attempt.elapsed_s,
        moving_s=attempt.moving_ns * 1e-9,
        accepted=accepted,
        refused=refused,
        tasks_done=sim.tasks_done(),
        gym_aloha_success=sim.gym_aloha_success(),
        late=late,
        standing_s=attempt.standing_s,
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
    """The simulated robot and its gate, with a time limit and a judge.

    Attributes:
        moving_ns: Time during which a trajectory was executed.
    """

    def __init__(
        self,
        sim: SimRobot,
        supervisor: CommandSupervisor,
        builder: ObservationBuilder,
        loop: LoopSettings,
        frame_s: float,
        history: int,
    ) -> None:
        self.sim = sim
        self.supervisor = supervisor
        self.builder = builder
        self.loop = loop
        self.start_ns = sim.time_ns
        self.moving_ns = 0
        self._frame_ns = round(frame_s * 1e9)
        self._history = history
        self._pacing = TurnPacing(loop.switch)
        self._has_moved = False
        self._measured: list[tuple[int, NDArray[np.float64]]] = []

    @property
    def elapsed_s(self) -> float:
        return (self.sim.time_ns - self.start_ns) * 1e-9

    @property
    def standing_s(self) -> float:
        if len(self._measured) < 2:
            return 0.0
        stamps_ns, positions = zip(*self._measured)
        rest_velocity = self.supervisor.robot.rest_velocity
        return self.elapsed_s * standing_share(positions, stamps_ns, rest_velocity)

    @property
    def over(self) -> bool:
        return self.sim.success() or self.elapsed_s > self.loop.time_limit_s - 1e-9

    def advance(self, until_ns: int) -> None:
        """Advance time, at most until the attempt is over, and collect observations."""
        while self.sim.time_ns < until_ns and not self.over:
            left_s = (until_ns - self.sim.time_ns) * 1e-9
            before_ns, moves = self.sim.time_ns, self.supervisor.motion is not None
            for event in self.sim.advance(min(_SLICE_S, left_s)):
                self._take_in(event)
            self.moving_ns += (self.sim.time_ns - before_ns) * moves
            self.supervisor.finish(self.sim.time_ns)

    def finish(self) -> None:
        """Wait for the end of the motion under way, if there is one."""
        if self.supervisor.motion is not None:
            self.advance(self.supervisor.motion.end_ns)

    def look(self) -> Observation | None:
        """Return the next observation: during the motion in mode overlap, otherwise at rest.

        Returns:
            The observation; None if the attempt ended first or the arms do not come to rest.
        """
        look_ns = self._look_ns()
        if look_ns is not None:
            return self._look_in_motion(look_ns)
        self.finish()
        return self._look_at_rest()

    def think(self, observation: Observation, duration_s: float) -> bool:
        """Let a dream take its time.

        Returns:
            Whether its chunk is in time; not if a motion was under way and has ended.
        """
        ready_ns, motion = self.sim.time_ns + round(duration_s * 1e9), self.supervisor.motion
        self._pacing.took((ready_ns - observation.stamp_ns) * 1e-9)
        self.advance(ready_ns if motion is None else min(ready_ns, motion.end_ns))
        return motion is None or self.supervisor.motion is not None

    @property
    def _overlaps(self) -> bool:
        return self.supervisor.settings.mode == 'overlap'

    def _look_ns(self) -> int | None:
        """Return when to look while the arms move; None if they are to be looked at at rest."""
        motion = self.supervisor.motion
        if motion is None or not self._overlaps:
            return None
        return self._pacing.look_ns(motion.start_ns, motion.path.duration, self.sim.time_ns)

    def _look_in_motion(self, look_ns: int) -> Observation | None:
        """Return the first observation from an instant on, and those before it."""
        self.advance(-(-look_ns // self._frame_ns) * self._frame_ns)
        if self.supervisor.motion is None or self.over:
            return self._look_at_rest()
        stamp_ns = self.sim.time_ns
        before_ns = [stamp_ns - count * self._frame_ns for count in range(self._history, 0, -1)]
        try:
            before = tuple(self.builder.latest(earlier_ns) for earlier_ns in before_ns)
        except NotReady:
            # As on the robot: what is not observed for long enough begins from rest.
            self.finish()
            return self._look_at_rest()
        return replace(self.builder.latest(stamp_ns), before=before)

    def _look_at_rest(self) -> Observation | None:
        """Wait until both arms are at rest and all cameras have seen them at rest."""
        self.sim.cameras_on = True
        since_ns = self.sim.time_ns
        rest_ns: int | None = None
        while not self.over:
            if self.sim.time_ns - since_ns > self.loop.rest_timeout_s * 1e9:
                if self._has_moved:
                    # An arm pushed against the table or the other arm may tremble.
                    return None
                raise UserError(
                    f'The arms of {self.supervisor.robot.name} did not come to rest within '
                    f'{self.loop.rest_timeout_s} s: check rest_velocity in the robot YAML.'
                )
            self.advance(self.sim.time_ns + round(_SLICE_S * 1e9))
            observation = self._latest()
            if observation is None or not observation.at_rest:
                rest_ns = None
                continue
            rest_ns = self.sim.time_ns if rest_ns is None else rest_ns
            if min(observation.image_stamps.values()) >= rest_ns:
                # No images are needed until the arms have moved, and rendering is slow.
                self.sim.cameras_on = self._overlaps
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

    def move(self, verdict: Verdict, rollout_id: int) -> None:
        """Send the trajectories of all arms."""
        now_ns = self.sim.time_ns
        measured = self.builder.joints(now_ns).positions
        order = self.supervisor.execute(verdict, rollout_id, measured, now_ns)
        assert order is not None
        for arm, trajectory in order.command.items():
            self._send(arm, trajectory)
        self._has_moved = True

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
        self._measured.append((event.stamp_ns, self.builder.joints(event.stamp_ns).positions))

    def _latest(self) -> Observation | None:
        try:
            return self.builder.latest(self.sim.time_ns)
        except NotReady:
            return None
