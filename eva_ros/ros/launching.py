"""What the launch files share. Imported by them alone: it needs `launch` and `launch_ros`."""

from collections.abc import Callable
from collections.abc import Iterable
from pathlib import Path
import tempfile
from typing import Any

from launch.action import Action
from launch.actions import DeclareLaunchArgument
from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from eva_ros.ros.bringup import ARGUMENTS
from eva_ros.ros.bringup import as_text
from eva_ros.ros.bringup import parse
from eva_ros.ros.bringup import plan
from eva_ros.ros.bringup import remarks
from eva_ros.ros.bringup import RESPAWN
from eva_ros.ros.bringup import respawning
from launch import LaunchContext  # type: ignore[attr-defined]
from launch import logging  # type: ignore[attr-defined]

_ARGUMENTS = (*ARGUMENTS, RESPAWN)
_BY_NAME = {argument.name: argument for argument in _ARGUMENTS}


def declared(name: str, **defaults: Any) -> DeclareLaunchArgument:
    """Declare one of the arguments; a keyword of its name replaces its default."""
    argument = _BY_NAME[name]
    default = defaults.get(name, argument.default)
    kept = ' Empty: as the parameter file says.' if argument.sets else ''
    options = {'choices': ['true', 'false', '']} if argument.kind is bool else {}
    return DeclareLaunchArgument(
        name,
        default_value=as_text(default),
        description=f'{argument.description}{kept}',
        **options,
    )


def declared_arguments(nodes: Iterable[str], **defaults: Any) -> list[DeclareLaunchArgument]:
    """Declare every argument that concerns these nodes."""
    return [
        declared(argument.name, **defaults)
        for argument in _ARGUMENTS
        if not argument.sets or any(node in nodes for node, _ in argument.sets)
    ]


def opaque(act: Callable[[LaunchContext, dict[str, Any]], list[Action]]) -> OpaqueFunction:
    """Return an action that is given the values of the arguments, typed, when all are known."""
    return OpaqueFunction(function=lambda context: act(context, _settings(context)))


def start(nodes: Iterable[str]) -> OpaqueFunction:
    """Return an action that starts nodes as the arguments say."""
    return opaque(lambda _context, settings: started(nodes, settings))


def started(nodes: Iterable[str], settings: dict[str, Any]) -> list[Action]:
    """Return the processes of nodes, after a warning for what is not as the user's file says."""
    for sentence in remarks(nodes, settings):
        warn(sentence)
    return [
        Node(
            package='eva_ros',
            executable=process.executable,
            namespace=process.namespace,
            arguments=list(process.arguments),
            output='screen',
            **respawning(settings),
        )
        for process in plan(nodes, settings, run_folder())
    ]


def run_folder() -> Path:
    """Return a new folder among the logs of this launch, for files that its nodes read."""
    return Path(tempfile.mkdtemp(prefix='eva_', dir=logging.launch_config.log_dir))


def warn(sentence: str) -> None:
    """Say something in the log of this launch, which is on the screen too."""
    logging.get_logger('eva_ros').warning(sentence)


def _settings(context: LaunchContext) -> dict[str, Any]:
    given = context.launch_configurations
    return {
        name: parse(argument, LaunchConfiguration(name).perform(context))
        for name, argument in _BY_NAME.items()
        if name in given
    }
