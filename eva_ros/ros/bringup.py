"""Which nodes make up the system and how they are set: for `ros2 launch` and `eva up` alike.

Needs no ROS: it says what is to be started, and somebody else starts it.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import difflib
from pathlib import Path
from typing import Any

import yaml

from eva_ros.errors import UserError
from eva_ros.robot.paths import config_dir
from eva_ros.robot.paths import find_config
from eva_ros.ros import topics
from eva_ros.ros.parameter_files import EVERY_NODE
from eva_ros.ros.parameter_files import given
from eva_ros.ros.parameter_files import read_parameter_file
from eva_ros.ros.parameter_files import Section

STACK = (
    topics.CAMERA_INGEST,
    topics.ROLLOUT_GENERATOR,
    topics.ACTION_DECODER,
    topics.ARM_TRAJECTORY_PUBLISHER,
    topics.TASK_EXECUTOR,
    topics.TRAJECTORY_INSPECTOR,
)
NODES = (topics.SIM_ROBOT, *STACK)
# Beside them, where somebody asks for it: `eva up --record`, record.launch.py.
RECORDERS = (topics.EPISODE_RECORDER,)
# For robot_state_publisher, in view.launch.py.
MERGERS = (topics.JOINT_STATE_MERGER,)
ALL_NODES = (*NODES, *RECORDERS, *MERGERS)
COMPOSED = 'composed'
# ROS lets the section win that is named last: no other file has a section of this name.
OVERRIDES = f'{EVERY_NODE}/**'
# A process says so on stdout, in one line with the names of its nodes, when all are up.
READY = 'ready:'


@dataclass(frozen=True)
class Argument:
    """Something a user may say when starting the system.

    Attributes:
        name: as in `ros2 launch ... name:=value`; `--name` with dashes for `eva up`.
        kind: str, bool, int or float.
        default: None leaves it to the parameter file.
        description: one sentence.
        sets: the (node, parameter) pairs that take the value.
    """

    name: str
    kind: type
    default: Any
    description: str
    sets: tuple[tuple[str, str], ...] = ()


def _each(nodes: Iterable[str], parameter: str) -> tuple[tuple[str, str], ...]:
    return tuple((node, parameter) for node in nodes)


_VIEWERS = (topics.CAMERA_INGEST, topics.ROLLOUT_GENERATOR, topics.ACTION_DECODER)
ARGUMENTS = (
    Argument(
        'robot',
        str,
        None,
        'Robot YAML: a name in config/robots, or a path.',
        _each(ALL_NODES, 'robot'),
    ),
    Argument(
        'view', str, None, 'View YAML: a name in config/views, or a path.', _each(_VIEWERS, 'view')
    ),
    Argument(
        'checkpoint',
        str,
        None,
        "Folder of the world model; 'default' is the shipped one.",
        ((topics.ROLLOUT_GENERATOR, 'checkpoint'),),
    ),
    Argument(
        'lora',
        str,
        None,
        "Folder of a LoRA for the world model; 'none' goes without, 'auto' takes the shipped one "
        'with the shipped checkpoint.',
        ((topics.ROLLOUT_GENERATOR, 'lora'),),
    ),
    Argument(
        'idm',
        str,
        None,
        "Folder of the inverse dynamics model; 'default' is the shipped one.",
        ((topics.ACTION_DECODER, 'checkpoint'), (topics.ROLLOUT_GENERATOR, 'idm')),
    ),
    Argument(
        'dry_run',
        bool,
        True,
        'Do everything but publish to the controllers.',
        ((topics.ARM_TRAJECTORY_PUBLISHER, 'dry_run'),),
    ),
    Argument(
        'mode',
        str,
        None,
        'look_dream_move: the arms rest while the model dreams; overlap: they move on.',
        ((topics.ARM_TRAJECTORY_PUBLISHER, 'mode'),),
    ),
    Argument(
        'task',
        str,
        None,
        'Task whose scene the simulated robot draws.',
        ((topics.SIM_ROBOT, 'task'),),
    ),
    Argument('seed', int, None, 'Seed of that scene.', ((topics.SIM_ROBOT, 'seed'),)),
    Argument('folder', str, None, 'Folder of the recorded bags.', _each(RECORDERS, 'folder')),
    Argument(
        'use_sim_time',
        bool,
        None,
        'Take the time from /clock.',
        _each((*STACK, *RECORDERS, *MERGERS), 'use_sim_time'),
    ),
    Argument('params_file', str, None, 'Parameter file of the nodes; config/nodes.yaml if empty.'),
    Argument('namespace', str, '', 'Namespace of all nodes and of their relative topics.'),
    Argument('composed', bool, False, 'One process for all nodes (but the simulated robot).'),
    Argument('log_level', str, 'info', 'debug, info, warn, error or fatal.'),
)
# Of the launch files alone: where one process of `eva up` ends, all do.
RESPAWN = Argument(
    'respawn', bool, False, 'Start a node again that has ended; the arms come back disarmed.'
)
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')


def respawning(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether launch starts a process again, and after how long, as it takes them.

    Args:
        settings: the value of RESPAWN by its name.
    """
    # Longer than the lease by which others notice that the node has died.
    return {'respawn': bool(settings.get(RESPAWN.name)), 'respawn_delay': 2.0}


@dataclass(frozen=True)
class Process:
    """A process to start.

    Attributes:
        executable: the console script, and the module below eva_ros.nodes.
        nodes: the nodes that live in it.
        arguments: of its command line.
        namespace: of its nodes; empty is the root.
    """

    executable: str
    nodes: tuple[str, ...]
    arguments: tuple[str, ...]
    namespace: str = ''

    def command_line(self) -> list[str]:
        """Return the arguments with the namespace among them (launch_ros adds it itself)."""
        if not self.namespace:
            return list(self.arguments)
        return [*self.arguments, '-r', f'__ns:=/{self.namespace}']


def plan(nodes: Iterable[str], settings: Mapping[str, Any], folder: Path) -> list[Process]:
    """Return the processes to start, the simulated robot first.

    Args:
        nodes: which of ALL_NODES.
        settings: a value for each of ARGUMENTS by name; what is missing or None is left to the
            parameter file.
        folder: where to write the parameters that the settings override.

    Raises:
        UserError: a setting or the parameter file is wrong.
    """
    chosen = [node for node in ALL_NODES if node in set(nodes)]
    level = settings.get('log_level') or 'info'
    if level not in LOG_LEVELS:
        raise UserError(f"log_level is '{level}' and must be one of {', '.join(LOG_LEVELS)}.")
    for name, kind in (('robot', 'robots'), ('view', 'views')):
        if settings.get(name):
            find_config(kind, settings[name])
    parameter_file = Path(settings.get('params_file') or config_dir() / 'nodes.yaml')
    read_parameter_file(parameter_file)
    overrides = folder / 'overrides.yaml'
    overrides.write_text(yaml.safe_dump(_sections(chosen, settings)), encoding='utf-8')
    ros = ['--ros-args', '--params-file', str(parameter_file), '--params-file', str(overrides)]
    ros += ['--log-level', level]
    namespace = _namespace(settings).strip('/')
    alone = [node for node in chosen if node == topics.SIM_ROBOT or not settings.get('composed')]
    together = tuple(node for node in chosen if node not in alone)
    processes = [Process(node, (node,), tuple(ros), namespace) for node in alone]
    if together:
        processes.append(Process(COMPOSED, together, (*together, *ros), namespace))
    return processes


def remarks(nodes: Iterable[str], settings: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each thing in the user's parameter file that will not be as it says.

    Args:
        nodes: which of ALL_NODES.
        settings: as `plan` takes them.

    Raises:
        UserError: the parameter file is wrong.
    """
    if not settings.get('params_file'):
        return []
    path = Path(settings['params_file'])
    sections = read_parameter_file(path)
    names = {node: f'{_namespace(settings)}/{node}' for node in ALL_NODES if node in set(nodes)}
    return [*_overridden(path, sections, names, settings), *_unread(path, sections, names)]


def _overridden(
    path: Path,
    sections: Sequence[Section],
    names: Mapping[str, str],
    settings: Mapping[str, Any],
) -> list[str]:
    """Return a sentence for each argument and section that name different values."""
    found = []
    for argument in ARGUMENTS:
        value = settings.get(argument.name)
        for node, parameter in argument.sets if value is not None else ():
            said = given(sections, names[node], parameter) if node in names else None
            if said is not None and said[1] != value:
                default = ' (its default)' if value == argument.default else ''
                found.append(
                    f'The argument {argument.name}:={as_text(value)}{default} overrides '
                    f"{parameter}: {as_text(said[1])} of section '{said[0].pattern}' in {path}."
                )
    return list(dict.fromkeys(found))


def _unread(path: Path, sections: Sequence[Section], names: Mapping[str, str]) -> list[str]:
    """Return a sentence for each section that looks meant for a node, and that it never reads."""
    found = []
    for section in sections:
        full_name = names.get(section.node, '')
        own = [other for other in sections if other.node == section.node]
        close = difflib.get_close_matches(section.node, ALL_NODES, n=1, cutoff=0.85)
        if full_name and not any(other.reaches(full_name) for other in own):
            found.append(
                f"{path}: {full_name} does not read the section '{section.pattern}': name it "
                f"'{EVERY_NODE}/{section.node}'."
            )
        elif close and section.node not in ALL_NODES:
            found.append(
                f"{path}: none of these nodes reads the section '{section.pattern}'; did you "
                f"mean '{EVERY_NODE}/{close[0]}'?"
            )
    return found


def _namespace(settings: Mapping[str, Any]) -> str:
    namespace = (settings.get('namespace') or '').strip('/')
    return f'/{namespace}' if namespace else ''


def as_text(value: Any) -> str:
    """Return a value as it is written on a command line; None is empty."""
    if value is None:
        return ''
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse(argument: Argument, text: str) -> Any:
    """Return the value of an argument given as text; None where the text is empty.

    Raises:
        UserError: the text is not of the argument's kind.
    """
    if text == '':
        return None
    try:
        if argument.kind is bool:
            return {'true': True, 'false': False}[text.lower()]
        return argument.kind(text)
    except (KeyError, ValueError) as error:
        kind = 'true or false' if argument.kind is bool else f'of type {argument.kind.__name__}'
        raise UserError(f"{argument.name} is '{text}' and must be {kind}.") from error


def _sections(nodes: Iterable[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that settings override, as a parameter file."""
    sections: dict[str, Any] = {}
    for argument in ARGUMENTS:
        value = settings.get(argument.name)
        if value is None:
            continue
        for node, parameter in argument.sets:
            if node in nodes:
                section = sections.setdefault(f'{OVERRIDES}/{node}', {'ros__parameters': {}})
                section['ros__parameters'][parameter] = value
    return sections
