"""Success of several variants on the same scenes, by task."""

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import cache
from functools import lru_cache
from pathlib import Path
import sys
import time

from eva_ros.control.settings import load_gate_settings
from eva_ros.errors import UserError
from eva_ros.evaluation.attempt_recording import OnStep
from eva_ros.evaluation.attempt_recording import record_attempt
from eva_ros.evaluation.closed_loop import EpisodeResult
from eva_ros.evaluation.closed_loop import LoopSettings
from eva_ros.evaluation.closed_loop import Plan
from eva_ros.evaluation.closed_loop import Planner
from eva_ros.evaluation.closed_loop import run_episode
from eva_ros.evaluation.variants import Attempt
from eva_ros.evaluation.variants import CONTROLS
from eva_ros.evaluation.variants import Driver
from eva_ros.evaluation.variants import load_driver
from eva_ros.evaluation.variants import tries
from eva_ros.evaluation.variants import World
from eva_ros.observations.ingest import Observation
from eva_ros.observations.views import view_of
from eva_ros.robot.paths import SIM_ROBOT
from eva_ros.robot.spec import load_robot
from eva_ros.sim.robot import SimRobot
from eva_ros.sim.scenes import CLEAN
from eva_ros.sim.scenes import Scenes
from eva_ros.sim.tasks import find_task
from eva_ros.training.weights import checkpoint_label
from eva_ros.workers import spread

NOTHING = 'nothing'
# Divides no number of phrasings.
_STRIDE = 7
# Dreams of one scene are numbered from its seed times this, those of another try further on.
_DREAMS_PER_SCENE = 1000
_DREAMS_PER_TRY = 60


@dataclass(frozen=True)
class Comparison:
    """Variants, tasks and scenes of a comparison.

    Attributes:
        robot: Name or file of the robot.
        view: Name or file of the view; None for the robot's.
        models: Folder of the checkpoints.
        tasks: Names of the tasks.
        variants: Names of the variants.
        episodes: Number of scenes per task, the same for every variant.
        seed: Seed of the first scene; each further one adds 1.
        loop: Time limits of an attempt.
        scenes: Whether scenes are clean or randomised.
        phrasings: Group of phrasings the instructions come from, see PHRASINGS.
        mode: Mode of the gate: look_dream_move or overlap.
        record: Folder for a bag per attempt; None to record nothing.
        best_of_by: How best_of_N chooses among its dreams.
        critic: Folder of its critic; None for that of `models`.
        adapters: Folders of further LoRAs, (variant, folder) each.
        steps: Denoising steps of a dream; None for the checkpoint's.
    """

    robot: str
    view: str | None
    models: Path
    tasks: tuple[str, ...]
    variants: tuple[str, ...]
    episodes: int
    seed: int
    loop: LoopSettings
    scenes: Scenes = CLEAN
    phrasings: str = 'shipped'
    mode: str = 'look_dream_move'
    record: Path | None = None
    best_of_by: str = 'progress'
    critic: Path | None = None
    adapters: tuple[tuple[str, Path], ...] = ()
    steps: int | None = None


@dataclass(frozen=True)
class Job:
    """One attempt: a variant in a scene."""

    variant: str
    task: str
    scene: int
    instruction: str


@dataclass(frozen=True)
class Outcome:
    """A job and its result."""

    variant: str
    task: str
    scene: int
    instruction: str
    scenes: str
    phrasings: str
    success: bool
    elapsed_s: float
    moving_s: float
    accepted: int
    refused: int
    tasks_done: tuple[str, ...]
    gym_aloha_success: bool | None
    late: int
    standing_s: float
    mode: str
    strict: bool = True

    @property
    def done(self) -> str:
        """Return the task that was done: the one asked for, or the last one done, or nothing."""
        if self.success or not self.tasks_done:
            return self.task if self.success else NOTHING
        return self.tasks_done[-1]


def jobs(comparison: Comparison) -> Iterator[Job]:
    """Yield all attempts scene by scene, so that a partial run is paired too.

    Instructions cycle through the phrasings of the task, in strides that soon meet all kinds.
    """
    for number in range(comparison.episodes):
        for task in comparison.tasks:
            phrasings = find_task(task).told(comparison.phrasings)
            instruction = phrasings[number * _STRIDE % len(phrasings)]
            for variant in comparison.variants:
                yield Job(variant, task, comparison.seed + number, instruction)


def compare(comparison: Comparison, workers: int = 1) -> list[Outcome]:
    """Run all attempts; arguments and errors as `attempts`."""
    return list(attempts(comparison, workers))


def attempts(comparison: Comparison, workers: int = 1) -> Iterator[Outcome]:
    """Run all attempts, with progress on stderr, and yield each outcome as it is known.

    Args:
        comparison: Attempts to run.
        workers: Number of processes.

    Raises:
        UserError: As `check`.
    """
    check(comparison)  # before any process is started
    todo = [(comparison, job) for job in jobs(comparison)]
    yield from spread(
        _run, todo, workers, what='attempts', report=sys.stderr, initializer=_one_thread
    )


def measured_think_times(comparison: Comparison, dreams: int = 16) -> tuple[float, ...]:
    """Return how long dreams take on this machine with one thread, decoding included, in s.

    Args:
        comparison: The first variant that is not a control is timed, in the first scene.
        dreams: Number of dreams.

    Raises:
        UserError: No variant dreams; otherwise as `check`.
    """
    check(comparison)
    dreaming = next((v for v in comparison.variants if v not in CONTROLS), None)
    if dreaming is None:
        raise UserError('Controls do not dream: say with --think-time how long a dream takes.')
    _one_thread()
    took_s: list[float] = []

    def timed(planner: Planner) -> Planner:
        def plan(observation: Observation) -> Plan:
            # The first dream of a process takes longer.
            while len(took_s) <= dreams:
                begun_s = time.perf_counter()
                planner(observation)
                took_s.append(time.perf_counter() - begun_s)
            return planner(observation)

        return plan

    short = replace(comparison.loop, time_limit_s=1.0)
    alone = replace(comparison, loop=short, record=None)
    job = next(job for job in jobs(alone) if job.variant == dreaming)
    _attempt(alone, job, 0, timed)
    return tuple(round(seconds, 3) for seconds in took_s[1:])


def counts(comparison: Comparison, outcomes: Sequence[Outcome]) -> dict:
    """Return episodes and successes as `eva evaluate --json` prints them."""
    variants = {
        variant: {
            'tasks': {task: _count(outcomes, variant, task) for task in comparison.tasks},
            'confusion': confusion(outcomes, variant),
        }
        for variant in comparison.variants
    }
    return {
        'robot': load_robot(comparison.robot).name,
        'seed': comparison.seed,
        'strict': True,
        'scenes': str(comparison.scenes),
        'phrasings': comparison.phrasings,
        'mode': comparison.mode,
        'think_times_s': list(comparison.loop.think_times_s),
        'variants': variants,
    }


def confusion(outcomes: Sequence[Outcome], variant: str) -> dict[str, dict[str, int]]:
    """Return how often each task was done, by the task asked for."""
    table: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        if outcome.variant == variant:
            table.setdefault(outcome.task, Counter())[outcome.done] += 1
    return {task: dict(done) for task, done in table.items()}


def successes(
    outcomes: Sequence[Outcome], variant: str, tasks: Sequence[str]
) -> list[tuple[str, int, bool]]:
    """Return (task, scene, success) of a variant in the order that pairs it with others."""
    found = [o for o in outcomes if o.variant == variant and o.task in tasks]
    return sorted((o.task, o.scene, o.success) for o in found)


def gym_aloha_successes(outcomes: Sequence[Outcome], variant: str, task: str) -> int | None:
    """Return how often a transfer met the criterion of gym-aloha; None for other tasks."""
    met = [o.gym_aloha_success for o in outcomes if (o.variant, o.task) == (variant, task)]
    return None if None in met else sum(map(bool, met))


def _count(outcomes: Sequence[Outcome], variant: str, task: str) -> dict[str, int]:
    found = successes(outcomes, variant, (task,))
    count = {'episodes': len(found), 'successes': sum(success for *_, success in found)}
    by_gym_aloha = gym_aloha_successes(outcomes, variant, task)
    return count if by_gym_aloha is None else {**count, 'gym_aloha_successes': by_gym_aloha}


def check(comparison: Comparison) -> None:
    """Refuse attempts that cannot be run, and load what they need.

    Raises:
        UserError: A task or variant is unknown, the robot is not simulated, a bag exists, or a
            checkpoint is missing or incompatible.
    """
    for task in comparison.tasks:
        find_task(task).told(comparison.phrasings)
    robot = load_robot(comparison.robot)
    if robot.name != SIM_ROBOT:
        raise UserError(
            f'The closed loop runs on the simulated robot {SIM_ROBOT}, not on {robot.name}.'
        )
    _refuse_recorded(comparison)
    for variant in comparison.variants:
        _driver(comparison, variant)


def _one_thread() -> None:
    """Limit each process to one thread."""
    import torch

    torch.set_num_threads(1)


def _run(todo: tuple[Comparison, Job]) -> Outcome:
    comparison, job = todo
    for number in range(tries(job.variant)):
        result = _attempt(comparison, job, number)
        if result.success:
            break
    return Outcome(
        **vars(job),
        scenes=str(comparison.scenes),
        phrasings=comparison.phrasings,
        mode=comparison.mode,
        **vars(result),
    )


def _attempt(
    comparison: Comparison,
    job: Job,
    number: int,
    watched: Callable[[Planner], Planner] = lambda planner: planner,
) -> EpisodeResult:
    """Attempt a job from the start of its scene, each try with dream seeds of its own."""
    world = _world(comparison)
    seed = job.scene * _DREAMS_PER_SCENE + number * _DREAMS_PER_TRY
    driver = _driver(comparison, job.variant)
    planner = watched(driver(Attempt(job.task, job.instruction, seed)))

    def run(sim: SimRobot, on_step: OnStep = lambda step: None) -> EpisodeResult:
        gate = load_gate_settings(world.robot.name).model_copy(update={'mode': comparison.mode})
        return run_episode(
            sim,
            job.instruction,
            planner,
            world.robot,
            world.view,
            gate,
            comparison.loop,
            on_step,
            seed=seed,
            history=driver.history,
        )

    if comparison.record is not None:
        bag, decoder = _bag(comparison.record, job, number), _decoder(world.models)
        return record_attempt(bag, world.robot, job, comparison.scenes, decoder, run)
    sim = SimRobot(job.task, job.scene, scenes=comparison.scenes)
    try:
        return run(sim)
    finally:
        sim.close()


def _refuse_recorded(comparison: Comparison) -> None:
    if comparison.record is None:
        return
    for job in jobs(comparison):
        if (bag := _bag(comparison.record, job)).exists():
            raise UserError(
                f'{bag} exists: give --record another folder, or other scenes with --seed.'
            )


def _bag(folder: Path, job: Job, number: int = 0) -> Path:
    again = f'-{number}' if number else ''
    return folder / job.variant / f'{job.task}-{job.scene:05d}{again}'


@cache
def _decoder(models: Path) -> str:
    """Return the name of the decoder's weights; '' where there is none."""
    return checkpoint_label(models / 'idm') if (models / 'idm').is_dir() else ''


def _world(comparison: Comparison) -> World:
    return _made_world(_without_attempts(comparison))


@lru_cache(maxsize=1)
def _made_world(comparison: Comparison) -> World:
    robot = load_robot(comparison.robot)
    view = view_of(robot, comparison.view)
    return World(
        robot,
        view,
        comparison.models,
        comparison.best_of_by,
        comparison.critic,
        comparison.adapters,
        comparison.steps,
    )


def _driver(comparison: Comparison, variant: str) -> Driver:
    return _loaded(_without_attempts(comparison), variant)


@cache
def _loaded(comparison: Comparison, variant: str) -> Driver:
    return load_driver(variant, _made_world(comparison))


def _without_attempts(comparison: Comparison) -> Comparison:
    """Return what the models depend on: they are loaded once, whatever dreams are charged."""
    return replace(comparison, loop=LoopSettings(), record=None)
