"""Loads what the arguments of a sub-command name: robot, view and recorded episodes."""

import argparse
from collections.abc import Sequence
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eva_ros.episodes.dataset import Episode
    from eva_ros.observations.views import ViewSpec
    from eva_ros.robot.spec import Robot


def robot_and_view(args: argparse.Namespace) -> 'tuple[Robot, ViewSpec]':
    """Return the robot and the view of --robot and --view."""
    from eva_ros.observations.views import view_of
    from eva_ros.robot.spec import load_robot

    robot = load_robot(args.robot)
    return robot, view_of(robot, args.view)


def recordings(
    args: argparse.Namespace, *, quiet: bool = False
) -> 'tuple[Robot, ViewSpec, list[Episode]]':
    """Return robot, view and the episodes of --bags, with a report on stderr.

    Raises:
        UserError: the robot is not described well enough to train on its joints, or the bags hold
            no episode.
    """
    from eva_ros.episodes.dataset import load_episodes

    robot, view = robot_and_view(args)
    robot.require('training')
    report = None if quiet else sys.stderr
    return robot, view, load_episodes(args.bags, robot, view, args.cache, report=report)


def without_failed(
    parts: 'Sequence[list[Episode]]', *, quiet: bool = False
) -> 'list[list[Episode]]':
    """Return the parts of a split without failed episodes, and say on stderr how many there were.

    For what imitates recordings. All episodes are split first, so that the same ones are held out
    from every model.

    Raises:
        UserError: There are episodes, and all of them failed.
    """
    from eva_ros.errors import UserError

    kept = [[episode for episode in part if episode.success is not False] for part in parts]
    count = sum(map(len, parts))
    failed = count - sum(map(len, kept))
    if count and failed == count:
        raise UserError(f'All {failed} episodes in --bags failed: there is nothing to imitate.')
    if failed and not quiet:
        print(
            f'{failed} of {count} episodes failed and are left out: they do not show the task '
            'that was asked for.',
            file=sys.stderr,
        )
    return kept
