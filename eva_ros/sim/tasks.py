"""The tasks: instructions and start scenes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.sim import phrasings
from eva_ros.sim.looks import draw_look
from eva_ros.sim.looks import Look
from eva_ros.sim.phrasings import Phrasings
from eva_ros.sim.scenes import CLEAN
from eva_ros.sim.scenes import Scenes
from eva_ros.sim.world import SIDES
from eva_ros.sim.world import TARGETS

HOME_ARM = (0.0, -1.5, 1.5, 0.0, 0.3, 0.0)
_START_SPREAD_RAD = 0.12
# the elbow's range ends at 1.6057
ELBOW, ELBOW_HIGHEST = 2, 1.6
# Where the target's centre lies: lowest and highest (x, y).
_AREAS = {
    'lift': ((-0.10, 0.40), (0.10, 0.60)),
    'transfer': ((0.0, 0.40), (0.20, 0.60)),
    'lift_bar': ((-0.04, 0.42), (0.04, 0.58)),
}


@dataclass(frozen=True)
class Task:
    """A task of the simulator.

    Attributes:
        name: Name, e.g. reach_left.
        kind: Kind of task: reach, lift, transfer, lift_bar or explore.
        side: Arm that does the task, or both.
        shipped: What the shipped models know; empty for tasks that they do not.
        grammar: Many more. Those held out have verbs or constructions that the training
            phrasings do not have.
        target: What the task is about, cube or bar.
    """

    name: str
    kind: str
    side: str
    shipped: Phrasings
    grammar: Phrasings
    target: str = 'cube'

    def recorded(self, group: str) -> tuple[str, ...]:
        """Return the instructions of recordings, from a group of RECORDED_PHRASINGS.

        A task that has none in this group is recorded with the other's.
        """
        shipped, grammar = self.shipped.training, self.grammar.training
        return (shipped or grammar) if group == 'shipped' else (grammar or shipped)

    def told(self, group: str) -> tuple[str, ...]:
        """Return the instructions of evaluations, from a group of PHRASINGS.

        Raises:
            UserError: The group has none for this task.
        """
        if group != 'shipped':
            return self.grammar.training if group == 'training' else self.grammar.held_out
        if not self.shipped.held_out:
            raise UserError(
                f'The shipped models know no instruction for {self.name}: give models that do '
                'with --models, and --phrasings training or held_out.'
            )
        return self.shipped.held_out


def _task(name: str, kind: str, side: str, grammar: Phrasings, target: str = 'cube') -> Task:
    shipped = phrasings.shipped(kind, side)
    # What is kept for evaluation is never recorded.
    training = tuple(text for text in grammar.training if text not in shipped.held_out)
    return Task(name, kind, side, shipped, Phrasings(training, grammar.held_out), target)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        *(_task(f'reach_{side}', 'reach', side, phrasings.reach(side)) for side in SIDES),
        *(_task(f'lift_{side}', 'lift', side, phrasings.lift(side)) for side in SIDES),
        _task('transfer_cube', 'transfer', 'right', phrasings.transfer()),
        _task('lift_bar', 'lift_bar', 'both', phrasings.lift_bar(), 'bar'),
    )
}

# No instruction: the arms move everywhere within reach, to train the IDM on all poses.
EXPLORE = Task('explore', 'explore', '', Phrasings(('',), ()), Phrasings((), ()))


def find_task(name: str) -> Task:
    """Return a task by name.

    Raises:
        UserError: There is no such task; the message lists them.
    """
    if name == EXPLORE.name:
        return EXPLORE
    if name not in TASKS:
        raise UserError(f'There is no task {name!r}: choose from {", ".join(TASKS)}.')
    return TASKS[name]


@dataclass(frozen=True)
class Scene:
    """Start of an episode.

    Attributes:
        joints: Joint positions [14].
        target: Centre of the cube or bar [3].
        look: How the scene looks; None for the clean look.
    """

    joints: NDArray[np.float64]
    target: NDArray[np.float64]
    look: Look | None = None


def draw_scene(task: Task, seed: int, scenes: Scenes = CLEAN) -> Scene:
    """Sample a scene; reaches and lifts share one distribution for all tasks and sides.

    The cube of transfer_cube is placed as in gym-aloha. Randomised scenes have the same places
    of cube and bar as the clean ones of the same seed, and start poses up to half as wide again.
    """
    rng = np.random.default_rng((seed, 20))
    half_length, _, half_height = TARGETS[task.target]
    target = np.append(rng.uniform(*_AREAS.get(task.kind, _AREAS['lift'])), half_height)
    spread = _START_SPREAD_RAD * (1 + 0.5 * scenes.level)
    arms = np.tile(HOME_ARM, (2, 1)) + rng.uniform(-1, 1, (2, 6)) * spread
    arms[:, ELBOW] = np.minimum(arms[:, ELBOW], ELBOW_HIGHEST)
    opening = rng.uniform(0.3, 1.0, (2, 1))
    joints = np.concatenate((arms, opening), 1).ravel()
    if scenes == CLEAN:
        return Scene(joints, target)
    look = draw_look(np.random.default_rng((seed, 21)), scenes.level, target, half_length)
    return Scene(joints, target, look)
