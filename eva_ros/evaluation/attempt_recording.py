"""Attempts of the closed loop as bags: what the recorder on the robot would have written."""

from collections.abc import Callable
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from eva_ros.alignment.reward import executability
from eva_ros.alignment.reward import MotionLimits
from eva_ros.control.verdict import Verdict
from eva_ros.evaluation.closed_loop import EpisodeResult
from eva_ros.evaluation.closed_loop import Plan
from eva_ros.evaluation.closed_loop import Step
from eva_ros.recordings.attempt_writer import AttemptBagWriter
from eva_ros.recordings.records import ChunkRecord
from eva_ros.recordings.records import EXECUTABILITY
from eva_ros.recordings.records import RolloutRecord
from eva_ros.robot.spec import Robot
from eva_ros.sim.robot import CameraImage
from eva_ros.sim.robot import JointState
from eva_ros.sim.robot import SimRobot
from eva_ros.sim.robot import TrajectoryCommand
from eva_ros.sim.scenes import Scenes

OnStep = Callable[[Step], None]


def record_attempt(
    path: Path,
    robot: Robot,
    job: Any,
    scenes: Scenes,
    decoder: str,
    attempt: Callable[[SimRobot, OnStep], EpisodeResult],
) -> EpisodeResult:
    """Record an attempt as a bag and return its result.

    Args:
        path: Folder of the bag; it must not exist.
        robot: Robot that is driven.
        job: Variant, task, scene and instruction of the attempt (comparison.Job).
        scenes: How its scene looks.
        decoder: Name of the decoder's weights, "name@sha12"; '' if nothing is decoded.
        attempt: Makes the attempt on a simulated robot, calling back with every turn.
    """
    facts = {
        'eva.instruction': job.instruction,
        'eva.task': job.task,
        'eva.robot_yaml': robot.path.read_text(encoding='utf-8'),
        'eva.version': f'eva_ros {metadata.version("eva_ros")}',
        'eva.scene': str(job.scene),
        'eva.scenes': str(scenes),
        'eva.variant': job.variant,
    }
    writer = AttemptBagWriter(path, robot.name, facts, job.scene)
    about = {'task': job.task, 'instruction': job.instruction}
    sim = None
    try:
        sim = RecordedSim(job.task, job.scene, scenes, robot, writer)
        writer.write_episode(sim.time_ns, start=True, **about)
        steps = _StepWriter(writer, robot, job.instruction, decoder, sim)
        result = attempt(sim, steps.write)
        writer.write_episode(sim.time_ns, start=False, success=result.success, **about)
        writer.add_facts({'eva.success': str(result.success).lower()})
    except BaseException:
        writer.abort()
        raise
    finally:
        if sim is not None:
            sim.close()
    writer.close()
    return result


class RecordedSim(SimRobot):
    """A simulated robot that is recorded, which changes nothing of an attempt.

    Its cameras stay on while the arms move, as on a robot, but the loop gets only the images that
    it asked for.

    Args:
        task: Name of the task whose scene is sampled.
        seed: Random seed of the scene.
        scenes: How the scene looks.
        robot: Robot whose topics are written.
        writer: Bag under construction.
    """

    def __init__(
        self, task: str, seed: int, scenes: Scenes, robot: Robot, writer: AttemptBagWriter
    ) -> None:
        super().__init__(task, seed, scenes=scenes)
        self._spec, self._writer = robot, writer

    def advance(self, duration_s: float) -> list[CameraImage | JointState]:
        """Advance time and write what the robot published meanwhile."""
        asked, self.cameras_on = self.cameras_on, True
        events = super().advance(duration_s)
        self.cameras_on = asked
        for event in events:
            self._record(event)
        return events if asked else [e for e in events if isinstance(e, JointState)]

    def send(self, arm: str, command: TrajectoryCommand) -> str | None:
        """Send a trajectory to an arm's controller and write it."""
        self._writer.write_trajectory(
            f'/{self._spec.arms[arm].controller.topic}',
            self.time_ns,
            command.joint_names,
            command.time_from_start,
            # The gate's trajectories have all three.
            np.asarray(command.positions),
            np.asarray(command.velocities),
            np.asarray(command.accelerations),
        )
        return super().send(arm, command)

    def _record(self, event: CameraImage | JointState) -> None:
        if isinstance(event, CameraImage):
            topic = f'/{self._spec.cameras[event.camera].topic}'
            frame_id = f'{event.camera}_optical_frame'
            self._writer.write_image(topic, event.stamp_ns, frame_id, event.data)
            return
        self._writer.write_clock(event.stamp_ns)
        self._writer.write_joint_state(
            f'/{self._spec.joint_state_topics[0]}',
            event.stamp_ns,
            event.names,
            event.positions,
            event.velocities,
        )


class _StepWriter:
    """Writes each turn's dream, chunk and report, under the names of the nodes' topics."""

    def __init__(
        self,
        writer: AttemptBagWriter,
        robot: Robot,
        instruction: str,
        decoder: str,
        sim: SimRobot,
    ) -> None:
        self._writer, self._robot, self._sim = writer, robot, sim
        self._instruction, self._decoder = instruction, decoder

    def write(self, step: Step) -> None:
        """Write a turn as of now."""
        observation, plan, now_ns = step.observation, step.plan, self._sim.time_ns
        shared: dict[str, Any] = {
            'received_ns': now_ns,
            'stamp_ns': now_ns,
            'observation_stamp_ns': observation.stamp_ns,
            'rollout_id': step.chunk.rollout_id,
            'robot': self._robot.name,
            'instruction': self._instruction,
            'dt': plan.dt,
            'joint_names': self._robot.joint_names,
        }
        if plan.rollout is not None:
            dream = RolloutRecord(
                'rollout',
                **shared,
                frames=plan.rollout.frames,
                joint_positions=observation.joint_positions,
                seed=plan.rollout.seed,
                denoising_steps=plan.rollout.denoising_steps,
                checkpoint=plan.rollout.checkpoint,
                duration_s=plan.rollout.duration_s,
            )
            self._writer.write_rollout(dream)
        chunk = ChunkRecord(
            'chunk',
            **shared,
            positions=plan.positions,
            observed_positions=observation.joint_positions,
            confidence=plan.confidence,
            executability=_executability(plan, self._robot),
            checkpoint=self._decoder if plan.reading is not None else '',
        )
        self._writer.write_chunk(chunk)
        fields = _report_fields(step.verdict, self._robot)
        self._writer.write_report('chunk_report', chunk, step.verdict.reason, fields)


def _executability(plan: Plan, robot: Robot) -> dict[str, float]:
    """Return score and terms of what was read, as the decoder node does; nan for a control."""
    if plan.reading is None:
        return dict.fromkeys(EXECUTABILITY, float('nan'))
    limits = MotionLimits.of(robot.limits, robot.gripper_mask)
    judged = executability(plan.reading.positions.double(), plan.reading.dt, limits)
    return {name: float(value) for name, value in judged._asdict().items()}


def _report_fields(verdict: Verdict, robot: Robot) -> Mapping[str, Any]:
    """Return the fields of eva_msgs/ChunkReport beside its origin and reason."""
    names = robot.joint_names
    return {
        'accepted': verdict.accepted,
        'sent': verdict.accepted,
        'detail': verdict.detail,
        'joint_names': list(names),
        'clamped_steps': np.array([verdict.clamped_steps.get(n, 0) for n in names], np.uint32),
        'clamped_max_rad': np.array([verdict.clamped.get(n, 0.0) for n in names], np.float64),
        'limit_violations_before': verdict.limit_violations_before,
        'limit_violations_after': verdict.limit_violations_after,
        'stretch': float(verdict.stretch),
        'execute_steps': verdict.execute_steps,
        'duration_s': float(verdict.duration_s),
        'observation_age_s': float(verdict.observation_age_s),
        'joint_state_age_s': float(verdict.joint_state_age_s),
        'start_deviation_rad': float(verdict.start_deviation_rad),
        'collision_pair': list(verdict.collision_pair),
    }
