"""What can drive the arms in a comparison, by name: the models, and controls that do not dream."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
import itertools
from pathlib import Path

from eva_ros.episodes.ingest import Observation
from eva_ros.episodes.views import ViewSpec
from eva_ros.errors import UserError
from eva_ros.evaluation import controls
from eva_ros.evaluation.closed_loop import Plan
from eva_ros.evaluation.closed_loop import Planner
from eva_ros.idm.decode import decode_confident
from eva_ros.idm.model import InverseDynamics
from eva_ros.robot.spec import Robot
from eva_ros.world_model.pipeline import WorldModel


@dataclass(frozen=True)
class Attempt:
    """What one attempt is told: the task (for controls), the instruction, a seed for dreams."""

    task: str
    instruction: str
    seed: int


@dataclass(frozen=True)
class World:
    """What the variants are made from; the models are loaded when first asked for.

    Attributes:
        models: folder of the checkpoints: idm, world_model, aligned, controls.
    """

    robot: Robot
    view: ViewSpec
    models: Path

    @property
    def dt(self) -> float:
        """Return the time between two frames of the view, in s."""
        return 1 / self.view.rate_hz

    @cached_property
    def idm(self) -> InverseDynamics:
        """Return the inverse dynamics model."""
        from eva_ros.idm.checkpoint import load_idm

        return load_idm(self.models / 'idm', robot=self.robot, view=self.view)

    @cached_property
    def controls(self) -> controls.Controls:
        """Return the recorded motions that the controls repeat."""
        return controls.load(self.models / 'controls', self.robot.name, self.view.name)

    def world_model(self, lora: Path | None) -> WorldModel:
        """Return the world model, aligned by a LoRA or not."""
        from eva_ros.world_model.checkpoint import load_world_model

        folder = self.models / 'world_model'
        return load_world_model(folder, lora=lora, robot=self.robot.name, view=self.view)


Driver = Callable[[Attempt], Planner]


def dreaming(world_model: WorldModel, idm: InverseDynamics, robot: Robot) -> Driver:
    """Return the driver that dreams what comes next and decodes the joints from it.

    The first dream of an attempt has the attempt's seed, each further one adds 1, as the action
    ExecuteTask says.
    """

    def begin(attempt: Attempt) -> Planner:
        seeds = itertools.count(attempt.seed)

        def plan(observation: Observation) -> Plan:
            rollout = world_model.dream(observation.view, attempt.instruction, seed=next(seeds))
            path = decode_confident(idm, rollout.frames, rollout.dt)
            positions = robot.gripping(path.positions)
            return Plan(positions, rollout.dt, path.confidence, rollout.frames)

        return plan

    return begin


def _unaligned(world: World) -> Driver:
    return dreaming(world.world_model(lora=None), world.idm, world.robot)


def _aligned(world: World) -> Driver:
    return dreaming(world.world_model(lora=world.models / 'aligned'), world.idm, world.robot)


def _still(world: World) -> Driver:
    return lambda attempt: controls.still(world.dt, world.view.frames)


def _mean_motion(world: World) -> Driver:
    recorded = world.controls
    return lambda attempt: controls.mean_motion(
        recorded.of(attempt.task), recorded.dt, world.view.frames
    )


def _nearest_start(world: World) -> Driver:
    recorded = world.controls
    return lambda attempt: controls.nearest_start(
        recorded.of(attempt.task), recorded.dt, world.view.frames
    )


VARIANTS: dict[str, Callable[[World], Driver]] = {
    'unaligned': _unaligned,
    'aligned': _aligned,
    'still': _still,
    'mean_motion': _mean_motion,
    'nearest_start': _nearest_start,
}
CONTROLS = ('still', 'mean_motion', 'nearest_start')


def load_driver(name: str, world: World) -> Driver:
    """Return the driver of a variant, its models loaded.

    Raises:
        UserError: no such variant, or a checkpoint it needs is missing or of another world.
    """
    if name not in VARIANTS:
        raise UserError(f'There is no variant {name} (there are: {", ".join(VARIANTS)}).')
    return VARIANTS[name](world)
