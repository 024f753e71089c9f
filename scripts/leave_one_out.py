"""Train on all recordings but one, evaluate on that one, for each in turn: commands and a table.

Every command is printed before it runs, its figures (`--json`) are kept in OUT/FOLD, and a command
whose result is there is not run again. An interrupted run resumes where it stopped.
"""

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
import json
import os
from pathlib import Path
import platform
import resource
import shlex
import subprocess
import sys
from typing import Any

import numpy as np

from eva_ros.errors import UserError
from eva_ros.evaluation.statistics import bootstrap_interval
from eva_ros.recordings.bag_search import find_bags
from eva_ros.training.manifest import write_json

EVA = Path(sys.executable).parent / 'eva'
DREAMS = (
    *('psnr_moving_db', 'still_psnr_moving_db', 'nearest_clip_psnr_moving'),
    *('gain_over_still_db', 'gain_over_nearest_clip_db'),
    *('motion_ratio', 'instructed_arm_fraction'),
    *('dream_miss_rad', 'idm_miss_rad', 'still_miss_rad', 'executability'),
)


def main() -> None:
    """Run the stages of all folds, then print the table."""
    args = arguments().parse_args()
    try:
        bags = find_bags([args.bags])
    except UserError as error:
        sys.exit(str(error))
    folds = args.folds if args.folds is not None else range(len(bags))
    if not set(folds) <= set(range(len(bags))):
        sys.exit(f'{args.bags} holds {len(bags)} bags: --folds takes 0 to {len(bags) - 1}.')
    for number in folds:
        run_fold(args, bags, number)
    for line in table(args.out):
        print(line)


def arguments() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument('--bags', type=Path, required=True, help='folder with one bag per attempt')
    parser.add_argument('--robot', required=True)
    parser.add_argument('--view', required=True)
    parser.add_argument('--out', type=Path, required=True, help='folder of models and figures')
    parser.add_argument('--folds', type=int, nargs='*', help='bags to hold out, by number (all)')
    parser.add_argument(
        '--idm', default='--minutes 30', metavar='OPTIONS', help='of `eva idm train` (%(default)s)'
    )
    parser.add_argument(
        '--world-model',
        metavar='OPTIONS',
        help='of `eva world-model train`, e.g. "--steps 5000" (none is trained)',
    )
    parser.add_argument(
        '--align', metavar='OPTIONS', help='of `eva align`, e.g. "--minutes 30" (none is aligned)'
    )
    return parser


def run_fold(args: argparse.Namespace, bags: Sequence[Path], number: int) -> None:
    """Run all commands of the fold that holds out this bag."""
    held_out, folder = str(bags[number]), args.out / str(number)
    training = [str(bag) for bag in bags if bag != bags[number]]
    folder.mkdir(parents=True, exist_ok=True)
    world = ['--robot', args.robot, '--view', args.view, '--cache', str(args.out / 'cache')]
    idm, second, dreamer, lora = (str(folder / n) for n in ('idm', 'idm2', 'world_model', 'lora'))
    judged, taught = ['--bags', held_out, *world], ['--bags', *training, *world]
    train_idm = ['idm', 'train', *taught, '--held-out', '0', *shlex.split(args.idm)]
    known = ['--training-bags', *training]
    keep(folder / 'idm.json', [[*train_idm, '--out', idm]],
         ['idm', 'evaluate', *judged, '--all', '--checkpoint', idm, *known])  # fmt: skip
    if not args.world_model:
        return
    models = ['--world-model', dreamer, '--idm', idm]
    keep(folder / 'world_model.json',
         [['world-model', 'train', *taught, *shlex.split(args.world_model), '--out', dreamer]],
         ['world-model', 'evaluate', *judged, *models, *known, '--save-videos',
          str(folder / 'dreams')])  # fmt: skip
    if not args.align:
        return
    aligned = ['align', *taught, '--held-out', '0', *models, *shlex.split(args.align)]
    keep(folder / 'align.json',
         [[*aligned, '--out', lora], [*train_idm, '--seed', '1', '--out', second]],
         ['align', 'evaluate', *judged, '--held-out', '1', *models, '--lora', lora,
          '--second-idm', second])  # fmt: skip


def keep(result: Path, training: Sequence[list[str]], evaluation: list[str]) -> None:
    """Train and evaluate unless the result is there, and write the result."""
    if not result.is_file():
        for command in training:
            eva(command)
        ran = [*training, [*evaluation, '--json']]
        about = {
            'command': [f'eva {shlex.join(command)}' for command in ran],
            'commit': commit(),
            'hardware': f'{platform.machine()}, {os.cpu_count()} cores',
        }
        write_json(result, {**about, **json.loads(eva(ran[-1]))})


def commit() -> str:
    """Return the commit of the sources; '' if they are not in a git repository."""
    command = ['git', '-C', str(Path(__file__).parent), 'rev-parse', 'HEAD']
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def eva(command: Sequence[str]) -> str:
    """Run an `eva` command and return what it prints; end with its exit code if it fails."""
    print(f'$ eva {shlex.join(command)}', file=sys.stderr, flush=True)
    before = core_seconds()
    done = subprocess.run([EVA, *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    print(f'{(core_seconds() - before) / 60:.1f} core-minutes', file=sys.stderr)
    return done.stdout


def core_seconds() -> float:
    """Return the processor time of the commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def results(out: Path, name: str) -> list[dict[str, Any]]:
    """Return the figures of that name of all folds that have them."""
    return [json.loads(path.read_text()) for path in sorted(out.glob(f'*/{name}.json'))]


def table(out: Path) -> Iterator[str]:
    """Yield tables in Markdown: means over the folds with 95 % bootstrap intervals."""
    found = results(out, 'idm')
    if found:
        yield f'Mean absolute error, {len(found)} recordings held out, unit of the recording:'
        yield from joint_rows(found)
    found = results(out, 'world_model')
    if found:
        clips = sum(fold['clips'] for fold in found)
        yield f'Dreams, {len(found)} recordings held out, {clips} clips:'
        yield from rows(('figure', ''), [
            (name, interval([fold[name]['mean'] for fold in found if fold.get(name)]))
            for name in DREAMS
        ])  # fmt: skip
    found = results(out, 'align')
    if found:
        yield f'Executability, {len(found)} recordings held out:'
        yield from rows(('dreams', ''), [
            (when, interval([fold['executability'][when]['mean'] for fold in found]))
            for when in found[0]['executability']
        ])  # fmt: skip


def joint_rows(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a row per joint, and one over the arm joints of each side."""
    joints = list(found[0]['joint_error'])
    groups = {name: [name] for name in joints}
    for side in sorted({name.partition('_')[0] for name in joints}):
        arm = [n for n in joints if n.startswith(f'{side}_') and 'gripper' not in n]
        groups[f'**{side} arm**'] = arm
    readers = ('joint_error', 'nearest_frame_error', 'mean_pose_error')
    cells = [
        (
            title,
            *(interval(over(found, f'{key}_as_recorded', names)) for key in readers),
            interval(over(found, 'joint_error_of_range', names, 100)),
        )
        for title, names in groups.items()
    ]
    yield from rows(('joint', 'IDM', 'nearest frame', 'mean pose', 'IDM, % of range'), cells)


def rows(head: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield ''
    for row in (head, ['---'] * len(head), *cells):
        yield f'| {" | ".join(row)} |'
    yield ''


def over(
    found: Sequence[dict[str, Any]], key: str, names: Sequence[str], factor: float = 1
) -> list[float]:
    """Return the mean figure of some joints for each fold; nothing if it was not measured."""
    values = [[fold[key][name]['mean'] for name in names] for fold in found]
    return [factor * float(np.mean(fold)) for fold in values if None not in fold]


def interval(values: Sequence[float]) -> str:
    """Return the mean and its interval over the folds."""
    if not values:
        return 'not measured'
    if len(values) == 1:
        return f'{values[0]:.2f}'
    low, high = bootstrap_interval(values, 0)
    return f'{np.mean(values):.1f} ({low:.1f} to {high:.1f})'


if __name__ == '__main__':
    main()
