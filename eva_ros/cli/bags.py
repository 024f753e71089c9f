"""`eva bags`: check, view, import and export recordings."""

import argparse
from collections.abc import Callable
import json
from pathlib import Path
import sys
from typing import Any

from eva_ros.cli import arguments
from eva_ros.cli import loading
from eva_ros.errors import UserError

HELP = 'check and show recorded bags, import and export data sets'

DONE, FINDINGS, WRONG_USE = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare check, view, import and export."""
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    check = actions.add_parser('check', help='what bags hold and what is wrong with them')
    check.add_argument('--json', action='store_true', help='print one JSON object')
    _add_bags(check)
    view = actions.add_parser('view', help='one HTML page with pictures and joint curves')
    view.add_argument(
        '--out', type=arguments.new_file, default='bags.html', help='page (%(default)s)'
    )
    _add_bags(view)
    bring = actions.add_parser('import', help='write a LeRobot or RoboTwin data set as bags')
    bring.add_argument('source', type=Path, help='folder of the data set, or an HDF5 file')
    bring.add_argument(
        '--out', type=arguments.new_folder, required=True, help='folder of the bags'
    )
    bring.add_argument('--robot', help='robot whose names, units and topics the bags get (none)')
    bring.add_argument('--map', type=Path, help='YAML that says which joint is which')
    bring.add_argument(
        '--rate',
        type=arguments.rate_hz,
        help='frames a second, where RoboTwin files do not say it',
    )
    bring.add_argument(
        '--instruction',
        action='append',
        default=[],
        metavar='[OLD=]NEW',
        help="write this instruction in place of the data set's, or of OLD alone; may be repeated",
    )
    bring.add_argument('--images', choices=('jpeg', 'png'), default='jpeg', help='(jpeg)')
    bring.add_argument('--json', action='store_true', help='print one JSON object')
    send = actions.add_parser('export', help='write episodes as a LeRobot v3 data set')
    send.add_argument(
        '--out', type=arguments.new_folder, required=True, help='folder of the data set'
    )
    send.add_argument('--cache', type=arguments.new_folder, help='folder for aligned episodes')
    send.add_argument('--workers', type=arguments.count, default=2, help='processes that read (2)')
    send.add_argument('--failures', action='store_true', help='export attempts that failed too')
    _add_bags(send)


def _add_bags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('paths', nargs='+', type=Path, metavar='PATH', help='bags or folders')
    arguments.add_robot(parser)
    parser.add_argument('--align', type=Path, help='YAML with clocks, tolerances and attempts')


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        'check': _check,
        'view': _view,
        'import': _import,
        'export': _export,
    }
    return actions[args.action](args)


def _world(args: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Return the robot, the view and the alignment settings."""
    from eva_ros.episodes.settings import load_settings

    return *loading.robot_and_view(args), load_settings(args.align) if args.align else None


def _checks(args: argparse.Namespace) -> tuple[list[Any], tuple[Any, Any, Any]]:
    """Return a check for each bag (unusable for paths without one), and the result of `_world`."""
    from eva_ros.inspection.check import BagCheck
    from eva_ros.inspection.check import check_bag
    from eva_ros.recordings.bag_search import find_bags

    world = _world(args)
    checks: list[Any] = []
    guesses: dict[Path, str] = {}
    for path in args.paths:
        try:
            found = find_bags([path], guesses.__setitem__)
        except UserError as error:
            checks.append(
                BagCheck(str(path), reasons=[str(error)], lost_messages=None, opened=False)
            )
            continue
        seen = {Path(check.path).resolve() for check in checks}
        for bag in (bag for bag in found if bag.resolve() not in seen):
            checks.append(check_bag(bag, *world, guess=guesses.get(bag)))
    return checks, world


def _code(checks: list[Any]) -> int:
    if not any(check.opened for check in checks):
        print(f'eva bags: nothing could be opened. {checks[0].reasons[0]}', file=sys.stderr)
        return WRONG_USE
    return DONE if all(check.verdict == 'usable' for check in checks) else FINDINGS


def _check(args: argparse.Namespace) -> int:
    from eva_ros.cli.bags_table import print_checks

    checks, _ = _checks(args)
    if args.json:
        print(json.dumps({'bags': [check.as_json() for check in checks]}, allow_nan=False))
    else:
        print_checks(checks)
    return _code(checks)


def _view(args: argparse.Namespace) -> int:
    from eva_ros.inspection.bags_page import page

    checks, world = _checks(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(page(checks, *world), encoding='utf-8', errors='replace')
    print(f'wrote {args.out}', file=sys.stderr)
    return _code(checks)


def _import(args: argparse.Namespace) -> int:
    from eva_ros.interchange.bag_import import write_bags
    from eva_ros.interchange.import_map import automatic_map
    from eva_ros.interchange.import_map import load_map
    from eva_ros.interchange.imported import look_at_numbers
    from eva_ros.interchange.imported import remarks
    from eva_ros.interchange.rewording import reworded
    from eva_ros.robot.spec import load_robot

    if args.map and not args.robot:
        raise UserError('--map says how joints become those of a robot: name it with --robot.')
    robot = load_robot(args.robot) if args.robot else None
    found = load_map(args.map) if args.map else None
    data, assumed = reworded(_data_set(args, found), args.instruction), list[str]()
    if robot and not found:
        found, assumed = automatic_map(data, robot)
    written = write_bags(data, args.out, robot=robot, found=found, images=args.images)
    findings = [*data.findings, *look_at_numbers(data), *written.findings]
    notes = [*remarks(data), *assumed, *written.notes]
    about = {
        'source': str(args.source),
        'kind': data.kind,
        'rate_hz': data.rate_hz,
        'episodes': len(data.episodes),
        'frames': data.frames,
        'cameras': list(data.cameras),
        'joints': list(data.joint_names),
        'findings': findings,
        'notes': notes,
        'bags': [str(bag) for bag in written.bags],
    }
    if args.json:
        print(json.dumps(about))
        return FINDINGS if findings else DONE
    print(f'{args.source}: {data.kind}, {len(data.episodes)} episodes, {data.frames} frames')
    for finding in findings:
        print(f'  - {finding}')
    for note in notes:
        print(f'  note: {note}')
    there = f'; {written.there} were there already' if written.there else ''
    print(f'wrote {len(written.bags) - written.there} bags to {args.out}{there}')
    return FINDINGS if findings else DONE


def _data_set(args: argparse.Namespace, found: Any) -> Any:
    """Return the dataset; the map, if any, names the keys of its joints."""
    from eva_ros.interchange.lerobot.reader import is_lerobot
    from eva_ros.interchange.lerobot.reader import read_lerobot
    from eva_ros.interchange.robotwin.reader import is_robotwin
    from eva_ros.interchange.robotwin.reader import read_robotwin

    if not args.source.exists():
        raise UserError(f'There is no {args.source}.')
    if is_lerobot(args.source):
        if args.rate:
            raise UserError(f'{args.source} says its own time: leave out --rate.')
        return read_lerobot(args.source, *((found.state, found.action) if found else ()))
    if found and (found.state or found.action):
        raise UserError(f'{args.map} names state or action, which are keys of LeRobot data sets.')
    if not is_robotwin(args.source):
        raise UserError(
            f'{args.source} is not a dataset: it has neither meta/info.json (LeRobot) nor HDF5 '
            'files (RoboTwin).'
        )
    return read_robotwin(args.source, args.rate)


def _export(args: argparse.Namespace) -> int:
    from eva_ros.episodes.dataset import load_episodes
    from eva_ros.interchange.lerobot.writer import refuse_existing
    from eva_ros.interchange.lerobot.writer import write_lerobot

    robot, view, settings = _world(args)
    refuse_existing(args.out)
    found = load_episodes(args.paths, robot, view, args.cache, args.workers, sys.stderr, settings)
    # A LeRobot dataset cannot mark failed attempts: a policy would imitate them.
    episodes = [e for e in found if args.failures or e.success is not False]
    if len(episodes) < len(found):
        left_out = len(found) - len(episodes)
        print(f'left out: {left_out} episodes that failed (--failures)', file=sys.stderr)
    if not episodes:
        raise UserError('Every episode failed: give --failures to export them all the same.')
    write_lerobot(episodes, args.out, robot, view)
    frames = sum(len(episode) for episode in episodes)
    print(f'wrote {len(episodes)} episodes, {frames} frames to {args.out}', file=sys.stderr)
    return DONE
