#!/usr/bin/env python3
"""Measure which task a world model reads in instructions, on scenes where five are possible.

From the same view and noise, an instruction is read as the task whose canonical sentence makes
the arms end nearest: joints decoded at the end of the dreams. With --reference, also how far
dreams end from those of another world model that is told the same. Writes JSON, with commit, seed
and hardware, and prints the tables. If the file exists, it only prints the tables.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
import json
import os
from pathlib import Path
import platform
import shlex
import sys

from measure_best_of import git
import numpy as np
from numpy.typing import NDArray
import torch

from eva_ros.control.settings import GateSettings
from eva_ros.errors import UserError
from eva_ros.evaluation.closed_loop import LoopSettings
from eva_ros.evaluation.closed_loop import Plan
from eva_ros.evaluation.closed_loop import run_episode
from eva_ros.evaluation.statistics import wilson_interval
from eva_ros.idm.checkpoint import load_idm
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_frames
from eva_ros.observations.views import load_view
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.robot.paths import SIM_ROBOT
from eva_ros.robot.spec import load_robot
from eva_ros.sim.constructions import CANONICAL
from eva_ros.sim.robot import SimRobot
from eva_ros.sim.tasks import draw_scene
from eva_ros.sim.tasks import TASKS
from eva_ros.training.manifest import write_json
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.pipeline import WorldModel

GROUPS = ('shipped', 'held_out')
CUBE_TASKS = tuple(name for name, task in TASKS.items() if task.target == 'cube')
REFUSED = 'refused'
# Divides no number of phrasings, and soon meets all kinds.
STRIDE = 7
ROBOT, VIEW = load_robot(SIM_ROBOT), load_view(SIM_ROBOT)


def measure(args: argparse.Namespace) -> dict:
    """Dream in every scene, and count what was read."""
    idm = load_idm(checkpoint_dir() / 'idm', robot=ROBOT, view=VIEW)
    model = load_world_model(args.world_model, robot=ROBOT, view=VIEW)
    other = load_world_model(args.reference, robot=ROBOT, view=VIEW) if args.reference else None
    asked: dict[str, dict[str, Counter]] = {g: {t: Counter() for t in CUBE_TASKS} for g in GROUPS}
    wrong: dict[str, Counter] = {group: Counter() for group in GROUPS}
    moved: list[float] = []
    between: list[float] = []
    for number, (scene, view) in enumerate(views(args.seed, args.scenes)):
        known = ends(model, idm, view, [CANONICAL[task] for task in CUBE_TASKS], scene)
        for group in GROUPS:
            told = [phrasing(task, group, number) for task in CUBE_TASKS]
            for task, text, end in zip(CUBE_TASKS, told, accepted(model, idm, view, told, scene)):
                read = REFUSED if end is None else CUBE_TASKS[int(apart(known, end).argmin())]
                asked[group][task][read] += 1
                if read != task:
                    wrong[group][text] += 1
        if other is not None:
            told = [phrasing(task, 'recorded', number) for task in CUBE_TASKS]
            before, after = (
                ends(other, idm, view, told, scene),
                accepted(model, idm, view, told, scene),
            )
            pairs = zip(before, after)
            moved += [float(apart(one, end)) for one, end in pairs if end is not None]
            between += [float(np.partition(apart(known, end), 1)[1]) for end in known]
        print(f'{number + 1} of {args.scenes} scenes', file=sys.stderr)
    return {
        'asked_and_read': {g: {t: dict(n) for t, n in asked[g].items()} for g in GROUPS},
        'misread': {group: dict(wrong[group]) for group in GROUPS},
        'against_reference_rad': figures(moved, between) if moved else None,
    }


def figures(moved: list[float], between: list[float]) -> dict:
    """Return medians and 95th percentiles of the distances between ends of dreams."""
    named = {'same sentence, both models': moved, 'task and its nearest other': between}
    return {
        name: {'median': float(np.median(d)), 'p95': float(np.quantile(d, 0.95)), 'n': len(d)}
        for name, d in named.items()
    }


def phrasing(task: str, group: str, number: int) -> str:
    """Return the sentence that a scene is told for a task."""
    known = TASKS[task]
    texts = known.shipped.training if group == 'recorded' else known.told(group)
    return texts[number * STRIDE % len(texts)]


def views(seed: int, count: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield scenes in which every task's cube may lie where it does, and what is seen in them."""
    sim, found = SimRobot('reach_left', seed), 0
    while found < count:
        if draw_scene(TASKS['reach_left'], seed).target[0] >= 0:
            sim.reset('reach_left', seed)
            yield seed, first_view(sim)
            found += 1
        seed += 1


def first_view(sim: SimRobot) -> NDArray[np.uint8]:
    """Return what is seen before anything moves."""
    seen = []

    def look(observation) -> Plan:
        seen.append(observation.view)
        return Plan(np.tile(observation.joint_positions, (3, 1)), 1 / VIEW.rate_hz)

    # Thinking ends the attempt.
    loop = LoopSettings(time_limit_s=2.0, think_times_s=(4.0,))
    run_episode(sim, '', look, ROBOT, VIEW, GateSettings(), loop)
    return seen[0]


def accepted(
    model: WorldModel, idm: InverseDynamics, view: NDArray[np.uint8], told: list[str], seed: int
) -> list[NDArray | None]:
    """Return the end of each dream; None where the model refuses the instruction."""
    readable = [text for text in told if is_readable(model, text)]
    found = dict(zip(readable, ends(model, idm, view, readable, seed) if readable else ()))
    return [found.get(text) for text in told]


def is_readable(model: WorldModel, text: str) -> bool:
    """Return whether a model takes an instruction."""
    try:
        model.check_instruction(text)
    except UserError:
        return False
    return True


@torch.inference_mode()
def ends(
    model: WorldModel, idm: InverseDynamics, view: NDArray[np.uint8], told: list[str], seed: int
) -> NDArray[np.float64]:
    """Return the joints [B, J] at the end of dreams from one view and one noise."""
    frames = torch.from_numpy(view.copy()).permute(2, 0, 1)[None] / 255
    condition = model.condition(frames.expand(len(told), -1, -1, -1), told)
    noise = model.noise(1, [torch.Generator().manual_seed(seed)])
    latents = model.sample(condition, noise.expand(len(told), -1, -1, -1, -1))
    video = model.decode(latents, condition).clamp(0, 1)
    return read_frames(idm, video).positions[:, -1].double().numpy()


def apart(ones: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return root mean square differences of joints [..., J]; grippers count 0 to 1."""
    return np.sqrt(np.square(ones - others).mean(-1))


def tables(result: dict) -> str:
    """Return the results as Markdown."""
    lines = []
    for group, asked in result['asked_and_read'].items():
        reads = [name for name in (*CUBE_TASKS, REFUSED) if any(name in n for n in asked.values())]
        right, total = (sum(f(t, n) for t, n in asked.items()) for f in (_right, _total))
        low, high = wilson_interval(right, total)
        lines += [
            f'{group}: {right} of {total} read right: {right / total:.1%} '
            f'({low:.1%} to {high:.1%})',
            '',
            f'| {group}: asked \\ read | {" | ".join(reads)} |',
            '|---' * (len(reads) + 1) + '|',
            *(f'| `{t}` | {" | ".join(str(n.get(r, 0)) for r in reads)} |'
              for t, n in asked.items()),
            '',
        ]  # fmt: skip
    for name, distance in (result['against_reference_rad'] or {}).items():
        lines.append(
            f'{name}: {distance["median"]:.4f} rad apart at the end of the dream (median of '
            f'{distance["n"]}; 95 % below {distance["p95"]:.4f})'
        )
    return '\n'.join(lines)


def _right(task: str, counts: dict[str, int]) -> int:
    return counts.get(task, 0)


def _total(_: str, counts: dict[str, int]) -> int:
    return sum(counts.values())


def main() -> int:
    """Measure what is not measured yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--out', type=Path, required=True, help='JSON file to write or to read')
    parser.add_argument('--world-model', type=Path, default=checkpoint_dir() / 'world_model')
    parser.add_argument('--reference', type=Path, help='world model to compare dreams with')
    parser.add_argument('--scenes', type=int, default=100, help='(%(default)s)')
    parser.add_argument('--seed', type=int, default=50000, help='first scene (%(default)s)')
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.out.exists():
        about = {
            'command': shlex.join(['python', 'scripts/measure_readings.py', *sys.argv[1:]]),
            'commit': git('rev-parse', 'HEAD'),
            'changed': bool(git('status', '--porcelain', '--untracked-files=no')),
            'scenes': args.scenes,
            'seed': args.seed,
            'hardware': f'{platform.machine()}, {os.cpu_count()} cores, no GPU',
        }
        write_json(args.out, {**about, **measure(args)})
    print(tables(json.loads(args.out.read_text(encoding='utf-8'))))
    return 0


if __name__ == '__main__':
    sys.exit(main())
