"""`eva world-model`: train and evaluate the world model, and show its dreams."""

import argparse
import json
import math
from pathlib import Path
import sys
from typing import Any

from eva_ros.cli import arguments
from eva_ros.cli import loading
from eva_ros.errors import UserError

HELP = 'train, evaluate or show the world model'

DONE, FINDINGS = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare train, text, evaluate, info and show."""
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    train = actions.add_parser('train', help='train on recorded bags; resumes an unfinished run')
    _data(train)
    train.add_argument(
        '--out', type=arguments.new_folder, required=True, help='folder of the checkpoint'
    )
    train.add_argument(
        '--steps', type=arguments.count, default=5000, help='optimizer steps (5000)'
    )
    train.add_argument(
        '--batch', type=arguments.count, help='clips per step (8, for an adapter 1)'
    )
    train.add_argument(
        '--learning-rate',
        type=arguments.above_zero,
        help='of AdamW (1.2e-3, with --from 3e-4, for a new history 2e-3, for an adapter 1e-4)',
    )
    train.add_argument('--width', type=arguments.count, help='features per token (256)')
    train.add_argument('--layers', type=arguments.count, help='transformer blocks (8)')
    train.add_argument(
        '--minutes', type=arguments.above_zero, help='time after which to stop with a checkpoint'
    )
    arguments.add_processes(train, 2)
    train.add_argument(
        '--compile', action='store_true', help='compile the model, for long training on a GPU'
    )
    train.add_argument(
        '--no-mirror',
        action='store_true',
        help="do not mirror recordings (never done without the robot YAML's mirror_signs)",
    )
    train.add_argument(
        '--from',
        dest='base',
        type=Path,
        metavar='CKPT',
        help='fine-tune this checkpoint: a small one whole, a Wan one by an adapter in --out',
    )
    train.add_argument(
        '--lora',
        type=arguments.count,
        metavar='RANK',
        help='rank of the adapter of a Wan checkpoint',
    )
    train.add_argument(
        '--history',
        type=arguments.count,
        metavar='FRAMES',
        help="frames before the first that dreams of moving arms start from (the checkpoint's); "
        'where a small one has none, only the weights that read them learn',
    )
    train.add_argument(
        '--dream-steps',
        type=arguments.count,
        metavar='N',
        help="denoising steps of an ordinary dream (the checkpoint's, else 4)",
    )
    train.add_argument(
        '--text-encoder',
        type=Path,
        metavar='FOLDER',
        help='read the instructions with this encoder of transformers, frozen (words of its own)',
    )
    train.add_argument('--name', help="name of the checkpoint (the robot's and _small)")
    train.set_defaults(action_run='train')
    text = actions.add_parser(
        'text', help="make an encoder that reads the simulator's tasks, by text alone"
    )
    text.add_argument(
        '--from',
        dest='base',
        type=Path,
        required=True,
        metavar='CKPT',
        help='small world model that it is for; nothing else of it changes',
    )
    text.add_argument(
        '--out',
        type=arguments.new_folder,
        required=True,
        help='folder of the world model with the encoder',
    )
    text.add_argument('--steps', type=arguments.count, default=4600, help='optimizer steps (4600)')
    text.add_argument(
        '--seed', type=arguments.seed, default=0, help='seed of weights and sentences'
    )
    evaluate = actions.add_parser('evaluate', help='evaluate a checkpoint on held-out bags')
    _data(evaluate)
    _checkpoint(evaluate)
    evaluate.add_argument(
        '--clips', type=arguments.count, default=96, help='number of clips to dream (96)'
    )
    evaluate.add_argument(
        '--idm',
        type=Path,
        help='also decode the dreams with this IDM (the shipped one for the shipped model)',
    )
    evaluate.add_argument(
        '--training-bags',
        type=Path,
        nargs='+',
        metavar='DIR',
        help='where the nearest clip is looked up, a baseline (other attempts in --bags)',
    )
    evaluate.add_argument(
        '--save-videos',
        type=arguments.new_folder,
        metavar='DIR',
        help='write an mp4 of each dream beside its recording, and a contact sheet',
    )
    evaluate.add_argument(
        '--in-motion',
        action='store_true',
        help='dream from views in which the arms move, with the frames before (from rest)',
    )
    evaluate.add_argument('--json', action='store_true', help='print one JSON object')
    info = actions.add_parser(
        'info', help='say what a checkpoint holds, the memory it needs and whether it fits'
    )
    info.add_argument('checkpoint', type=Path, metavar='CKPT', help='folder of the checkpoint')
    info.add_argument('--robot', help='robot that it has to fit: a name or a YAML file')
    info.add_argument(
        '--view', help="view that it has to fit: a name or a YAML file (the robot's)"
    )
    info.add_argument('--json', action='store_true', help='print one JSON object')
    show = actions.add_parser('show', help='write a picture of recorded and dreamed frames')
    _data(show)
    _checkpoint(show)
    show.add_argument('--clips', type=arguments.count, default=6, help='number of dreams (6)')
    show.add_argument(
        '--out', type=arguments.new_file, required=True, help='picture to write (.png or .jpg)'
    )


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    actions = {
        'train': _train,
        'text': _text,
        'evaluate': _evaluate,
        'info': _info,
        'show': _show,
    }
    return actions[args.action](args)


def _data(parser: argparse.ArgumentParser) -> None:
    arguments.add_recordings(parser)
    parser.add_argument(
        '--seed', type=arguments.seed, default=0, help='seed of weights, clips and noise'
    )


def _checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--world-model', type=Path, help='checkpoint (the shipped one)')
    parser.add_argument('--lora', type=Path, help='adapter from eva align')
    parser.add_argument('--steps', type=arguments.count, help="denoising steps (the checkpoint's)")


def _model(args: argparse.Namespace, robot, view):
    from eva_ros.resources import resource
    from eva_ros.world_model.checkpoint import load_world_model

    folder = args.world_model or resource('models', 'world_model')
    return load_world_model(folder, lora=args.lora, robot=robot, view=view).for_dreaming()


def _train(args: argparse.Namespace) -> int:
    from eva_ros.observations.views import require_dreamable
    from eva_ros.training.launch import launch
    from eva_ros.world_model import training_run

    _check_base(args)
    if args.lora is None:
        require_dreamable(loading.robot_and_view(args)[1])
    robot, view, episodes = loading.recordings(args)
    [episodes] = loading.without_failed([episodes])
    if args.lora is None:
        training_run.check(episodes, robot, view, args.out, _options(args, robot, view))
    else:
        from eva_ros.world_model import fine_tuning

        fine_tuning.check(args.base, episodes, view, _adapter_settings(args, robot, view))
    # A step of one clip cannot be shared.
    alone = args.lora is not None and args.batch is None
    launch(1 if alone else args.processes, _train_member, args)
    return 0


def _check_base(args: argparse.Namespace) -> None:
    """Refuse options that do not go with what the training starts from."""
    from eva_ros.world_model.folder import read_folder
    from eva_ros.world_model.folder import SMALL

    if args.base is None:
        if args.lora is not None:
            raise UserError('An adapter needs a checkpoint that it is for: give --from CKPT too.')
        return
    for name in ('width', 'layers', 'text_encoder'):
        if getattr(args, name) is not None:
            option = name.replace('_', '-')
            raise UserError(
                f'{args.base} keeps its own {name.replace("_", " ")}: leave out --{option}.'
            )
    small = read_folder(args.base).family == SMALL
    if not small and args.lora is None:
        raise UserError(
            f'{args.base} is a Wan checkpoint, which learns by an adapter: give --lora RANK.'
        )


def _train_member(args: argparse.Namespace) -> None:
    """Train in one of the processes."""
    from eva_ros.training.launch import process_state
    from eva_ros.world_model import training_run

    robot, view, episodes = loading.recordings(args, quiet=True)
    [episodes] = loading.without_failed([episodes], quiet=True)
    if args.lora is None:
        options = _options(args, robot, view)
        done = training_run.train(episodes, robot, view, args.out, options)
    else:
        from eva_ros.world_model import fine_tuning

        settings = _adapter_settings(args, robot, view)
        limit = args.minutes * 60 if args.minutes else math.inf
        done = fine_tuning.fine_tune(
            args.base, episodes, robot, view, args.out, settings, max_seconds=limit
        )
    if process_state().is_main_process:
        print(f'written to {args.out}')
        if not done:
            print('stopped before the last step: run the same command to resume', file=sys.stderr)


def _text(args: argparse.Namespace) -> int:
    from eva_ros.cli import world_model_text

    return world_model_text.run(args)


def _mirror(args: argparse.Namespace, robot: Any, view: Any) -> bool:
    from eva_ros.observations.mirror import mirror_fault

    return not args.no_mirror and not mirror_fault(robot, view)


def _options(args: argparse.Namespace, robot: Any, view: Any):
    from eva_ros.world_model.training_run import RunOptions
    from eva_ros.world_model.training_run import usual_learning_rate

    rate = args.learning_rate or usual_learning_rate(args.base, args.history)
    return RunOptions(
        name=args.name or f'{robot.name}_small',
        steps=args.steps,
        batch=args.batch or 8,
        learning_rate=rate,
        width=args.width or 256,
        layers=args.layers or 8,
        seed=args.seed,
        mirror=_mirror(args, robot, view),
        max_seconds=args.minutes * 60 if args.minutes else None,
        compiled=args.compile,
        text_encoder=args.text_encoder,
        base=args.base,
        history=args.history,
        dream_steps=args.dream_steps,
    )


def _adapter_settings(args: argparse.Namespace, robot: Any, view: Any):
    from eva_ros.world_model.fine_tuning import FineTuneSettings

    return FineTuneSettings(
        steps=args.steps,
        rank=args.lora,
        batch=args.batch or 1,
        learning_rate=args.learning_rate or 1e-4,
        history=args.history,
        seed=args.seed,
        mirror=_mirror(args, robot, view),
    )


def _evaluate(args: argparse.Namespace) -> int:
    from eva_ros.evaluation import dreams
    from eva_ros.evaluation.dream_sheet import DreamSheet

    robot, view, episodes = loading.recordings(args)
    sheet = None if args.save_videos is None else DreamSheet(args.save_videos)
    result = dreams.judge(
        _model(args, robot, view),
        episodes,
        robot,
        _idm(args, robot, view),
        count=args.clips,
        seed=args.seed,
        steps=args.steps,
        training=_training_episodes(args, robot, view),
        moving=args.in_motion,
        **({'keep': sheet.add} if sheet else {}),
    )
    print(json.dumps(result) if args.json else dreams.table(result))
    if sheet is not None:
        print(f'wrote {sheet.write(result)}', file=sys.stderr)
    return 0


def _idm(args: argparse.Namespace, robot: Any, view: Any) -> Any:
    """Return the IDM that decodes the dreams, or None."""
    from eva_ros.idm.checkpoint import load_idm
    from eva_ros.resources import resource

    folder = args.idm
    if folder is None and args.world_model is None:
        folder = resource('models', 'idm')
    return None if folder is None else load_idm(folder, robot=robot, view=view)


def _training_episodes(args: argparse.Namespace, robot: Any, view: Any) -> list:
    from eva_ros.episodes.dataset import load_episodes

    if args.training_bags is None:
        return []
    return load_episodes(args.training_bags, robot, view, args.cache)


def _info(args: argparse.Namespace) -> int:
    from rich.console import Console

    from eva_ros.world_model.info import info
    from eva_ros.world_model.info import table

    robot = view = None
    if args.robot is not None:
        robot, view = loading.robot_and_view(args)
    elif args.view is not None:
        from eva_ros.observations.views import load_view

        view = load_view(args.view)
    about = info(args.checkpoint, robot, view)
    code = FINDINGS if about['fits'] is False else DONE
    if args.json:
        print(json.dumps(about))
        return code
    Console().print(table(about))
    verdict = {
        True: 'It fits.',
        False: 'It does not fit:',
        None: 'Give --robot to see if it fits.',
    }
    print(verdict[about['fits']], *about['reasons'], sep='\n  ')
    return code


def _show(args: argparse.Namespace) -> int:
    from eva_ros.evaluation import dreams

    robot, view, episodes = loading.recordings(args)
    dreams.picture(
        _model(args, robot, view),
        episodes,
        args.out,
        count=args.clips,
        seed=args.seed,
        steps=args.steps,
    )
    print(f'wrote {args.out}', file=sys.stderr)
    return 0
