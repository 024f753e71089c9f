"""`eva score`: how executable joint paths are for a robot."""

import argparse
import json
from pathlib import Path
import sys
from typing import Any

from eva_ros.cli import arguments
from eva_ros.errors import UserError

HELP = 'score joint paths (npz, csv, bags, chunks) by their executability'
# Terms as printed, and their names in the reward.
TERMS = {
    'jerk': 'jerk',
    'acceleration': 'acceleration',
    'velocity_limit': 'velocity',
    'acceleration_limit': 'acceleration_excess',
    'position_limit': 'position',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the files, the robot and the preset."""
    parser.add_argument(
        'files',
        type=Path,
        nargs='+',
        metavar='FILE',
        help='npz with positions [T, J] or [N, T, J] and dt; csv with a column time (s) and one '
        'for each joint; or a bag, or a folder of bags',
    )
    arguments.add_robot(parser, view=False)
    parser.add_argument(
        '--preset',
        choices=('robot', 'paper'),
        default='robot',
        help="limits: the robot's own, or the published constants (%(default)s)",
    )
    parser.add_argument(
        '--rate',
        type=arguments.rate_hz,
        default=10.0,
        metavar='HZ',
        help="rate at which bags' joint states are sampled (%(default)s)",
    )
    parser.add_argument('--json', action='store_true', help='print one JSON object')


def run(args: argparse.Namespace) -> int:
    """Score every path in the files."""
    from eva_ros.alignment.reward import preset
    from eva_ros.cli.joint_paths import read_joint_paths
    from eva_ros.robot.spec import load_robot

    robot = load_robot(args.robot)
    limits, settings = preset(args.preset, robot)
    paths, sources = [], []
    for file in (found for path in args.files for found in _files(path)):
        for found in read_joint_paths(file, robot, args.rate):
            scored = _scored(file, found, limits, settings)
            paths += scored
            sources += [str(file)] * len(scored)
    print(json.dumps({'paths': paths}, allow_nan=False) if args.json else _table(sources, paths))
    return 0


def _files(path: Path) -> list[Path]:
    """Return a file, or the bags of a folder."""
    from eva_ros.recordings.bag_search import find_bags

    if not path.is_dir():
        return [path]
    return find_bags([path], lambda _, guess: print(f'eva score: {guess}', file=sys.stderr))


def _scored(file: Path, found: Any, limits: Any, settings: Any) -> list[dict[str, Any]]:
    import torch

    from eva_ros.alignment.reward import executability
    from eva_ros.alignment.reward import penalty_terms

    positions = torch.from_numpy(found.positions)
    judged = executability(positions, found.dt, limits, settings)
    if not torch.isfinite(judged.penalty).all():
        raise UserError(f'{file}: the penalty is too large to compute: check units and dt.')
    terms = penalty_terms(positions, found.dt, limits, settings)
    return [
        {
            'score': float(judged.score[i]),
            'penalty': float(judged.penalty[i]),
            'terms': {name: float(terms[own][i]) for name, own in TERMS.items()},
        }
        for i in range(len(positions))
    ]


def _table(sources: list[str], paths: list[dict[str, Any]]) -> str:
    lines = ['score  penalty     ' + '  '.join(f'{name:>18}' for name in TERMS) + '  file']
    lines += [
        f'{path["score"]:5.2f}  {path["penalty"]:<10.4g}  '
        + '  '.join(f'{value:18.4g}' for value in path['terms'].values())
        + f'  {source}'
        for source, path in zip(sources, paths, strict=True)
    ]
    return '\n'.join(lines)
