"""`eva align verify`: which parts of a robot's own attempts may be imitated."""

import argparse
from collections import Counter
import itertools
import json
from pathlib import Path
import sys
from typing import Any

from eva_ros.cli import arguments
from eva_ros.cli import loading
from eva_ros.errors import UserError


def add_attempts(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Declare --attempts, --world-model and --lora."""
    parser.add_argument(
        '--attempts',
        type=Path,
        nargs='+',
        required=required,
        metavar='DIR',
        help='bags of attempts with outcomes',
    )
    parser.add_argument(
        '--world-model',
        type=Path,
        metavar='CKPT',
        help='checkpoint that must have dreamed the attempts (any, but the same for all)',
    )
    parser.add_argument('--lora', type=Path, help='adapter of that checkpoint')


def add_tolerance(parser: argparse.ArgumentParser) -> None:
    """Declare --tolerance."""
    parser.add_argument(
        '--tolerance',
        type=Path,
        metavar='FILE',
        help='keep the tolerance in this file, measured once on the held-out --bags',
    )


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `eva align verify`."""
    arguments.add_recordings(parser)
    arguments.add_split(parser)
    add_attempts(parser, required=True)
    parser.add_argument('--idm', type=Path, required=True, metavar='CKPT')
    add_tolerance(parser)
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    parser.set_defaults(action=verify)


def verify(args: argparse.Namespace) -> int:
    """Count the parts of attempts that succeeded as measured and as seen by the cameras."""
    from eva_ros.alignment import verified
    from eva_ros.alignment.attempts import read_dreams
    from eva_ros.alignment.attempts import require_checkpoint
    from eva_ros.episodes.dataset import load_episodes
    from eva_ros.idm.checkpoint import load_idm

    robot, view = loading.robot_and_view(args)
    robot.require('training')
    model = load_idm(args.idm, robot, view)
    wanted = wanted_checkpoint(args)
    dreams = Counter(dream.rollout.checkpoint for dream in read_dreams(args.attempts, robot, view))
    require_checkpoint(dreams, wanted)
    tolerance = _tolerance(args, model, view)
    attempts = load_episodes(args.attempts, robot, view, args.cache, report=sys.stderr)
    parts = verified.verify(model, attempts, view.frames, tolerance)
    told = {
        'tolerance': {'limit': tolerance.limit, 'parts': tolerance.parts, 'idm': tolerance.idm},
        'dreams': dict(dreams),
        'tasks': verified.counts(parts, attempts),
    }
    print(json.dumps(told, allow_nan=False) if args.json else _table(told))
    for task, figure in told['tasks'].items():
        failures = figure['attempts'] - figure['successes']
        if min(figure['successes'], failures) < 2:
            print(
                f'eva align verify: {task} has {figure["successes"]} successes in '
                f'{figure["attempts"]} attempts: learning from outcomes needs two of each',
                file=sys.stderr,
            )
    return 0


def learnt(args: argparse.Namespace, idm: Any) -> list:
    """Return what --algorithm learns from in --attempts: verified parts, or dreams.

    Args:
        args: Arguments of `eva align`.
        idm: Inverse dynamics model; only verified parts need one.

    Raises:
        UserError: Nothing can be learnt from these attempts.
    """
    from accelerate.utils import broadcast_object_list

    from eva_ros.alignment import verified
    from eva_ros.alignment.attempts import dream_prompts
    from eva_ros.alignment.own_attempts import judged
    from eva_ros.alignment.own_attempts import require_contrast
    from eva_ros.alignment.prompts import find_prompts
    from eva_ros.episodes.dataset import load_episodes
    from eva_ros.training.launch import process_state

    robot, view = loading.robot_and_view(args)
    attempts = load_episodes(args.attempts, robot, view, args.cache, report=sys.stderr)
    if args.algorithm == 'nft':
        dreams = judged(dream_prompts(dreams_of(args, robot, view), attempts))
        require_contrast(dreams)
        return dreams
    # The first process verifies; it would be the same in all.
    kept: list[Any] = [None]
    if process_state().is_main_process:
        parts = verified.verify(idm, attempts, view.frames, _tolerance(args, idm, view))
        print(_table({'tasks': verified.counts(parts, attempts)}), file=sys.stderr)
        kept = [[not part.rejected for part in parts]]
    broadcast_object_list(kept)
    prompts = find_prompts(attempts, view.frames, view.rate_hz)
    own = list(itertools.compress(prompts, kept[0]))
    if not own:
        raise UserError(
            'No part of the attempts may be imitated (see the table above): attempt more, or an '
            'easier task.'
        )
    return own


def dreams_of(args: argparse.Namespace, robot: Any, view: Any) -> list:
    """Return the dreams in --attempts, all of one checkpoint: that of --world-model if given."""
    from eva_ros.alignment.attempts import read_dreams
    from eva_ros.alignment.attempts import require_checkpoint

    dreams = list(read_dreams(args.attempts, robot, view))
    found = Counter(dream.rollout.checkpoint for dream in dreams)
    require_checkpoint(found, wanted_checkpoint(args))
    return dreams


def wanted_checkpoint(args: argparse.Namespace) -> str | None:
    """Return how rollouts name --world-model and --lora; None where neither is given."""
    from eva_ros.training.weights import checkpoint_label

    if args.lora and not args.world_model:
        raise UserError('--lora belongs to a --world-model: give both.')
    folders = [folder for folder in (args.world_model, args.lora) if folder]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f'There is no checkpoint folder {folder}.')
    return '+'.join(map(checkpoint_label, folders)) or None


def _tolerance(args: argparse.Namespace, model: Any, view: Any) -> Any:
    """Return the tolerance in the file, or the one of the held-out recordings."""
    from eva_ros.alignment import verified
    from eva_ros.alignment.prompts import find_prompts
    from eva_ros.episodes.dataset import split_episodes
    from eva_ros.training.weights import checkpoint_label

    idm = checkpoint_label(args.idm)
    if args.tolerance and args.tolerance.exists():
        return verified.load_tolerance(args.tolerance, idm)
    _, _, episodes = loading.recordings(args)
    _, held_out = split_episodes(episodes, args.held_out, args.split_seed)
    if not held_out:
        raise UserError('No episode is held out: give more bags, or a larger --held-out.')
    prompts = find_prompts(held_out, view.frames, view.rate_hz)
    tolerance = verified.measure_tolerance(model, prompts, idm)
    if args.tolerance:
        tolerance.save(args.tolerance)
    return tolerance


def _table(told: dict[str, Any]) -> str:
    lines = [f'{"":22}{"succeeded":>12}{"parts":>8}{"verified":>10}  left out']
    for task, figure in told['tasks'].items():
        succeeded = f'{figure["successes"]}/{figure["attempts"]}'
        why = ', '.join(f'{reason} {count}' for reason, count in figure['rejected'].items())
        lines.append(
            f'{task:22}{succeeded:>12}{figure["parts"]:>8}{figure["verified"]:>10}  {why or "-"}'
        )
    return '\n'.join(lines)
