"""The reward on the command line of `eva align`: its terms, its critic and its probes."""

import argparse
from dataclasses import fields
from dataclasses import replace
import json
from pathlib import Path
import sys
from typing import Any

from eva_ros.cli import arguments
from eva_ros.cli import loading
from eva_ros.cli.align_attempts import add_attempts
from eva_ros.cli.align_attempts import dreams_of
from eva_ros.errors import UserError

# What the default reward (executability and motion) does not see, and is known not to.
_KNOWN_BLIND = (
    'shuffled',
    'reversed',
    'wrong_arm',
    'swapped_instruction',
    'blur',
    'wrong_place',
)
_CLIPS = 32


def add_reward(parser: argparse.ArgumentParser) -> None:
    """Declare --preset, --reward and --critic."""
    parser.add_argument(
        '--preset',
        choices=('robot', 'paper'),
        help="executability by the robot's own limits (the default), or the published reward",
    )
    parser.add_argument(
        '--reward',
        nargs='+',
        metavar='TERM=WEIGHT',
        help='terms of the reward: executability, motion, similarity, outcome, progress '
        '(executability=1 motion=1)',
    )
    parser.add_argument(
        '--similarity-tau',
        type=arguments.above_zero,
        metavar='X',
        help='mean squared deviation, in standard deviations of each joint, at which the '
        'similarity is 1/e (2)',
    )
    parser.add_argument('--critic', type=Path, metavar='CKPT', help='critic for the term progress')


def add_accept_blind(parser: argparse.ArgumentParser) -> None:
    """Declare --accept-blind."""
    parser.add_argument(
        '--accept-blind',
        nargs='+',
        metavar='PROBE',
        help='train although the reward fails these probes',
    )


def add_probe(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `eva align probe`."""
    arguments.add_recordings(parser)
    arguments.add_split(parser)
    parser.add_argument('--idm', type=Path, required=True, metavar='CKPT')
    add_reward(parser)
    add_attempts(parser, required=False)
    parser.add_argument(
        '--clips', type=arguments.count, default=64, help='clips per probe (%(default)s)'
    )
    parser.add_argument('--seed', type=arguments.seed, default=0, help='(%(default)s)')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    parser.set_defaults(action=probe)


def add_critic(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `eva align critic`."""
    arguments.add_recordings(parser)
    arguments.add_split(parser)
    parser.add_argument(
        '--out', type=arguments.new_folder, required=True, help='folder of the checkpoint'
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument('--minutes', type=arguments.above_zero, help='wall time')
    budget.add_argument('--steps', type=arguments.count, help='optimizer steps (1500)')
    parser.add_argument('--seed', type=arguments.seed, default=0, help='(%(default)s)')
    parser.add_argument('--no-mirror', action='store_true', help='do not mirror recordings')
    parser.set_defaults(action=critic)


def weights_of(args: argparse.Namespace) -> Any:
    """Return the weights of --reward, or of the preset."""
    from eva_ros.alignment.reward import RewardWeights

    if args.reward is None:
        return RewardWeights(motion=0.0) if args.preset == 'paper' else RewardWeights()
    names = [field.name for field in fields(RewardWeights)]
    weights = dict.fromkeys(names, 0.0)
    for entry in args.reward:
        name, _, text = entry.partition('=')
        if name not in weights:
            raise UserError(
                f'--reward: there is no term {name!r}; choose from {", ".join(names)}.'
            )
        try:
            weights[name] = arguments.zero_or_more(text or '1')
        except argparse.ArgumentTypeError as error:
            raise UserError(f'--reward {entry}: {error}.') from error
    if not any(weights.values()):
        raise UserError('--reward: every weight is zero; give one term a weight above zero.')
    return RewardWeights(**weights)


def accepted(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the probes that the reward may fail.

    Raises:
        UserError: --accept-blind names something else.
    """
    from eva_ros.alignment.probes import PROBES

    if args.accept_blind is None:
        return _KNOWN_BLIND if args.reward is None and args.preset is None else ()
    names = [name for text in args.accept_blind for name in text.split(',') if name]
    unknown = [name for name in names if name not in PROBES]
    if unknown:
        raise UserError(
            f'--accept-blind: there is no probe {unknown[0]!r}; choose from {", ".join(PROBES)}.'
        )
    return tuple(names)


def judge_of(args: argparse.Namespace, robot: Any, view: Any, episodes: list) -> Any:
    """Return the judge with every term that the arguments and recordings permit."""
    import torch

    from eva_ros.alignment.critic import load_critic
    from eva_ros.alignment.judge import Judge
    from eva_ros.alignment.reward import MotionLimits
    from eva_ros.alignment.reward import preset
    from eva_ros.alignment.reward import RewardSettings
    from eva_ros.idm.checkpoint import load_idm
    from eva_ros.idm.data import label_statistics

    weights = weights_of(args)
    if weights.progress and args.critic is None:
        raise UserError(
            'The term progress needs a critic: give --critic (see `eva align critic`).'
        )
    limits, settings = MotionLimits.of(robot.limits, robot.gripper_mask), RewardSettings()
    if args.preset is not None:
        limits, settings = preset(args.preset, robot)
    if args.similarity_tau is not None:
        settings = replace(settings, similarity_tau=args.similarity_tau)
    return Judge(
        load_idm(args.idm, robot, view),
        limits,
        settings,
        weights=weights,
        spread=torch.from_numpy(label_statistics(episodes)[1]),
        critic=None if args.critic is None else load_critic(args.critic, robot, view),
    )


def require(args: argparse.Namespace, judge: Any, prompts: tuple[list, list], robot: Any) -> None:
    """Refuse a reward that fails its probes; say on stderr what the default one is blind to.

    Args:
        args: Arguments of `eva align`.
        judge: Judge of the dreams.
        prompts: Prompts to train on, and held out.
        robot: Robot of the recordings.
    """
    from eva_ros.alignment.probes import failures
    from eva_ros.alignment.probes import probe as probe_reward
    from eva_ros.alignment.probes import require_probes

    train, held_out = prompts
    chosen = held_out if len(held_out) >= _CLIPS else [*held_out, *train]
    used = list(judge.weights.used())
    found = probe_reward(
        judge, chosen, seed=args.seed, most=_CLIPS, arms_are_alike=robot.arms_are_alike
    )
    require_probes(found, used, accepted(args))
    if blind := failures(found, used)[1]:
        print(
            f'eva align: the reward ({", ".join(used)}) is blind to {", ".join(blind)}; '
            'see docs/alignment.md',
            file=sys.stderr,
        )


def probe(args: argparse.Namespace) -> int:
    """Show which spoiled motions each term of the reward tells from recorded ones."""
    from eva_ros.alignment.attempt_probe import probe_attempts
    from eva_ros.alignment.probes import probe as probe_reward
    from eva_ros.alignment.prompts import find_prompts
    from eva_ros.episodes.dataset import load_episodes
    from eva_ros.episodes.dataset import split_episodes

    robot, view, episodes = loading.recordings(args)
    train, held_out = split_episodes(episodes, args.held_out, args.split_seed)
    if not held_out:
        raise UserError('No episode is held out: give more bags, or a larger --held-out.')
    judge = judge_of(args, robot, view, train or held_out)
    prompts = find_prompts(held_out, view.frames, view.rate_hz)
    told: dict[str, Any] = {
        'probes': probe_reward(
            judge,
            prompts,
            seed=args.seed,
            most=args.clips,
            arms_are_alike=robot.arms_are_alike,
        ),
        'attempts': {},
    }
    if args.attempts:
        dreams = dreams_of(args, robot, view)
        attempts = load_episodes(args.attempts, robot, view, args.cache, report=sys.stderr)
        demonstrations = find_prompts(episodes, view.frames, view.rate_hz)
        told['attempts'] = probe_attempts(judge, attempts, demonstrations, view.frames, dreams)
    clips = min(args.clips, len(prompts))
    print(json.dumps(told, allow_nan=False) if args.json else _table(told, clips))
    for task, figure in told['attempts'].items():
        if None in figure['auc'].values():
            print(
                f'eva align probe: {task} has {figure["successes"]} successes in '
                f'{figure["episodes"]} attempts: an AUC needs two of each at least',
                file=sys.stderr,
            )
    return 0


def _table(told: dict[str, Any], clips: int) -> str:
    terms = list(next(iter(told['probes'].values())))
    head = f'{"":22}' + ''.join(f'{term:>15}' for term in terms)

    def row(name: str, aucs: dict[str, float | None]) -> str:
        cells = ('-' if aucs.get(t) is None else f'{aucs[t]:.2f}' for t in terms)
        return f'{name:22}' + ''.join(f'{cell:>15}' for cell in cells)

    lines = [f'AUC, recorded over spoiled, {clips} clips', head]
    lines += [row(name, aucs) for name, aucs in told['probes'].items()]
    if told['attempts']:
        lines += ['AUC for success of recorded attempts', head]
    for task, figure in told['attempts'].items():
        name = f'{task} {figure["successes"]}/{figure["episodes"]}'
        lines.append(row(name, figure['auc']))
        if 'dreams' in figure:
            lines.append(row('  its dreams', figure['dreams']['auc']))
    return '\n'.join(lines)


def critic(args: argparse.Namespace) -> int:
    """Train a progress critic from recordings: which of two frames is later in the task?"""
    from eva_ros.alignment.critic_training import CriticSettings
    from eva_ros.alignment.critic_training import train_critic
    from eva_ros.episodes.dataset import split_episodes
    from eva_ros.observations.mirror import mirror_fault
    from eva_ros.training.manifest import read_manifest
    from eva_ros.training.manifest import World

    robot, view, episodes = loading.recordings(args)
    split = split_episodes(episodes, args.held_out, args.split_seed)
    train, held_out = loading.without_failed(split)
    steps = args.steps if args.minutes else args.steps or 1500
    mirror = not args.no_mirror and not mirror_fault(robot, view)
    settings = CriticSettings(args.seed, steps, args.minutes, mirror=mirror)
    train_critic(
        train,
        args.out,
        settings,
        world=World.of(robot, view),
        held_out=held_out,
        facts={'bags': [bags.name for bags in args.bags], 'episodes': len(train)},
    )
    accuracy = read_manifest(args.out, 'critic').training.get('held_out_accuracy')
    told = '' if accuracy is None else f'; {accuracy:.1%} of held-out pairs in the right order'
    print(f'written to {args.out}{told}')
    return 0
