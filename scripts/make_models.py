#!/usr/bin/env python3
"""Make the shipped checkpoints again, their data included, by the commands of `eva`.

    python scripts/make_models.py --out FOLDER --size gpu|cpu [--dry-run] [--from STAGE]

Stages whose commands have run are left out when it is started again, and the commands resume
what was interrupted; `--from STAGE` removes what that stage and the later ones made, and makes it
again. FOLDER/models holds the checkpoints, FOLDER/log the figures of the last stage, FOLDER/done
the commands of each stage and their seconds.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
import json
import os
from pathlib import Path
import shlex
import shutil
import subprocess
import sys
import time

REACHES, LIFTS = ('reach_left', 'reach_right'), ('lift_left', 'lift_right')
TASKS = (*REACHES, *LIFTS, 'transfer_cube')
Command = tuple[str, ...]


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        bags: Episodes of each task that the models learn from.
        explore: Episodes of arms that move about, for the inverse dynamics model alone.
        demos: Episodes of each task that are joined by the robot's own attempts.
        held_out: Episodes of each task to measure on.
        world_model: Options of its training.
        text: Steps of the text encoder.
        history: Steps of the history.
        idm: Steps of the inverse dynamics model.
        attempts: Attempts at each lift; half as many at each reach.
        own: Steps of the inverse dynamics model on attempts.
        new: Episodes in randomised scenes: lifts and reaches of each arm, transfers, more lifts.
        scenes_idm: Steps of the inverse dynamics model on those.
        align: Iterations of the alignment.
        reward: What it rewards.
        critic: Steps of the progress critic.
        clips: Clips and views of the evaluation.
        scenes: Scenes of each task in the evaluation.
    """

    bags: tuple[int, ...]
    explore: int
    demos: tuple[int, ...]
    held_out: int
    world_model: str
    text: int
    history: int
    idm: int
    attempts: int
    own: int
    new: tuple[int, int, int, int]
    scenes_idm: int
    align: int
    reward: str
    critic: int
    clips: int
    scenes: int


_REST = {
    'explore': 54, 'demos': (36, 36, 36, 30, 24), 'held_out': 14, 'text': 4600, 'history': 600,
    'idm': 2000, 'attempts': 40, 'own': 400, 'new': (40, 25, 40, 30), 'scenes_idm': 1200,
    'align': 160, 'reward': '--reward similarity=10', 'critic': 1200, 'clips': 40, 'scenes': 20,
}  # fmt: skip
SIZES = {
    'gpu': Size(
        bags=(603, 604, 540, 540, 299),
        world_model='--steps 6519 --batch 256 --compile --dream-steps 1',
        **_REST,
    ),
    'cpu': Size(
        bags=(300, 300, 50, 50, 50),
        world_model='--steps 4200 --processes 2 --dream-steps 1',
        **_REST,
    ),
    # Useless models: to try the chain itself.
    'tiny': Size(
        bags=(2, 2, 2, 4, 10), explore=2, demos=(3, 3, 3, 3, 3), held_out=2,
        world_model='--steps 2 --width 64 --layers 1 --dream-steps 1',
        text=2, history=2, idm=2, attempts=2, own=2, new=(1, 1, 1, 1), scenes_idm=2, align=1,
        reward='', critic=2, clips=4, scenes=1,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """Commands that make something of what earlier stages made.

    Attributes:
        name: For --from.
        commands: Arguments after `eva`, in their order.
        makes: Files and folders that are the stage's own.
        prints: Whether what the commands print is kept in FOLDER/log.
        link: A folder that stands for another one, for commands that take models side by side.
    """

    name: str
    commands: Sequence[Command]
    makes: Sequence[Path] = field(default=())
    prints: bool = False
    link: tuple[Path, Path] | None = None


def stages(size: Size, out: Path, workers: int) -> list[Stage]:
    """Return the chain in its order."""
    data, first, models = out / 'data', out / 'first', out / 'models'
    bags = [data / 'bags' / task for task in TASKS]
    demos, held_out = data / 'demos', data / 'held_out'
    words, told, world_model = first / 'words', first / 'told', models / 'world_model'
    learn = ('--learning-rate 6e-4 --held-out 0.05 --world-model', world_model, '--steps')
    return [
        Stage('record', [*_recordings(size, data, workers)], [data]),
        Stage(
            'world_model',
            [eva('world-model train --bags', *bags, '--out', words, size.world_model)],
            [words],
        ),
        Stage(
            'text',
            [eva('world-model text --from', words, '--out', told, '--steps', size.text)],
            [told],
        ),
        Stage(
            'history',
            [
                eva('world-model train --from', told, '--history 4 --bags', *bags, '--out',
                    world_model, '--processes 1 --steps', size.history)
            ],
            [world_model],
        ),
        Stage(
            'idm',
            [
                eva('idm train --bags', *bags, data / 'explore', '--out', first / 'idm', '--steps',
                    size.idm, '--held-out 0.03 --world-model', world_model)
            ],
            [first / 'idm'],
        ),
        Stage(
            'attempts',
            [*_attempts(size, first, workers)],
            [first / 'attempts'],
            link=(first / 'world_model', world_model),
        ),
        Stage(
            'own_idm',
            [
                eva('idm train --from', first / 'idm', '--bags', demos, first / 'attempts',
                    '--out', first / 'own_idm', *learn, size.own)
            ],
            [first / 'own_idm'],
        ),
        Stage(
            'scenes_idm',
            [
                eva('idm train --from', first / 'own_idm', '--bags', data / 'new',
                    data / 'more_new', demos, first / 'attempts', '--out', models / 'idm',
                    *learn, size.scenes_idm)
            ],
            [models / 'idm'],
        ),
        Stage(
            'align',
            [
                eva('align --bags', data / 'new', demos / 'transfer_cube', '--world-model',
                    world_model, '--idm', models / 'idm', '--out', models / 'aligned',
                    size.reward, '--iterations', size.align)
            ],
            [models / 'aligned'],
        ),
        Stage(
            'critic',
            [
                eva('align critic --bags', demos, '--out', models / 'critic', '--steps',
                    size.critic)
            ],
            [models / 'critic'],
        ),
        Stage(
            'controls',
            [eva('evaluate prepare-controls --bags', *bags, '--out', models / 'controls')],
            [models / 'controls'],
        ),
        Stage('evaluate', [*_figures(size, held_out, models, workers)], prints=True),
    ]  # fmt: skip


def eva(*words: object) -> Command:
    """Return a command; texts are split at spaces, paths are not."""
    parts = [[str(w)] if isinstance(w, Path) else str(w).split() for w in words]
    return tuple(word for part in parts for word in part)


def _recordings(size: Size, data: Path, workers: int) -> list[Command]:
    asked = [(task, n, 1, data / 'bags' / task) for task, n in zip(TASKS, size.bags)]
    asked += [('explore', size.explore, 1, data / 'explore')]
    asked += [(task, n, 7000, data / 'demos' / task) for task, n in zip(TASKS, size.demos)]
    asked += [(task, size.held_out, 9, data / 'held_out' / task) for task in TASKS]
    return [
        eva('sim record --camera-rate 10 --task', task, '--episodes', count, '--seed', seed,
            '--workers', workers, '--out', out)
        for task, count, seed, out in asked
    ] + _new_scenes(size, data, workers)  # fmt: skip


def _new_scenes(size: Size, data: Path, workers: int) -> list[Command]:
    lifts, reaches, transfers, more = size.new
    first, later = data / 'new', data / 'more_new'
    asked = [(task, lifts, 31_000, first) for task in LIFTS]
    asked += [(task, reaches, 31_000, first) for task in REACHES]
    asked += [('transfer_cube', transfers, 34_000, later)]
    asked += [(task, more, 34_000, later) for task in LIFTS]
    return [
        eva('sim record --camera-rate 10 --scenes randomised:0.2 --phrasings training --task',
            task, '--episodes', count, '--seed', seed, '--workers', workers, '--out', out / task)
        for task, count, seed, out in asked
    ]  # fmt: skip


def _attempts(size: Size, first: Path, workers: int) -> list[Command]:
    """Return the attempts to learn from, by the models as they are, in scenes that are hard."""
    lifts, reaches = first / 'attempts' / 'lifts', first / 'attempts' / 'reaches'
    asked = (
        (LIFTS, size.attempts, 300_000, lifts),
        (REACHES, size.attempts // 2, 310_000, reaches),
    )
    return [
        eva('evaluate --variants unaligned --scenes randomised:0.2 --steps 1 --models', first,
            '--tasks', *tasks, '--episodes', count, '--seed', seed, '--workers', workers,
            '--record', out)
        for tasks, count, seed, out in asked
    ]  # fmt: skip


def _figures(size: Size, held_out: Path, models: Path, workers: int) -> list[Command]:
    """Return the commands behind models/README.md, but for randomised scenes."""
    world_model, idm = ('--world-model', models / 'world_model'), ('--idm', models / 'idm')
    lora, moving = models / 'aligned', [held_out / task for task in (*REACHES, *LIFTS)]
    dreams = ('world-model evaluate --bags', *moving, *world_model, *idm, '--clips', size.clips)
    closed_loop = ('evaluate --seed 500 --models', models, '--workers', workers, '--episodes')
    return [
        eva(*dreams),
        eva(*dreams, '--lora', lora),
        eva('idm evaluate --all --checkpoint', models / 'idm', '--bags', held_out),
        eva('align evaluate --held-out 1 --bags', held_out, *world_model, *idm, '--lora', lora,
            '--views', 2 * size.clips),
        eva(*closed_loop, size.scenes, '--tasks', *LIFTS, 'transfer_cube',
            '--variants unaligned aligned'),
        eva(*closed_loop, 2 * size.scenes, '--tasks', *REACHES,
            '--variants unaligned aligned still mean_motion nearest_start'),
    ]  # fmt: skip


def run(stage: Stage, out: Path) -> None:
    """Run a stage, unless the same commands have run.

    Raises:
        subprocess.CalledProcessError: A command failed.
    """
    done = out / 'done' / f'{stage.name}.json'
    commands = [shlex.join(('eva', *command)) for command in stage.commands]
    if done.is_file() and json.loads(done.read_text())['commands'] == commands:
        print(f'{stage.name}: done')
        return
    if stage.link is not None:
        place, stands_for = stage.link
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(stands_for.resolve())
    begin = time.monotonic()
    log = out / 'log' / f'{stage.name}.txt'
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('w') as kept:
        for command, spelled in zip(stage.commands, commands):
            print(f'{stage.name}: {spelled}', flush=True)
            if stage.prints:
                print(f'$ {spelled}', file=kept, flush=True)
            words = [sys.executable, '-m', 'eva_ros.cli.main', *command]
            subprocess.run(words, check=True, stdout=kept if stage.prints else None)
    seconds = time.monotonic() - begin
    done.parent.mkdir(parents=True, exist_ok=True)
    done.write_text(json.dumps({'commands': commands, 'seconds': round(seconds, 1)}, indent=2))
    print(f'{stage.name}: {seconds:.0f} s', flush=True)


def forget(later: Sequence[Stage], out: Path) -> None:
    """Remove what stages made, and that they ran."""
    for stage in later:
        (out / 'done' / f'{stage.name}.json').unlink(missing_ok=True)
        for path in stage.makes:
            shutil.rmtree(path, ignore_errors=True)


def main() -> int:
    """Run or print the chain."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--out', type=Path, required=True, help='folder of data and models')
    parser.add_argument('--size', choices=list(SIZES), required=True, help='(tiny: a trial)')
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count() or 1, help='processes (%(default)s)'
    )
    parser.add_argument('--from', dest='begin', metavar='STAGE', help='begin here once more')
    parser.add_argument('--dry-run', action='store_true', help='print the commands')
    args = parser.parse_args()
    chain = stages(SIZES[args.size], args.out, args.workers)
    names = [stage.name for stage in chain]
    if args.begin is not None and args.begin not in names:
        parser.error(f"--from '{args.begin}' is none of {', '.join(names)}")
    if args.dry_run:
        for stage in chain:
            print(f'# {stage.name}')
            print(*(shlex.join(('eva', *command)) for command in stage.commands), sep='\n')
        return 0
    if args.begin is not None:
        forget(chain[names.index(args.begin) :], args.out)
    for stage in chain:
        try:
            run(stage, args.out)
        except subprocess.CalledProcessError as error:
            print(f'{stage.name} failed; mend what was said above and run the same command again')
            return error.returncode
    return 0


if __name__ == '__main__':
    sys.exit(main())
