"""`eva bags`: look at recordings and show them."""

import argparse
from collections.abc import Callable
import json
from pathlib import Path
import sys
from typing import Any

from eva_ros.errors import UserError

HELP = 'check and show recorded bags'

DONE, FINDINGS, WRONG_USE = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare check and view."""
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    check = actions.add_parser('check', help='what bags hold and what is wrong with them')
    check.add_argument('--json', action='store_true', help='print one JSON object')
    _add_bags(check)
    view = actions.add_parser('view', help='one HTML page with pictures and joint curves')
    view.add_argument('--out', type=Path, default=Path('bags.html'), help='page (bags.html)')
    _add_bags(view)


def _add_bags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('paths', nargs='+', type=Path, metavar='PATH', help='bags or folders')
    parser.add_argument('--robot', default='aloha_sim', help='robot YAML (aloha_sim)')
    parser.add_argument('--view', help="view YAML (the robot's name, else all cameras in a row)")
    parser.add_argument('--align', type=Path, help='YAML with clocks, tolerances and attempts')


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        'check': _check,
        'view': _view,
    }
    return actions[args.action](args)


def _world(args: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Return the robot, the view and the settings that were asked for."""
    from eva_ros.episodes.settings import load_settings
    from eva_ros.episodes.views import view_of
    from eva_ros.robot.spec import load_robot

    robot = load_robot(args.robot)
    return robot, view_of(robot, args.view), load_settings(args.align) if args.align else None


def _checks(args: argparse.Namespace) -> tuple[list[Any], list[Path], tuple[Any, Any, Any]]:
    """Return what was found in each bag, and the bags; paths without any count as unusable."""
    from eva_ros.episodes.bag_files import find_bags
    from eva_ros.episodes.check import BagCheck
    from eva_ros.episodes.check import check_bag

    world = _world(args)
    checks, bags = [], []
    for path in args.paths:
        try:
            found = find_bags([path])
        except UserError as error:
            checks.append(BagCheck(str(path), reasons=[str(error)], opened=False))
            bags.append(path)
            continue
        for bag in (bag for bag in found if bag not in bags):
            checks.append(check_bag(bag, *world))
            bags.append(bag)
    return checks, bags, world


def _code(checks: list[Any]) -> int:
    if not any(check.opened for check in checks):
        return WRONG_USE
    return DONE if all(check.verdict == 'usable' for check in checks) else FINDINGS


def _check(args: argparse.Namespace) -> int:
    from eva_ros.cli.bags_table import print_checks

    checks, _, _ = _checks(args)
    if args.json:
        print(json.dumps({'bags': [check.as_json() for check in checks]}, allow_nan=False))
    else:
        print_checks(checks)
    return _code(checks)


def _view(args: argparse.Namespace) -> int:
    from eva_ros.episodes.contact_sheet import bag_section
    from eva_ros.episodes.contact_sheet import page

    checks, bags, world = _checks(args)
    sections = [bag_section(bag, check, *world) for bag, check in zip(bags, checks)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(page(sections), encoding='utf-8')
    print(f'wrote {args.out}', file=sys.stderr)
    return _code(checks)
