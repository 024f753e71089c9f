"""`eva gate check`: check a chunk with the gate, and print what would be sent."""

import argparse
import json
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

from eva_ros.cli import arguments
from eva_ros.errors import UserError

if TYPE_CHECKING:
    from eva_ros.control.chunk import Array
    from eva_ros.control.chunk import Chunk
    from eva_ros.control.verdict import Verdict

HELP = 'ask the command gate about a chunk in a file'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare check."""
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    check = actions.add_parser('check', help='would a chunk be accepted, and what would be sent?')
    check.add_argument(
        'chunk', type=Path, help='npz with positions [T, J], dt, and optionally joint_names'
    )
    arguments.add_robot(check, view=False)
    check.add_argument('--gate', type=Path, help="YAML with gate settings (the package's)")
    check.add_argument(
        '--measured',
        type=Path,
        help='npz with the measured positions [J] (at rest at the first step)',
    )
    check.add_argument('--json', action='store_true', help='print one JSON object')


def run(args: argparse.Namespace) -> int:
    """Check the chunk; return 1 if it is refused."""
    from eva_ros.control.collision_checks import unchecked_space
    from eva_ros.control.command_supervisor import CommandSupervisor
    from eva_ros.control.settings import load_gate_settings
    from eva_ros.robot.spec import load_robot

    robot = load_robot(args.robot)
    settings = load_gate_settings(robot.name, args.gate, simulated=robot.simulated)
    measured = None if args.measured is None else _measured(args.measured, robot.joint_names)
    chunk, measured = _chunk(args.chunk, robot.joint_names, measured)
    # The node drives the same object and sends the result.
    verdict = CommandSupervisor(robot, settings, dry_run=True, now_ns=0).judge(
        chunk, measured, None, 0
    )
    unchecked = unchecked_space(robot, settings)
    if args.json:
        print(json.dumps(_as_json(verdict, unchecked), allow_nan=False))
    else:
        _print(verdict, unchecked)
    return 0 if verdict.accepted else 1


def _chunk(
    path: Path, joint_names: tuple[str, ...], measured: 'Array | None'
) -> 'tuple[Chunk, Array]':
    """Return the chunk in a file and the measured joints (default: its first step)."""
    import numpy as np

    from eva_ros.control.chunk import Chunk

    content = read_npz(path)
    for name in ('positions', 'dt'):
        if name not in content:
            raise UserError(f'{path} holds no {name}: positions [T, J] and dt are needed.')
    positions = content['positions']
    names = tuple(str(name) for name in content.get('joint_names', joint_names))
    if positions.ndim != 2 or content['dt'].shape != ():
        raise UserError(
            f'{path}: positions have shape {list(positions.shape)} and dt '
            f'{list(content["dt"].shape)}; [T, J] and one number are needed.'
        )
    if measured is None:
        measured = positions[0] if len(positions) else positions.ravel()
        if set(names) == set(joint_names) and len(measured) == len(names):
            measured = measured[[names.index(name) for name in joint_names]]
    observed = dict(zip(joint_names, measured))
    chunk = Chunk(
        observation_stamp_ns=0,
        rollout_id=1,
        joint_names=names,
        dt=float(content['dt']),
        positions=positions,
        observed_positions=np.array([observed.get(name, np.nan) for name in names]),
    )
    return chunk, measured


def _measured(path: Path, joint_names: tuple[str, ...]) -> 'Array':
    """Return the joints in a file [J], in the robot's order."""
    import numpy as np

    content = read_npz(path)
    if 'positions' not in content:
        raise UserError(f'{path} holds no positions: positions [J] are needed.')
    values = content['positions'].reshape(-1)
    if 'joint_names' in content:
        values = _in_order(path, values, content['joint_names'], joint_names)
    if len(values) != len(joint_names):
        raise UserError(
            f'{path} holds {len(values)} positions: one is needed for each of the '
            f'{len(joint_names)} joints of the robot.'
        )
    bad = [name for name, value in zip(joint_names, values) if not np.isfinite(value)]
    if bad:
        raise UserError(f'{path}: the position of {", ".join(bad)} is not finite.')
    return values


def read_npz(path: Path) -> dict[str, Any]:
    """Return the arrays in an npz file; positions and dt as float64.

    Raises:
        UserError: It cannot be read, or one of them does not hold real numbers.
    """
    import zipfile
    import zlib

    import numpy as np

    damage = (OSError, ValueError, AttributeError, TypeError, EOFError, MemoryError)
    try:
        with np.load(path, allow_pickle=False) as content:
            found = {name: np.asarray(content[name]) for name in content.files}
    except (*damage, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f'{path} cannot be read as npz: {error}.') from None
    for name in ('positions', 'dt'):
        if name in found:
            if found[name].dtype.kind not in 'iuf':
                raise UserError(f'{path}: {name} must be real numbers.')
            found[name] = found[name].astype(np.float64)
    if 'joint_names' in found and found['joint_names'].ndim != 1:
        raise UserError(f'{path}: joint_names must be a list of names.')
    return found


def _in_order(path: Path, values: Any, names: Any, wanted: tuple[str, ...]) -> Any:
    given = [str(name) for name in names]
    missing = [name for name in wanted if given.count(name) != 1]
    if missing or len(values) != len(given):
        raise UserError(
            f'{path} must name each joint once: {", ".join(missing) or "wrong length"}.'
        )
    return values[[given.index(name) for name in wanted]]


def _as_json(verdict: 'Verdict', unchecked: str | None) -> dict[str, Any]:
    finite = verdict.stretch == verdict.stretch and abs(verdict.stretch) != float('inf')
    return {
        'accepted': verdict.accepted,
        'reason': verdict.reason,
        'detail': verdict.detail,
        'stretch': float(verdict.stretch) if finite else None,
        'clamped': verdict.clamped,
        'collision_pair': list(verdict.collision_pair),
        'unchecked': unchecked,
        'arms': {
            arm: {
                'joint_names': list(trajectory.joint_names),
                'time_from_start': trajectory.time_from_start.tolist(),
                'positions': trajectory.positions.tolist(),
                'velocities': trajectory.velocities.tolist(),
                'accelerations': trajectory.accelerations.tolist(),
            }
            for arm, trajectory in verdict.command.items()
        },
    }


def _print(verdict: 'Verdict', unchecked: str | None) -> None:
    print(f'{"accepted" if verdict.accepted else verdict.reason}: {verdict.detail}')
    if verdict.accepted:
        print(f'stretch {verdict.stretch:.2f}')
    for joint, outside in verdict.clamped.items():
        print(f'clamped {joint} by up to {outside:.3f}')
    if unchecked is not None:
        print(f'not checked: {unchecked}')
