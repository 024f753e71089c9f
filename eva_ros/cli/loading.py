"""Loads what the arguments of a sub-command name: robot, view and recorded episodes."""

import argparse
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


def demonstrations(
    args: argparse.Namespace, *, quiet: bool = False
) -> 'tuple[Robot, ViewSpec, list[Episode]]':
    """Return robot, view and the episodes of --bags that are not known to have failed.

    For what imitates recordings: what happened in a failed attempt is not what was asked for.

    Raises:
        UserError: As `recordings`, or every episode failed.
    """
    from eva_ros.errors import UserError

    robot, view, episodes = recordings(args, quiet=quiet)
    kept = [episode for episode in episodes if episode.success is not False]
    failed = len(episodes) - len(kept)
    if not kept:
        raise UserError(f'All {failed} episodes in --bags failed: there is nothing to imitate.')
    if failed and not quiet:
        print(
            f'{failed} of {len(episodes)} episodes failed and are left out: they show what was '
            'not asked for.',
            file=sys.stderr,
        )
    return robot, view, kept
