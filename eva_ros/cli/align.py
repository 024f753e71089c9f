"""`eva align`: align a world model offline for higher executability of its dreams."""

import argparse
from dataclasses import replace
import json
from pathlib import Path
import sys
from typing import Any

from eva_ros.cli import align_attempts
from eva_ros.cli import align_checks
from eva_ros.cli import align_reward
from eva_ros.cli import arguments
from eva_ros.cli import loading

_ALGORITHMS = ('direct', 'grpo', 'filtered', 'nft', 'finetune')
# What learns from recordings, without dreaming and without a reward.
_OFFLINE = ('filtered', 'nft', 'finetune')
_FROM_ATTEMPTS = ('filtered', 'nft')
# What reads no joints while it learns.
_WITHOUT_IDM = ('nft', 'finetune')
# Held-out initial views that are compared unless the user says how many.
_VIEWS = 64
# Frames between the mid-task views that training also dreams from.
_MOMENTS = 4

HELP = 'align a world model by the executability of its dreams, or evaluate an alignment'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eva align` and of its sub-command evaluate."""
    _add_models(parser, required=False)
    parser.add_argument('--out', type=arguments.new_folder, metavar='LORA',
                        help='folder of the adapter; an unfinished run is resumed')  # fmt: skip
    parser.add_argument('--algorithm', choices=_ALGORITHMS, default='direct',
                        help='direct: gradient of the reward; grpo: Flow-GRPO; from --attempts: '
                        'filtered (imitate what succeeded) or nft (DiffusionNFT); finetune: '
                        'demonstrations alone, the control of filtered (%(default)s)')  # fmt: skip
    align_attempts.add_attempts(parser, required=False)
    align_attempts.add_tolerance(parser)
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument('--minutes', type=arguments.above_zero, help='of wall time')
    budget.add_argument(
        '--iterations', type=arguments.count, help='optimizer steps on fresh dreams'
    )
    parser.add_argument('--seed', type=arguments.seed, default=0, help='(%(default)s)')
    arguments.add_processes(parser, 1)
    for name, kind, text in (
        ('dreams', arguments.count, 'direct: dreams per iteration'),
        ('gradient-steps', arguments.count, 'direct: last denoising steps that get a gradient'),
        ('groups', arguments.count, 'grpo: initial views per iteration'),
        ('group-size', arguments.count, 'grpo: dreams per initial view'),
        ('batch-groups', arguments.count, 'grpo: groups in one pass; fewer need less memory'),
        ('kl-weight', arguments.zero_or_more, 'grpo: weight of the KL divergence'),
        ('clips', arguments.count, 'filtered, nft, finetune: clips per iteration'),
        ('beta', arguments.above_zero, 'nft: strength of the contrast'),
        (
            'dream-steps',
            arguments.count,
            "denoising steps of a dream (the checkpoint's; grpo: 4 or more)",
        ),
        ('learning-rate', arguments.above_zero, 'learning rate of AdamW'),
        ('data-weight', arguments.zero_or_more, 'weight of the supervised loss on recorded clips'),
        (
            'floor-share',
            arguments.zero_or_more,
            'fraction of the recorded motion that is required',
        ),
    ):
        parser.add_argument(f'--{name}', type=kind, help=text, metavar='X')
    align_checks.add_checks(parser)
    align_reward.add_reward(parser)
    align_reward.add_accept_blind(parser)
    parser.set_defaults(action=_align)
    commands = parser.add_subparsers(metavar='evaluate | probe | verify | critic')
    _add_evaluate(commands.add_parser('evaluate', help=_evaluate.__doc__))
    align_reward.add_probe(commands.add_parser('probe', help=align_reward.probe.__doc__))
    align_attempts.add_verify(commands.add_parser('verify', help=align_attempts.verify.__doc__))
    align_reward.add_critic(commands.add_parser('critic', help=align_reward.critic.__doc__))


def _add_models(parser: argparse.ArgumentParser, *, required: bool) -> None:
    arguments.add_recordings(parser, required=required)
    arguments.add_split(parser)
    if required:
        parser.add_argument('--world-model', type=Path, required=True, metavar='CKPT')
    parser.add_argument('--idm', type=Path, required=required, metavar='CKPT')


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    _add_models(parser, required=True)
    parser.add_argument('--lora', type=Path, required=True, help='folder of the adapter')
    parser.add_argument('--second-idm', type=Path, metavar='CKPT',
                        help='also evaluate with a second IDM, not used in alignment')  # fmt: skip
    parser.add_argument('--views', type=arguments.count, metavar='N',
                        help=f'number of held-out views (all, up to {_VIEWS})')  # fmt: skip
    parser.add_argument('--steps', type=arguments.count, help="denoising steps (the checkpoint's)")
    parser.add_argument('--seed', type=arguments.seed, default=100, help='of dreams and intervals '
                        '(%(default)s)')  # fmt: skip
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    parser.set_defaults(action=_evaluate)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    return args.action(args)


def _align(args: argparse.Namespace) -> int:
    from eva_ros.errors import UserError
    from eva_ros.training.launch import launch

    needed = ['bags', 'world_model', 'out']
    if args.algorithm not in _WITHOUT_IDM:
        needed.insert(2, 'idm')
    missing = [name for name in needed if not getattr(args, name)]
    if missing or (args.minutes is None) == (args.iterations is None):
        options = ', '.join(f'--{name.replace("_", "-")}' for name in needed)
        raise UserError(
            f'eva align needs {options} and either --minutes or --iterations (see eva align '
            '--help).'
        )
    settings = _settings(args)
    settings.check()
    align_checks.require(args, rewarded=args.algorithm not in _OFFLINE)
    align_reward.accepted(args)
    _require_attempts(args)
    if args.algorithm not in _OFFLINE:
        robot, _, judge, prompts = _judge_and_prompts(args)
        _require_prompts(prompts[0])
        floor = {'floor_share': settings.floor_share, 'floor_weight': settings.floor_weight}
        align_reward.require(args, replace(judge, **floor), prompts, robot)
    launch(args.processes, _align_member, args)
    return 0


def _require_prompts(prompts: list) -> None:
    """Refuse to train on nothing."""
    from eva_ros.errors import UserError

    if not prompts:
        raise UserError('Every episode is held out: give more bags, or a smaller --held-out.')


def _require_attempts(args: argparse.Namespace) -> None:
    """Refuse attempts that nothing would learn from, and an algorithm without its attempts."""
    from eva_ros.errors import UserError

    if args.algorithm in _FROM_ATTEMPTS and not args.attempts:
        raise UserError(f'--algorithm {args.algorithm} learns from attempts: give --attempts.')
    if args.attempts and args.algorithm not in _FROM_ATTEMPTS:
        raise UserError(
            f'--algorithm {args.algorithm} does not learn from attempts: leave --attempts out, or '
            'choose filtered or nft.'
        )
    if args.tolerance and args.algorithm != 'filtered':
        raise UserError('--tolerance is for --algorithm filtered, which alone verifies attempts.')
    if args.reward is not None and args.algorithm in _OFFLINE:
        raise UserError(
            f'--algorithm {args.algorithm} has no reward but the outcome of attempts: leave '
            '--reward out, or choose direct or grpo.'
        )
    if align_reward.weights_of(args).outcome:
        raise UserError(
            'The term outcome is the same whatever is dreamed from a view: leave it out of '
            '--reward, and learn from outcomes by --algorithm nft.'
        )
    if args.similarity_tau is not None and args.algorithm in _OFFLINE:
        raise UserError(
            f'--algorithm {args.algorithm} has no term similarity: leave --similarity-tau out.'
        )
    if args.similarity_tau is not None and not align_reward.weights_of(args).similarity:
        raise UserError(
            '--similarity-tau scales the term similarity: give --reward similarity=WEIGHT too.'
        )


def _align_member(args: argparse.Namespace) -> None:
    """Align in one of the processes."""
    from eva_ros.alignment.policy import WorldModelPolicy
    from eva_ros.alignment.trainer import align
    from eva_ros.training.launch import process_state
    from eva_ros.training.launch import training_device

    settings = _settings(args)
    # Where the reward was checked, the table of the recordings has been shown.
    quiet = args.algorithm not in _OFFLINE or not process_state().is_main_process
    model, judge, (prompts, held_out) = _load(args, quiet=quiet)
    _require_prompts(prompts)
    if args.dream_steps is None:
        steps = max(settings.FEWEST_STEPS, model.settings.steps)
        settings = replace(settings, steps=steps)
    device = training_device()
    if judge is not None:
        judge.idm.to(device)
        if judge.critic is not None:
            judge.critic.to(device)
    policy = WorldModelPolicy(model.to(device), settings.rank, settings.seed)
    facts: dict[str, Any] = {'bags': [bags.name for bags in args.bags]}
    names = {'idm': args.idm, 'critic': args.critic, 'second_idm': args.second_idm}
    facts |= {name: folder and folder.name for name, folder in names.items()}
    facts['preset'] = args.preset
    own = align_attempts.learnt(args, judge and judge.idm) if args.attempts else []
    if own:
        facts |= {'attempts': [bags.name for bags in args.attempts], 'own': len(own)}
    checks = align_checks.checks_of(args, held_out, device)
    loop = align(policy, prompts, judge, args.out, settings, facts, own, checks)
    if loop.is_main and not loop.task.stopped():
        print(f'{loop.step} iterations, written to {args.out}')


def _settings(args: argparse.Namespace) -> Any:
    """Return the settings of the chosen algorithm."""
    from eva_ros.alignment.direct import DirectSettings
    from eva_ros.alignment.grpo import GrpoSettings
    from eva_ros.alignment.own_attempts import FilteredSettings
    from eva_ros.alignment.own_attempts import FinetuneSettings
    from eva_ros.alignment.own_attempts import NftSettings
    from eva_ros.alignment.trainer import ResamplingSettings
    from eva_ros.errors import UserError

    kinds: dict[str, type[ResamplingSettings]] = {
        'direct': DirectSettings,
        'grpo': GrpoSettings,
        'filtered': FilteredSettings,
        'nft': NftSettings,
        'finetune': FinetuneSettings,
    }
    settings = kinds[args.algorithm](
        seed=args.seed, minutes=args.minutes, iterations=args.iterations
    )
    names = (
        *('dreams', 'gradient_steps', 'groups', 'group_size', 'batch_groups', 'kl_weight'),
        *('learning_rate', 'data_weight', 'floor_share', 'clips', 'beta', 'keep_every'),
    )
    chosen = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    for name in chosen:
        if not hasattr(settings, name):
            option = name.replace('_', '-')
            raise UserError(f'--{option} is not a setting of --algorithm {args.algorithm}.')
    if args.dream_steps is not None:
        chosen['steps'] = args.dream_steps
    return replace(settings, **chosen)


def _evaluate(args: argparse.Namespace) -> int:
    """Compare held-out dreams before and after alignment, from the same noise."""
    from eva_ros.errors import UserError
    from eva_ros.evaluation.alignment_comparison import compare
    from eva_ros.evaluation.alignment_figures import figures
    from eva_ros.evaluation.alignment_figures import table
    from eva_ros.world_model.adapters import load_adapter

    model, judge, (_, prompts) = _load(args)
    if not prompts:
        raise UserError('No episode is held out: give more bags, or a larger --held-out.')
    judge = _with_reward_of(args, judge)
    load_adapter(model, args.lora)
    views = args.views or min(_VIEWS, len(prompts))
    chosen = {'views': views, 'seed': args.seed, 'steps': args.steps or model.settings.steps}
    summary = figures(compare(model, prompts, judge, **chosen), args.seed)
    if args.second_idm:
        second = replace(judge, idm=align_checks.load_second_idm(args))
        summary['second_idm'] = figures(compare(model, prompts, second, **chosen), args.seed)
    print(json.dumps(summary) if args.json else table(summary))
    return 0


def _load(args: argparse.Namespace, *, quiet: bool = False) -> tuple[Any, Any, tuple[list, list]]:
    """Return the world model, the judge, and prompts to train on and held out."""
    from eva_ros.world_model.checkpoint import load_world_model

    robot, view = loading.robot_and_view(args)
    model = load_world_model(args.world_model, robot=robot, view=view)
    _, _, judge, prompts = _judge_and_prompts(args, model.settings.frames, quiet=quiet)
    print(f'eva align: {len(prompts[0])} initial views, {len(prompts[1])} held out',
          file=sys.stderr)  # fmt: skip
    return model, judge, prompts


def _judge_and_prompts(
    args: argparse.Namespace, frames: int | None = None, *, quiet: bool = False
) -> tuple[Any, Any, Any, tuple[list, list]]:
    """Return robot, view, judge, and prompts of `frames` frames (default: the view's).

    The judge is None where no inverse dynamics model is given.
    """
    from eva_ros.alignment.prompts import find_prompts
    from eva_ros.episodes.dataset import split_episodes
    from eva_ros.errors import UserError
    from eva_ros.world_model.training_run import told

    robot, view, episodes = loading.recordings(args, quiet=quiet)
    split = split_episodes(episodes, args.held_out, args.split_seed)
    parts = loading.without_failed([told(part) for part in split], quiet=quiet)
    if not any(parts):
        raise UserError(
            'None of the recordings has an instruction: record with Episode markers that say what '
            'the robot was told.'
        )
    judge = None
    if args.idm is not None:
        judge = align_reward.judge_of(args, robot, view, parts[0] or parts[1])
    size = (frames or view.frames, view.rate_hz)
    train = find_prompts(parts[0], *size, moments=_MOMENTS) if parts[0] else []
    held_out = find_prompts(parts[1], *size) if parts[1] else []
    return robot, view, judge, (train, held_out)


def _with_reward_of(args: argparse.Namespace, judge: Any) -> Any:
    """Return the judge with the reward that the adapter was trained on."""
    from eva_ros.alignment.reward import preset
    from eva_ros.alignment.reward import RewardSettings
    from eva_ros.errors import UserError
    from eva_ros.robot.spec import load_robot
    from eva_ros.training.manifest import read_manifest
    from eva_ros.world_model.adapters import ADAPTER

    lora = args.lora
    try:
        training = read_manifest(lora, ADAPTER).training
        settings = training['settings']
        limits = judge.limits
        if training.get('preset') is not None:
            limits = preset(training['preset'], load_robot(args.robot))[0]
        return replace(
            judge,
            limits=limits,
            # What learnt from recordings alone had no reward, and is compared by the usual one.
            reward=RewardSettings(**training.get('reward', {})),
            floor_share=settings['floor_share'],
            floor_weight=settings['floor_weight'],
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f'{lora} is not an adapter made by eva align: its eva.json lacks the reward.'
        ) from error
