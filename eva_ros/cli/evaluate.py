"""`eva evaluate`: success in the closed loop on the simulated robot, next to controls."""

import argparse
import dataclasses
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from eva_ros.cli import arguments
from eva_ros.cli import loading
from eva_ros.control.settings import MODES
from eva_ros.errors import UserError
from eva_ros.sim.phrasings import PHRASINGS
from eva_ros.sim.scenes import TIME_LIMIT_S

if TYPE_CHECKING:
    from eva_ros.evaluation.comparison import Comparison

HELP = 'measure the success rate of models and controls in the closed loop'

DEFAULT_TASKS = ('reach_left', 'reach_right')
DEFAULT_VARIANTS = ('unaligned', 'still', 'mean_motion', 'nearest_start')
DEFAULT_SEED = 100
DEFAULT_THINK_TIME_S = 0.2
MEASURED = 'measured'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eva evaluate` and of its sub-command prepare-controls."""
    arguments.add_robot(parser)
    parser.add_argument(
        '--tasks',
        nargs='+',
        default=DEFAULT_TASKS,
        metavar='TASK',
        help=f'tasks to attempt ({" ".join(DEFAULT_TASKS)})',
    )
    parser.add_argument(
        '--variants',
        nargs='+',
        metavar='VARIANT',
        help='unaligned, smoothed (unaligned, paths smoothed once more), aligned, the names of '
        '--adapters, best_of_N (the best of N dreams), any_of_N (N attempts at a '
        'scene, one success is enough), still, mean_motion, nearest_start '
        f'({" ".join(DEFAULT_VARIANTS)})',
    )
    parser.add_argument(
        '--episodes',
        type=arguments.count,
        default=40,
        metavar='N',
        help='scenes per task, the same for every variant (%(default)s)',
    )
    parser.add_argument(
        '--seed',
        type=arguments.seed,
        help='seed of the first scene; each further one adds 1 '
        f'({DEFAULT_SEED}; with --select 800000)',
    )
    arguments.add_scenes(parser)
    parser.add_argument(
        '--phrasings',
        choices=PHRASINGS,
        default=PHRASINGS[0],
        help='instructions: shipped (close to those that the shipped models were trained on), '
        'training (the paraphrases that recordings are made with) or held_out (verbs and '
        'constructions that are not in training); the shipped models read all three (%(default)s)',
    )
    parser.add_argument('--models', type=Path, help='folder of the checkpoints (the shipped ones)')
    parser.add_argument(
        '--adapters',
        nargs='+',
        type=arguments.named_folder,
        default=(),
        metavar='NAME=LORA',
        help='further adapters of the world model, each a variant of that name',
    )
    parser.add_argument(
        '--select',
        nargs='+',
        type=Path,
        default=(),
        metavar='LORA',
        help='adapters, such as those of `eva align --keep-every`: also attempt the tasks with '
        'each, and name the one with the most successes',
    )
    parser.add_argument(
        '--best-of-by',
        metavar='TERM',
        help='how best_of_N chooses: progress, executability, consensus (progress)',
    )
    parser.add_argument(
        '--critic', type=Path, metavar='CKPT', help="critic for progress (the models' own)"
    )
    parser.add_argument(
        '--mode',
        choices=MODES,
        default=MODES[0],
        help='look_dream_move: the arms stand still while the model dreams; overlap: the next '
        'dream starts while they move (%(default)s)',
    )
    parser.add_argument(
        '--switch',
        type=arguments.share,
        metavar='PART',
        help='overlap: part of a motion after which the next chunk is to be ready (0.9)',
    )
    parser.add_argument(
        '--think-time',
        type=_think_time,
        nargs='+',
        metavar='S',
        help='simulated time charged per dream, in s; of several, one is drawn for each dream; '
        f'"{MEASURED}" times dreams on this machine first ({DEFAULT_THINK_TIME_S}; in mode '
        f'overlap {MEASURED})',
    )
    parser.add_argument(
        '--steps',
        type=arguments.count,
        metavar='N',
        help="denoising steps of a dream (the checkpoint's)",
    )
    parser.add_argument(
        '--time-limit',
        type=arguments.above_zero,
        default=TIME_LIMIT_S,
        metavar='S',
        help='simulated time of an attempt, in s (%(default)s)',
    )
    parser.add_argument(
        '--workers', type=arguments.count, default=2, help='processes (%(default)s)'
    )
    parser.add_argument(
        '--out', type=arguments.new_file, help='file for the attempts, one JSON object per line'
    )
    parser.add_argument(
        '--record',
        type=arguments.new_folder,
        metavar='DIR',
        help='folder for a bag per attempt, as the recorder on the robot writes it',
    )
    parser.add_argument('--json', action='store_true', help='print the counts as JSON')
    parser.set_defaults(action=_evaluate)
    commands = parser.add_subparsers(metavar='prepare-controls')
    _add_prepare(commands.add_parser('prepare-controls', help=_prepare.__doc__))


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    arguments.add_recordings(parser)
    parser.add_argument(
        '--out', type=arguments.new_folder, help='folder to write (the shipped one)'
    )
    parser.add_argument(
        '--most',
        type=arguments.count,
        default=300,
        metavar='N',
        help='maximum number of episodes per task (%(default)s)',
    )
    parser.set_defaults(action=_prepare)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    return args.action(args)


def _evaluate(args: argparse.Namespace) -> int:
    from eva_ros.evaluation import selection
    from eva_ros.evaluation import table
    from eva_ros.evaluation.closed_loop import LoopSettings
    from eva_ros.evaluation.comparison import check
    from eva_ros.evaluation.comparison import compare
    from eva_ros.evaluation.comparison import Comparison
    from eva_ros.evaluation.comparison import counts
    from eva_ros.robot.paths import checkpoint_dir

    chosen_from = selection.candidates(args.select)
    if args.variants is None:
        args.variants = ('unaligned',) if chosen_from else DEFAULT_VARIANTS
    args.variants = tuple(dict.fromkeys([*args.variants, *dict(chosen_from)]))
    if args.seed is None:
        args.seed = selection.SEED if chosen_from else DEFAULT_SEED
    _require_best_of(args)
    _require_adapters(args)
    loop = LoopSettings(args.time_limit)
    if args.switch is not None:
        if args.mode != 'overlap':
            raise UserError(f'--switch is for --mode overlap, not {args.mode}: leave it out.')
        loop = dataclasses.replace(loop, switch=args.switch)
    comparison = Comparison(
        robot=args.robot,
        view=args.view,
        models=args.models or checkpoint_dir(),
        tasks=tuple(dict.fromkeys(args.tasks)),
        variants=args.variants,
        episodes=args.episodes,
        seed=args.seed,
        loop=loop,
        scenes=args.scenes,
        phrasings=args.phrasings,
        record=args.record,
        best_of_by=args.best_of_by or 'progress',
        critic=args.critic,
        adapters=(*args.adapters, *chosen_from),
        steps=args.steps,
        mode=args.mode,
    )
    check(comparison)
    comparison = _charging(args, comparison)
    said = table.charged(comparison.loop.think_times_s)
    print(f'eva evaluate: charging {said} of simulated time per dream', file=sys.stderr)
    outcomes = compare(comparison, args.workers)
    if args.out:
        lines = [json.dumps(dataclasses.asdict(outcome)) + '\n' for outcome in outcomes]
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(''.join(lines), encoding='utf-8')
    selected = selection.select(comparison, outcomes, chosen_from) if chosen_from else None
    if args.json:
        told = counts(comparison, outcomes)
        print(json.dumps(told | ({'selected': selected.as_json()} if selected else {})))
    else:
        print(table.text(comparison, outcomes))
        if selected:
            print(selected.sentence())
    return 0


def _think_time(text: str) -> float | str:
    return text if text == MEASURED else arguments.zero_or_more(text)


def _charging(args: argparse.Namespace, comparison: 'Comparison') -> 'Comparison':
    """Return the comparison with the think times that were asked for."""
    from eva_ros.evaluation.comparison import measured_think_times
    from eva_ros.evaluation.variants import CONTROLS

    # In mode overlap a dream may come too late: how long one takes is part of the result.
    measured = args.mode == 'overlap' and not set(args.variants) <= set(CONTROLS)
    given = args.think_time or [MEASURED if measured else DEFAULT_THINK_TIME_S]
    if MEASURED in given:
        if len(given) > 1:
            raise UserError(f'--think-time is {MEASURED} or times in seconds, not both.')
        given = measured_think_times(comparison)
    loop = dataclasses.replace(comparison.loop, think_times_s=tuple(given))
    return dataclasses.replace(comparison, loop=loop)


def _require_best_of(args: argparse.Namespace) -> None:
    """Refuse options of best_of_N that nothing would read."""
    from eva_ros.evaluation.variants import BEST_OF

    chooses = any(variant.startswith(BEST_OF) for variant in args.variants)
    for option, value in (('--best-of-by', args.best_of_by), ('--critic', args.critic)):
        if value is not None and not chooses:
            raise UserError(f'{option} is for best_of_N: add best_of_4 to --variants.')
    if args.critic is not None and args.best_of_by not in (None, 'progress'):
        raise UserError(f'--critic is for --best-of-by progress, not {args.best_of_by}.')


def _require_adapters(args: argparse.Namespace) -> None:
    """Refuse names of adapters that nothing would read, or that mean another variant."""
    from eva_ros.evaluation.variants import is_known

    names = [name for name, _ in args.adapters]
    for name in names:
        if is_known(name):
            raise UserError(
                f'--adapters {name}: a variant of its own has that name; take another.'
            )
        if names.count(name) > 1:
            raise UserError(f'--adapters {name}: two adapters have that name; take another.')
        if name not in args.variants:
            raise UserError(f'--adapters {name}: no variant has that name; add it to --variants.')


def _prepare(args: argparse.Namespace) -> int:
    """Make the motions of the controls from recorded bags."""
    from eva_ros.evaluation import controls
    from eva_ros.robot.paths import checkpoint_dir
    from eva_ros.training.manifest import World

    robot, view, episodes = loading.recordings(args)
    made = controls.prepare(episodes, World.of(robot, view), most=args.most)
    if not made.tasks:
        raise UserError(f'{args.bags[0]} holds no successful episode.')
    out = args.out or checkpoint_dir() / 'controls'
    controls.save(made, out)
    for task, motions in made.tasks.items():
        print(f'{task}: {len(motions.lengths)} episodes')
    print(f'written to {out} ({(out / controls.FILE).stat().st_size / 1e6:.1f} MB)')
    return 0
