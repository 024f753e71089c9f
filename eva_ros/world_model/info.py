"""`eva world-model info`: what a folder holds and needs, before anything of it is loaded."""

from pathlib import Path
from typing import Any

from rich.table import Table

from eva_ros.errors import UserError
from eva_ros.training.manifest import require_world
from eva_ros.training.manifest import World
from eva_ros.world_model.checkpoint import placement_of
from eva_ros.world_model.checkpoint import settings_of
from eva_ros.world_model.folder import Part
from eva_ros.world_model.folder import read_folder
from eva_ros.world_model.folder import SMALL
from eva_ros.world_model.folder import WorldModelFolder
from eva_ros.world_model.memory import choose_placement
from eva_ros.world_model.memory import dream_size
from eva_ros.world_model.memory import needed_bytes
from eva_ros.world_model.memory import Placement
from eva_ros.world_model.rollout import WorldSettings

_DTYPES = {
    'F64': 'float64',
    'F32': 'float32',
    'F16': 'float16',
    'BF16': 'bfloat16',
    'F8_E4M3': 'float8_e4m3fn',
    'F8_E5M2': 'float8_e5m2',
}
_GIB = 1024**3


def info(folder: Path, robot=None, view=None) -> dict[str, Any]:
    """Describe a world model from its JSON files and safetensors headers.

    Args:
        folder: Checkpoint of any family.
        robot: Robot that it shall drive.
        view: ViewSpec of the robot's cameras.

    Returns:
        family, parts, frames, height, width, memory_bytes, fits (None where neither a robot nor a
        checkpoint of eva says what for) and the reasons why it does not.

    Raises:
        UserError: The folder is not a whole world model.
    """
    holds = read_folder(folder)
    settings, placement = settings_of(holds, view), placement_of(holds)
    size = dream_size(holds, settings)
    reasons = _reasons(holds, settings, placement, World.of(robot, view))
    known = robot is not None or view is not None or holds.manifest is not None
    return {
        'family': holds.family,
        'parts': {name: _part(part) for name, part in holds.parts.items()},
        'frames': settings.frames,
        'height': settings.height,
        'width': settings.width,
        'memory_bytes': needed_bytes(holds, *size, _fitting(holds, size, placement)),
        'fits': False if reasons else True if known else None,
        'reasons': reasons,
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        'class': part.class_name,
        'parameters': part.parameters,
        'dtype': _DTYPES.get(part.dtype, part.dtype),
        'bytes': part.bytes,
    }


def _fitting(
    holds: WorldModelFolder, size: tuple[int, int, int], placement: Placement | None
) -> Placement:
    """Return how the weights would be held; as they are where nothing fits."""
    try:
        return choose_placement(holds, *size, placement)
    except UserError:
        return placement or Placement()


def _reasons(
    holds: WorldModelFolder,
    settings: WorldSettings,
    placement: Placement | None,
    wanted: World,
) -> list[str]:
    """Return why this checkpoint does not fit this robot and machine, a sentence each."""
    reasons = []
    try:
        if holds.manifest is not None:
            require_world(holds.path, holds.manifest, wanted)
    except UserError as error:
        reasons.append(str(error))
    try:
        if holds.family != SMALL:
            from eva_ros.world_model.wan_checkpoint import require_view

            require_view(holds, settings)
    except UserError as error:
        reasons.append(str(error))
    try:
        choose_placement(holds, *dream_size(holds, settings), placement)
    except UserError as error:
        reasons.append(str(error))
    return reasons


def table(about: dict[str, Any]) -> Table:
    """Return what `info` found, for a terminal."""
    found = Table(title=f'{about["family"]}, {about["frames"]} frames of '
                  f'{about["height"]}x{about["width"]}')  # fmt: skip
    for heading in ('part', 'class', 'parameters', 'dtype', 'GiB'):
        found.add_column(heading, justify='left' if heading in ('part', 'class') else 'right')
    for name, part in about['parts'].items():
        gib = f'{part["bytes"] / _GIB:.2f}'
        found.add_row(name, part['class'], f'{part["parameters"]:,}', part['dtype'], gib)
    found.add_section()
    for use, size in about['memory_bytes'].items():
        found.add_row(f'memory, {use}', 'computed', '', '', f'{size / _GIB:.2f}')
    return found
