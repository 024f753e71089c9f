"""What may stop `eva align` before its time, and what it keeps on the way."""

import argparse
from pathlib import Path
import sys
from typing import Any

from eva_ros.cli import arguments
from eva_ros.cli import loading
from eva_ros.errors import UserError


def add_checks(parser: argparse.ArgumentParser) -> None:
    """Declare --keep-every and the options of the checks on held-out views."""
    parser.add_argument(
        '--keep-every',
        type=arguments.count,
        metavar='N',
        help='also keep the adapter of every N-th iteration, in the folders LORA-N, LORA-2N, ...',
    )
    parser.add_argument(
        '--check-every',
        type=arguments.count,
        default=25,
        metavar='N',
        help='iterations between checks on held-out views, which may stop the alignment '
        '(%(default)s)',
    )
    parser.add_argument(
        '--motion-band',
        type=arguments.above_zero,
        nargs=2,
        default=(0.5, 2.0),
        metavar=('LEAST', 'MOST'),
        help='stop when the dreams move less or more than this, relative to the recordings '
        '(0.5 2)',
    )
    parser.add_argument(
        '--loss-rise',
        type=arguments.above_zero,
        default=0.25,
        metavar='SHARE',
        help='stop when the data loss on held-out recordings has risen by this share '
        '(%(default)s)',
    )
    parser.add_argument(
        '--second-idm',
        type=Path,
        metavar='CKPT',
        help='direct, grpo: stop when the reward falls by this IDM while it rises by --idm',
    )


def require(args: argparse.Namespace, *, rewarded: bool) -> None:
    """Refuse options that contradict each other or that nothing would read.

    Args:
        args: Arguments of `eva align`.
        rewarded: Whether the algorithm has a reward.
    """
    least, most = args.motion_band
    if not least < 1 < most:
        raise UserError(f'--motion-band {least:g} {most:g} must lie on both sides of 1.')
    if args.second_idm is None:
        return
    if not rewarded:
        raise UserError(
            f'--second-idm compares rewards, and --algorithm {args.algorithm} has none: leave it '
            'out, or choose direct or grpo.'
        )
    if not args.held_out:
        raise UserError('--second-idm looks at held-out views: give a --held-out above 0.')


def checks_of(args: argparse.Namespace, held_out: list, device: Any) -> Any:
    """Return the checks on held-out prompts; None where nothing is held out."""
    from eva_ros.alignment.held_out_checks import CheckSettings
    from eva_ros.alignment.held_out_checks import HeldOutChecks
    from eva_ros.training.launch import process_state

    if not held_out:
        if process_state().is_main_process:
            print('eva align: nothing is held out, so nothing is checked', file=sys.stderr)
        return None
    least, most = args.motion_band
    settings = CheckSettings(
        every=args.check_every, least_motion=least, most_motion=most, loss_rise=args.loss_rise
    )
    second = None if args.second_idm is None else load_second_idm(args).to(device)
    return HeldOutChecks(held_out, settings, second)


def load_second_idm(args: argparse.Namespace) -> Any:
    """Return the inverse dynamics model of --second-idm."""
    from eva_ros.idm.checkpoint import load_idm

    return load_idm(args.second_idm, *loading.robot_and_view(args))
