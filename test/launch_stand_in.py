"""A stand-in for `launch` and `launch_ros`, which no wheel holds: what the launch files use."""

from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
import runpy
from types import ModuleType
from types import SimpleNamespace
from typing import Any

LAUNCH_FILES = Path(__file__).resolve().parents[1] / 'launch'


class LaunchContext:
    """The values of the launch arguments."""

    def __init__(self, given):
        self.launch_configurations = dict(given)

    def text(self, value):
        if value is None:
            return ''
        parts = value if isinstance(value, list) else [value]
        return ''.join(p if isinstance(p, str) else p.perform(self) for p in parts)


@dataclass
class LaunchConfiguration:
    """The value of one argument."""

    name: str

    def perform(self, context):
        return context.launch_configurations[self.name]


@dataclass
class DeclareLaunchArgument:
    """An argument; what is not declared cannot be given."""

    name: str
    default_value: Any = None
    description: str = ''
    choices: Any = None


@dataclass
class OpaqueFunction:
    """Actions that depend on the values of the arguments."""

    function: Any


@dataclass
class Node:
    """A process of a node."""

    package: str
    executable: str
    name: str = ''
    namespace: str = ''
    arguments: list = field(default_factory=list)
    parameters: list = field(default_factory=list)
    remappings: list = field(default_factory=list)
    output: str = 'log'
    respawn: Any = None
    respawn_delay: Any = None


class Launcher:
    """Runs a launch file as `ros2 launch` does, up to the processes."""

    def __init__(self, log_dir):
        self.log_dir = log_dir
        self.said = []

    def launch(self, file, **arguments):
        """Return the nodes that a launch file starts."""
        described = runpy.run_path(str(LAUNCH_FILES / file))['generate_launch_description']()
        context = LaunchContext(arguments)
        nodes = []
        for entity in described:
            if isinstance(entity, DeclareLaunchArgument):
                default = context.text(entity.default_value)
                value = context.launch_configurations.setdefault(entity.name, default)
                assert not entity.choices or value in entity.choices
            elif isinstance(entity, OpaqueFunction):
                nodes += entity.function(context)
        # launch_ros writes any other parameters into the folder for temporary files.
        assert all(isinstance(path, str) for node in nodes for path in node.parameters)
        return nodes


def modules(run):
    """Return the modules that the launch files import, by name, for a launcher."""
    logs = SimpleNamespace(
        launch_config=SimpleNamespace(log_dir=str(run.log_dir)),
        get_logger=lambda _name: SimpleNamespace(warning=run.said.append),
    )
    contents = {
        'launch': {'LaunchContext': LaunchContext, 'LaunchDescription': list, 'logging': logs},
        'launch.action': {'Action': object},
        'launch.actions': {
            'DeclareLaunchArgument': DeclareLaunchArgument,
            'OpaqueFunction': OpaqueFunction,
        },
        'launch.substitutions': {'LaunchConfiguration': LaunchConfiguration},
        'launch_ros': {},
        'launch_ros.actions': {'Node': Node},
    }
    made = {name: ModuleType(name) for name in contents}
    for name, content in contents.items():
        vars(made[name]).update(content)
    return made
