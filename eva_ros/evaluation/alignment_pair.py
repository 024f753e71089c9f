"""One scene of a run dreamed before and after alignment, for the report."""

import dataclasses
from pathlib import Path

from eva_ros.alignment.reward import executability
from eva_ros.alignment.reward import MotionLimits
from eva_ros.evaluation.run import Alignment
from eva_ros.evaluation.run import Dream
from eva_ros.evaluation.run import Run
from eva_ros.evaluation.variants import World
from eva_ros.idm.reading import read_rollout


def with_alignment(run: Run, models: Path) -> Run:
    """Return the run with its first scene dreamed by the unaligned and the aligned model.

    Both dreams have the same seed. Without an aligned model, the run is returned unchanged.

    Args:
        run: Recorded run.
        models: Folder of the checkpoints.
    """
    turns = [(attempt, turn) for attempt in run.attempts for turn in attempt.turns]
    lora = models / 'aligned'
    if not turns or not lora.is_dir():
        return run
    attempt, turn = turns[0]
    world = World(run.robot, run.view, models)
    dreams = [
        _dream(world, adapter, turn.frames[0], attempt.instruction) for adapter in (None, lora)
    ]
    return dataclasses.replace(run, alignment=Alignment(attempt.instruction, turn.dt, *dreams))


def _dream(world: World, lora: Path | None, view, instruction: str) -> Dream:
    rollout = world.world_model(lora).dream(view, instruction, seed=0)
    positions = read_rollout(world.idm, rollout.frames).positions.double()
    limits = MotionLimits.of(world.robot.limits, world.robot.gripper_mask)
    judged = executability(positions, rollout.dt, limits)
    return Dream(rollout.frames, positions.numpy(), float(judged.score))
