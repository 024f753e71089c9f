"""Argument types shared by the sub-commands; each rejects bad values with one sentence."""

from argparse import ArgumentParser
from argparse import ArgumentTypeError
import math
import os
from pathlib import Path

from eva_ros.errors import UserError
from eva_ros.interchange.rates import is_rate
from eva_ros.interchange.rates import NO_RATE
from eva_ros.robot.paths import SIM_ROBOT
from eva_ros.sim.scenes import CLEAN
from eva_ros.sim.scenes import parse_scenes
from eva_ros.sim.scenes import Scenes


def add_robot(parser: ArgumentParser, *, view: bool = True) -> None:
    """Declare --robot, and --view where frames are read."""
    parser.add_argument(
        '--robot', default=SIM_ROBOT, help='robot: a name or a YAML file (%(default)s)'
    )
    if view:
        parser.add_argument(
            '--view', help="view: a name or a YAML file (the robot's, else its cameras in a row)"
        )


def add_recordings(parser: ArgumentParser, *, required: bool = True) -> None:
    """Declare --bags, --robot, --view and --cache."""
    parser.add_argument(
        '--bags',
        type=Path,
        nargs='+',
        required=required,
        metavar='DIR',
        help='folders of recorded episodes',
    )
    add_robot(parser)
    parser.add_argument('--cache', type=new_folder, help='folder for the decoded episodes')


def add_split(parser: ArgumentParser) -> None:
    """Declare --held-out and --split-seed."""
    parser.add_argument(
        '--held-out',
        type=share,
        default=0.1,
        metavar='SHARE',
        help='share of the episodes to hold out (%(default)s)',
    )
    parser.add_argument(
        '--split-seed',
        type=seed,
        default=0,
        metavar='S',
        help='seed that selects the held-out episodes (%(default)s)',
    )


def count(text: str) -> int:
    """Return a whole number above zero."""
    return _whole(text, 1, 'a whole number above zero')


def seed(text: str) -> int:
    """Return a whole number from zero to 2**32 - 1, the range of all random generators."""
    number = _whole(text, 0, 'a whole number, zero or above')
    if number >= 2**32:
        raise ArgumentTypeError(f"'{text}' is too large for a seed: give one below 2**32")
    return number


def scenes(text: str) -> Scenes:
    """Return scenes: clean, randomised or randomised:LEVEL."""
    try:
        return parse_scenes(text)
    except UserError as error:
        raise ArgumentTypeError(str(error)) from error


def add_scenes(parser: ArgumentParser) -> None:
    """Add the choice of scenes of the simulated robot."""
    parser.add_argument(
        '--scenes',
        type=scenes,
        default=CLEAN,
        metavar='clean|randomised[:LEVEL]',
        help='clean scenes, or light, colours, distractor objects, camera poses and start poses '
        'drawn at random, up to LEVEL 1 (clean)',
    )


def above_zero(text: str) -> float:
    """Return a number above zero."""
    number = _finite(text)
    if number <= 0:
        raise ArgumentTypeError(f"'{text}' is not a number above zero")
    return number


def rate_hz(text: str) -> float:
    """Return a plausible recording rate of cameras and joints."""
    number = _finite(text)
    if not is_rate(number):
        raise ArgumentTypeError(f"'{text}' {NO_RATE}")
    return number


def zero_or_more(text: str) -> float:
    """Return a number that is not negative."""
    number = _finite(text)
    if number < 0:
        raise ArgumentTypeError(f"'{text}' is negative: give zero or more")
    return number


def share(text: str) -> float:
    """Return a number from 0 to 1."""
    number = _finite(text)
    if not 0 <= number <= 1:
        raise ArgumentTypeError(f"'{text}' is not between 0 and 1")
    return number


def new_folder(text: str) -> Path:
    """Return the path of a folder that exists and is writable, or can be created."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise ArgumentTypeError(f'{path} is a file: give a folder')
    _check_writable(path)
    return path


def named_folder(text: str) -> tuple[str, Path]:
    """Return the name and the folder of NAME=FOLDER."""
    name, _, folder = text.partition('=')
    if not name or not folder:
        raise ArgumentTypeError(f"'{text}' is not NAME=FOLDER")
    return name, Path(folder)


def new_file(text: str) -> Path:
    """Return the path of a file that can be written, in a folder that may not exist yet."""
    path = Path(text)
    if path.is_dir():
        raise ArgumentTypeError(f'{path} is a folder: give a file')
    _check_writable(path)
    return path


def add_processes(parser: ArgumentParser, default: int) -> None:
    """Add --processes, of a training."""
    parser.add_argument('--processes', type=count, default=default, metavar='N',
                        help='processes that share each step on a CPU (%(default)s); use '
                        '`accelerate launch` for several GPUs or machines')  # fmt: skip


def _check_writable(path: Path) -> None:
    """Reject a path that can neither be written to nor created."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if there != path and not there.is_dir():
        raise ArgumentTypeError(f'{path} cannot be created: {there} is a file')
    if not os.access(there, os.W_OK):
        raise ArgumentTypeError(f'{there} is not writable')


def _whole(text: str, least: int, what: str) -> int:
    try:
        number = int(text)
    except ValueError as error:
        raise ArgumentTypeError(f"'{text}' is not {what}") from error
    if number < least:
        raise ArgumentTypeError(f"'{text}' is not {what}")
    return number


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise ArgumentTypeError(f"'{text}' is not a number") from error
    if not math.isfinite(number):
        raise ArgumentTypeError(f"'{text}' is not finite")
    return number
