"""`eva idm`: train and evaluate the inverse dynamics model."""

import argparse
from collections.abc import Callable
import json
from pathlib import Path
import platform
import sys
from typing import Any

from eva_ros.cli import arguments
from eva_ros.cli import loading
from eva_ros.errors import UserError

HELP = 'train or evaluate the inverse dynamics model (frames to joint positions)'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eva idm train` and `eva idm evaluate`."""
    commands = parser.add_subparsers(metavar='train | evaluate', required=True)
    _add_train(commands.add_parser('train', help=_train.__doc__))
    _add_evaluate(commands.add_parser('evaluate', help=_evaluate.__doc__))


def _add_data(parser: argparse.ArgumentParser) -> None:
    arguments.add_recordings(parser)
    arguments.add_split(parser)


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_data(parser)
    parser.add_argument('--out', type=arguments.new_folder, required=True,
                        help='folder of the checkpoint; an unfinished run is resumed')  # fmt: skip
    parser.add_argument('--from', type=Path, dest='start', metavar='CKPT',
                        help='begin with the weights of this checkpoint')  # fmt: skip
    parser.add_argument('--world-model', type=Path, metavar='CKPT',
                        help='also train on clips encoded and decoded by its codec')  # fmt: skip
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument('--minutes', type=arguments.above_zero, help='of wall time')
    budget.add_argument('--steps', type=arguments.count, help='optimizer steps')
    parser.add_argument('--seed', type=arguments.seed, default=0, help='(%(default)s)')
    parser.add_argument(
        '--batch', type=arguments.count, default=16, metavar='CLIPS', help='(%(default)s)'
    )
    parser.add_argument('--learning-rate', type=arguments.above_zero, metavar='R')
    arguments.add_processes(parser, 1)
    parser.add_argument('--stride', type=arguments.count,
                        help="stride of the three input frames (--from's, else 1)")  # fmt: skip
    parser.add_argument('--backbone', type=Path, metavar='FOLDER',
                        help='image backbone of transformers to look with, from a local folder '
                        'with safetensors')  # fmt: skip
    parser.add_argument('--freeze-backbone', action='store_true',
                        help='keep its weights (default: fine-tune them)')  # fmt: skip
    parser.add_argument('--stack-frames', action='store_true',
                        help='look at the three input frames together, instead of joining them '
                        'late')  # fmt: skip
    parser.add_argument('--mirror', action='store_true',
                        help="also train on mirrored recordings (needs the robot YAML's "
                        'mirror_signs)')  # fmt: skip
    parser.set_defaults(action=_train)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--checkpoint', type=Path, required=True, metavar='CKPT')
    _add_data(parser)
    parser.add_argument('--all', action='store_true',
                        help='use every episode, not only those held out')  # fmt: skip
    parser.add_argument('--world-model', type=Path, metavar='CKPT',
                        help='first encode and decode the frames with its codec, and see '
                        'what the confidence says of its dreams')  # fmt: skip
    parser.add_argument('--clips', type=arguments.count, default=48,
                        help='clips to dream with --world-model (%(default)s)')  # fmt: skip
    parser.add_argument(
        '--seed', type=arguments.seed, default=0, help='seed of intervals and dreams (%(default)s)'
    )
    parser.add_argument('--training-bags', type=Path, nargs='+', metavar='DIR',
                        help='where the most similar frame is looked up, a baseline')  # fmt: skip
    parser.add_argument('--replay', action='store_true',
                        help='also let the simulated arms follow the recorded videos, read by '
                        'the IDM (bags of `eva sim record`)')  # fmt: skip
    parser.add_argument('--workers', type=arguments.count, default=2,
                        help='processes that replay (%(default)s)')  # fmt: skip
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    parser.set_defaults(action=_evaluate)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    return args.action(args)


def _train(args: argparse.Namespace) -> int:
    """Train an inverse dynamics model from recorded episodes, failed ones included."""
    if args.freeze_backbone and args.backbone is None:
        raise UserError('--freeze-backbone needs --backbone FOLDER.')
    from eva_ros.training.launch import launch

    launch(args.processes, _train_member, args)
    return 0


def _train_member(args: argparse.Namespace) -> None:
    """Train in one of the processes."""
    from eva_ros.episodes.dataset import mirrored_episodes
    from eva_ros.idm.backbones import read_backbone
    from eva_ros.idm.config import IdmConfig
    from eva_ros.idm.train import train
    from eva_ros.idm.train import TrainSettings
    from eva_ros.training.launch import process_state
    from eva_ros.training.manifest import view_fingerprint
    from eva_ros.training.weights import checkpoint_label

    robot, view, (training, held_out) = _load(args)
    backbone = None if args.backbone is None else read_backbone(args.backbone)
    settings = TrainSettings(
        freeze_backbone=args.freeze_backbone,
        seed=args.seed,
        steps=args.steps,
        minutes=args.minutes,
        batch_clips=args.batch,
        **({'learning_rate': args.learning_rate} if args.learning_rate else {}),
    )
    facts = {
        'bags': [bags.name for bags in args.bags],
        'held_out': {'episodes': len(held_out), 'share': args.held_out, 'seed': args.split_seed},
        'codec': args.world_model.name if args.world_model else None,
        'mirrored': args.mirror,
        'backbone': args.backbone.name if args.backbone else None,
        'hardware': _hardware(),
    }
    if args.mirror:
        training = [*training, *mirrored_episodes(training, robot, view)]
    corruptions = [_codec_round_trip(args.world_model)] if args.world_model else []
    start = _start(args, robot, view)
    if start:
        facts['from'] = checkpoint_label(args.start)
    train(
        start.config
        if start
        else IdmConfig.of(
            robot,
            view,
            stride=args.stride or 1,
            stacked=args.stack_frames,
            backbone=backbone.spec if backbone else None,
        ),
        training,
        args.out,
        settings,
        corruptions=corruptions,
        fingertips=_fingertips(robot),
        backbone=backbone,
        facts=facts,
        view_hash=view_fingerprint(view),
        start=start,
    )
    if process_state().is_main_process:
        print(f'written to {args.out}')


def _start(args: argparse.Namespace, robot: Any, view: Any) -> Any:
    """Return the model of --from; None where there is none."""
    from eva_ros.idm.checkpoint import load_idm

    if args.start is None:
        return None
    if args.backbone or args.stack_frames:
        raise UserError(
            '--from keeps the shape of its model: leave --backbone and --stack-frames out.'
        )
    start = load_idm(args.start, robot, view)
    if args.stride not in (None, start.config.stride):
        raise UserError(
            f'{args.start} has a stride of {start.config.stride}: leave --stride out, or train '
            'without --from.'
        )
    return start


def _evaluate(args: argparse.Namespace) -> int:
    """Measure a checkpoint on held-out episodes."""
    from eva_ros.evaluation import reading_figures
    from eva_ros.idm.checkpoint import load_idm
    from eva_ros.idm.evaluate import evaluate

    robot, view, (training, held_out) = _load(args)
    model = load_idm(args.checkpoint, robot, view)
    episodes = [*training, *held_out] if args.all else held_out
    jobs = _replay_jobs(args, robot, episodes) if args.replay else []
    treatment = _treatment(args.world_model) if args.world_model else None
    nearest = _nearest(args, robot, view)
    figures = evaluate(model, episodes, _fingertips(robot), treatment, nearest)
    summary = reading_figures.summary(figures, robot, args.seed)
    summary['calibration'] = _calibration(args, robot, view, model, episodes, treatment)
    text = reading_figures.table(summary, robot)
    if jobs:
        from eva_ros.evaluation import replay

        summary['replay'] = replay.summary(list(replay.replays(jobs, args.workers)))
        text += '\n\n' + replay.table(summary['replay'])
    print(json.dumps(summary) if args.json else text)
    return 0


def _nearest(args: argparse.Namespace, robot: Any, view: Any) -> Any:
    """Return the frames of --training-bags; None where there are none."""
    from eva_ros.episodes.dataset import load_episodes
    from eva_ros.idm.evaluate import NearestFrames

    if args.training_bags is None:
        return None
    return NearestFrames(load_episodes(args.training_bags, robot, view, args.cache))


def _calibration(
    args: argparse.Namespace,
    robot: Any,
    view: Any,
    model: Any,
    episodes: list,
    treatment: Callable | None,
) -> dict[str, Any]:
    """Return what the stated uncertainty is worth on recordings, and on dreams if there are."""
    from eva_ros.evaluation import calibration

    clips = calibration.recorded_clips(model, episodes, view.frames, treatment)
    found = {'recordings': calibration.summary(list(clips))}
    if args.world_model is not None:
        from eva_ros.world_model.checkpoint import load_world_model

        dreamer = load_world_model(args.world_model, robot=robot, view=view)
        dreams = calibration.dreamed_clips(model, dreamer, episodes, args.clips, args.seed)
        found['dreams'] = calibration.summary(list(dreams))
    return found


def _replay_jobs(args: argparse.Namespace, robot: Any, episodes: list) -> list:
    """Return the episodes that the expert solved, to be replayed in their scenes."""
    from eva_ros.cli.sim_recording import recorded_scene
    from eva_ros.evaluation.replay import Job
    from eva_ros.evaluation.replay import Recording
    from eva_ros.robot.paths import SIM_ROBOT

    if robot.name != SIM_ROBOT:
        raise UserError(
            f'--replay needs the simulated robot {SIM_ROBOT}, not {robot.name}: leave it out.'
        )
    solved = [episode for episode in episodes if episode.success]
    if not solved:
        raise UserError('--replay needs episodes that the expert solved: there are none.')
    return [
        Job(args.checkpoint, args.robot, args.view,
            Recording(episode, recorded_scene(Path(episode.source))))
        for episode in solved
    ]  # fmt: skip


def _load(args: argparse.Namespace) -> tuple[Any, Any, tuple[list, list]]:
    from eva_ros.episodes.dataset import split_episodes

    robot, view, episodes = loading.recordings(args)
    training, held_out = split_episodes(episodes, args.held_out, args.split_seed)
    print(f'eva idm: {len(training)} episodes, {len(held_out)} held out', file=sys.stderr)
    return robot, view, (training, held_out)


def _fingertips(robot: Any) -> Callable | None:
    """Return a function from joints [N, J] to fingertips [N, arms, 3], m; None if unknown."""
    if not robot.has_end_effectors:
        return None
    import numpy as np

    from eva_ros.robot.kinematics import ForwardKinematics

    kinematics = ForwardKinematics(robot)

    def fingertips(joints: Any) -> Any:
        found = kinematics.end_effector(np.asarray(joints, dtype=np.float64))
        return np.stack(list(found.values()), axis=-2)

    return fingertips


def _codec_round_trip(folder: Path) -> Callable:
    """Return a function that encodes and decodes clips with a world model's codec."""
    from eva_ros.training.finite import require_finite
    from eva_ros.world_model.checkpoint import load_world_model
    from eva_ros.world_model.folder import read_folder
    from eva_ros.world_model.folder import SMALL

    family = read_folder(folder).family
    if family != SMALL:
        raise UserError(
            f'{folder} is a {family} model, whose codec is too slow to train an IDM with: give a '
            'small world model, or leave out --world-model.'
        )
    codec = load_world_model(folder).codec

    def round_trip(clips: Any) -> Any:
        seen = codec.decode(codec.encode_changes(clips), clips[:, 0])
        require_finite({'frames': seen}, f'The codec in {folder}', 'train its world model again')
        return seen.clamp(0, 1)

    return round_trip


def _treatment(folder: Path) -> Callable:
    import numpy as np

    from eva_ros.training.frames import frames_to_tensor
    from eva_ros.world_model.rollout import to_uint8

    corrupt = _codec_round_trip(folder)

    def treat(frames: Any) -> Any:
        # The codec takes clips of 17 frames that share their last with the next clip's first.
        parts = [frames[start : start + 17] for start in range(0, len(frames) - 1, 16)]
        whole: list[Any] = []
        for part in parts:
            missing = -(len(part) - 1) % 4
            padded = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
            seen = corrupt(frames_to_tensor(padded)[None])[0, : len(part)]
            pixels = to_uint8(seen)
            whole.append(pixels if not whole else pixels[1:])
        return np.concatenate(whole)

    return treat


def _hardware() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'{platform.machine()} CPU, {torch.get_num_threads()} threads'
