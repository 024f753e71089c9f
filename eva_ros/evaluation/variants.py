"""Variants of a comparison, by name: the models, and controls that do not dream."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
import itertools
from pathlib import Path
import re
from typing import NamedTuple

from eva_ros.alignment.best_of import BestOf
from eva_ros.alignment.best_of import load_score
from eva_ros.alignment.best_of import MOST
from eva_ros.errors import UserError
from eva_ros.evaluation import controls
from eva_ros.evaluation.closed_loop import Plan
from eva_ros.evaluation.closed_loop import Planner
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_rollout
from eva_ros.idm.smoothing import smooth
from eva_ros.observations.ingest import Observation
from eva_ros.observations.views import ViewSpec
from eva_ros.robot.spec import Robot
from eva_ros.world_model.pipeline import WorldModel


@dataclass(frozen=True)
class Attempt:
    """Inputs of one attempt: task (for controls), instruction, and seed of its dreams."""

    task: str
    instruction: str
    seed: int


@dataclass(frozen=True)
class World:
    """What the variants are made from; the models are loaded when first asked for.

    Attributes:
        models: Folder of the checkpoints: idm, world_model, aligned, critic, controls.
        best_of_by: How best_of_N chooses among its dreams, one of best_of.CHOICES.
        critic: Folder of the critic; None takes that of `models`, if it holds one.
        adapters: Folders of further LoRAs, (variant, folder) each.
        steps: Denoising steps of a dream; None takes the checkpoint's.
    """

    robot: Robot
    view: ViewSpec
    models: Path
    best_of_by: str = 'progress'
    critic: Path | None = None
    adapters: tuple[tuple[str, Path], ...] = ()
    steps: int | None = None

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
        return controls.load(self.models / 'controls', self.robot, self.view)

    def world_model(self, lora: Path | None) -> WorldModel:
        """Return the world model, aligned by a LoRA or not."""
        from eva_ros.world_model.checkpoint import load_world_model

        folder = self.models / 'world_model'
        model = load_world_model(folder, lora=lora, robot=self.robot, view=self.view)
        return model.for_dreaming()


@dataclass(frozen=True)
class Driver:
    """What drives the arms in attempts.

    Attributes:
        begin: Function that returns the planner of an attempt.
        history: Number of observations before one in motion that its planners take.
    """

    begin: Callable[[Attempt], Planner]
    history: int = 0

    def __call__(self, attempt: Attempt) -> Planner:
        """Return the planner of an attempt."""
        return self.begin(attempt)


# What the variant smoothed smooths with, beyond the decoder's own 2 Hz.
SMOOTHED_HZ = 1.0


def dreaming(
    world_model: WorldModel | BestOf,
    idm: InverseDynamics,
    robot: Robot,
    steps: int | None = None,
    cutoff_hz: float | None = None,
) -> Driver:
    """Return the driver that dreams and decodes the joints from the dream.

    The first dream of an attempt has the attempt's seed, and each further one adds 1, as in the
    action ExecuteTask.

    Args:
        world_model: What dreams.
        idm: Inverse dynamics model.
        robot: Robot that the joints belong to.
        steps: Denoising steps; None takes the checkpoint's.
        cutoff_hz: Smooths the decoded path once more; None leaves it as the decoder gives it.
    """

    def begin(attempt: Attempt) -> Planner:
        seeds = itertools.count(attempt.seed)

        def plan(observation: Observation) -> Plan:
            rollout = world_model.dream(
                observation.view,
                attempt.instruction,
                seed=next(seeds),
                steps=steps,
                before=[earlier.view for earlier in observation.before],
            )
            reading = read_rollout(idm, rollout.frames)
            path = reading.smoothed
            if cutoff_hz is not None:
                path = smooth(path, rollout.dt, cutoff_hz)
            positions = robot.gripping(path)
            return Plan(
                positions, rollout.dt, reading.confidence, rollout.frames, rollout, reading
            )

        return plan

    return Driver(begin, world_model.settings.history)


def _dreaming(world: World, lora: Path | None, cutoff_hz: float | None = None) -> Driver:
    return dreaming(world.world_model(lora), world.idm, world.robot, world.steps, cutoff_hz)


def _unaligned(world: World) -> Driver:
    return _dreaming(world, None)


def _smoothed(world: World) -> Driver:
    return _dreaming(world, None, SMOOTHED_HZ)


def _aligned(world: World) -> Driver:
    return _dreaming(world, world.models / 'aligned')


def _best_of(world: World, variant: 'Numbered') -> Driver:
    shipped = world.models / 'critic'
    critic = world.critic or (shipped if shipped.is_dir() else None)
    by = variant.by or world.best_of_by
    score = load_score(by, world.robot, world.view, idm=world.models / 'idm', critic=critic)
    model = BestOf(world.world_model(lora=None), score, variant.number)
    return dreaming(model, world.idm, world.robot, world.steps)


def _still(world: World) -> Driver:
    return Driver(lambda attempt: controls.still(world.dt, world.view.frames))


def _mean_motion(world: World) -> Driver:
    recorded = world.controls
    return Driver(
        lambda attempt: controls.mean_motion(
            recorded.of(attempt.task), recorded.dt, world.view.frames
        )
    )


def _nearest_start(world: World) -> Driver:
    recorded = world.controls
    return Driver(
        lambda attempt: controls.nearest_start(
            recorded.of(attempt.task), recorded.dt, world.view.frames
        )
    )


VARIANTS: dict[str, Callable[[World], Driver]] = {
    'unaligned': _unaligned,
    'smoothed': _smoothed,
    'aligned': _aligned,
    'still': _still,
    'mean_motion': _mean_motion,
    'nearest_start': _nearest_start,
}
CONTROLS = ('still', 'mean_motion', 'nearest_start')
# Variants of the unaligned model that end in a number: the best of N dreams, any of N attempts.
BEST_OF, ANY_OF = 'best_of', 'any_of'


class Numbered(NamedTuple):
    """A variant that ends in a number, such as best_of_4 or best_of_4_by_consensus.

    Attributes:
        kind: BEST_OF or ANY_OF; '' for all other variants.
        number: Number of dreams, or of attempts.
        by: How the best dream is chosen; '' where the name does not say.
    """

    kind: str
    number: int
    by: str


def numbered(name: str) -> Numbered:
    """Return what the name of a variant says of its number.

    Raises:
        UserError: The number is out of range.
    """
    found = re.fullmatch(f'({BEST_OF}|{ANY_OF})_([0-9]+)(?:_by_([a-z]+))?', name)
    if found is None or (found[1] == ANY_OF and found[3]):
        return Numbered('', 1, '')
    number = int(found[2])
    if not 2 <= number <= MOST:
        raise UserError(f'{name}: {found[1]}_N takes an N from 2 to {MOST}.')
    return Numbered(found[1], number, found[3] or '')


def is_known(name: str) -> bool:
    """Return whether a name means a variant without any adapter given."""
    return name in VARIANTS or bool(numbered(name).kind)


def tries(name: str) -> int:
    """Return how many attempts at a scene a variant has; one success is enough."""
    variant = numbered(name)
    return variant.number if variant.kind == ANY_OF else 1


def load_driver(name: str, world: World) -> Driver:
    """Return the driver of a variant, its models loaded.

    Raises:
        UserError: The variant is unknown, or a checkpoint is missing or incompatible.
    """
    variant = numbered(name)
    if variant.kind == BEST_OF:
        return _best_of(world, variant)
    if variant.kind == ANY_OF:
        return _unaligned(world)
    if (lora := dict(world.adapters).get(name)) is not None:
        return _dreaming(world, lora)
    if name not in VARIANTS:
        known = ', '.join((*VARIANTS, f'{BEST_OF}_N', f'{ANY_OF}_N', *dict(world.adapters)))
        raise UserError(f'There is no variant {name} (there are: {known}).')
    return VARIANTS[name](world)
