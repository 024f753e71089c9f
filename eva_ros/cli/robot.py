"""`eva robot`: describe a robot from what there is of it, and say what the description lacks."""

import argparse
import json
from pathlib import Path
import re
from typing import Any
from typing import TYPE_CHECKING

from eva_ros.cli import arguments
from eva_ros.errors import UserError

if TYPE_CHECKING:
    from eva_ros.robot.seen import Seen

HELP = 'describe a robot from a URDF, a bag or a data set, and check the description'

DONE, FINDINGS = 0, 1
PURPOSES = ('recordings', 'training', 'gate')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare init and check."""
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    init = actions.add_parser('init', help='write a robot YAML: what is known, and questions')
    init.add_argument('--urdf', type=Path, help='joints, limits and frames')
    seen = init.add_mutually_exclusive_group()
    seen.add_argument('--bag', type=Path, help='topics, joints and cameras of a recorded bag; '
                      'of a folder of bags, those of the first')  # fmt: skip
    seen.add_argument('--dataset', type=Path, help='joints and cameras of a LeRobot data set')
    init.add_argument('--joints', metavar='REGEX', help='only joints whose names match (all)')
    init.add_argument('--name', help="of the robot (the bag's, else the file's)")
    init.add_argument('--out', type=arguments.new_file, required=True, help='YAML to write')
    check = actions.add_parser('check', help='what a robot YAML lacks, and for what')
    check.add_argument('robot', help='robot: a name or a YAML file')
    check.add_argument(
        '--purpose', choices=PURPOSES, help='exit with 0 where it is complete for this (all)'
    )
    check.add_argument('--json', action='store_true', help='print one JSON object')


def run(args: argparse.Namespace) -> int:
    """Run the chosen action; 1 where the description is not complete."""
    return _init(args) if args.action == 'init' else _check(args)


def _init(args: argparse.Namespace) -> int:
    from eva_ros.robot.draft import draft
    from eva_ros.robot.draft_text import draft_text
    from eva_ros.robot.spec import load_robot
    from eva_ros.robot.urdf_facts import read_urdf

    if args.out.exists():
        raise UserError(f'{args.out} is there already: name another file, or remove it.')
    if not (args.urdf or args.bag or args.dataset):
        raise UserError('Give --urdf, --bag or --dataset: a robot is described from these.')
    urdf = read_urdf(args.urdf) if args.urdf else None
    seen = _seen(args)
    if args.joints:
        urdf, seen = _matching(args.joints, urdf, seen)
    name = args.name or (seen.robot if seen else '') or args.out.stem
    made = draft(name, urdf, seen)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(draft_text(made, args.out), encoding='utf-8')
    robot = load_robot(str(args.out.resolve()))
    print(f'wrote {args.out}: {_parts(robot)}')
    _print(_about(robot))
    return DONE


def _seen(args: argparse.Namespace) -> 'Seen | None':
    if args.bag:
        from eva_ros.interchange.sighting import look_at_bag
        from eva_ros.recordings.bag_search import find_bags

        return look_at_bag(find_bags([args.bag])[0] if args.bag.is_dir() else args.bag)
    if args.dataset:
        from eva_ros.interchange.sighting import look_at_data_set

        return look_at_data_set(args.dataset)
    return None


def _matching(regex: str, urdf: Any, seen: Any) -> tuple[Any, Any]:
    """Return the URDF and the recordings with those joints alone that match.

    Raises:
        UserError: none does.
    """
    from dataclasses import replace

    try:
        wanted = re.compile(regex)
    except re.error as error:
        raise UserError(f"--joints '{regex}' is not a regular expression: {error}.") from None
    states = seen.states if seen is not None else {'': urdf.joints}
    names = dict.fromkeys(name for own in states.values() for name in own)
    if not any(map(wanted.search, names)):
        raise UserError(f"--joints '{regex}' matches none of the joints: {', '.join(names)}.")
    if seen is not None:
        kept = {t: tuple(n for n in own if wanted.search(n)) for t, own in seen.states.items()}
        return urdf, replace(seen, states={topic: names for topic, names in kept.items() if names})
    joints = {name: joint for name, joint in urdf.joints.items() if wanted.search(name)}
    return replace(urdf, joints=joints), seen


def _check(args: argparse.Namespace) -> int:
    from eva_ros.robot.spec import load_robot

    robot = load_robot(args.robot)
    about = _about(robot)
    if args.json:
        print(json.dumps(about, allow_nan=False))
    else:
        print(f'{robot.name} ({robot.path}): {_parts(robot)}')
        _print(about)
    asked = [args.purpose] if args.purpose else PURPOSES
    return FINDINGS if any(about['missing'][purpose] for purpose in asked) else DONE


def _about(robot: Any) -> dict[str, Any]:
    """Return what a robot lacks for each purpose, and the questions left in its YAML."""
    from eva_ros.robot.questions import open_questions
    from eva_ros.robot.spec import missing_for
    from eva_ros.robot.urdf import urdf_joint_names

    missing = {purpose: missing_for(robot, purpose) for purpose in PURPOSES}
    if robot.urdf is not None:
        try:
            urdf_joint_names(robot)
        except UserError as error:
            missing['gate'].append(str(error).rstrip('.'))
    questions = [{'line': q.line, 'question': q.text} for q in open_questions(robot.path)]
    return {'robot': robot.name, 'file': str(robot.path), 'missing': missing,
            'questions': questions}  # fmt: skip


def _parts(robot: Any) -> str:
    arms = [
        f'{name} arm of {len(arm.joints)} joints{" and a gripper" if arm.gripper else ""}'
        for name, arm in robot.arms.items()
    ]
    return f'{", ".join(arms)}; cameras {", ".join(robot.cameras) or "none"}'


def _print(about: dict[str, Any]) -> None:
    from eva_ros.robot.spec import PURPOSES as PHRASES

    for purpose, missing in about['missing'].items():
        print(f'{PHRASES[purpose]}: {"; ".join(missing) if missing else "complete"}')
    for question in about['questions']:
        print(f'  line {question["line"]}: {question["question"]}')
