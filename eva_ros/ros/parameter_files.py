"""Parameter files in ROS's own forms: which section reaches which node, and what it gives.

Needs no ROS. Where several sections reach a node, rcl lets the one win that stands last, however
general it is; a section that stands in two files keeps its place in the first.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
import re
from typing import Any

import yaml

from eva_ros.errors import UserError
from eva_ros.robot.strict_yaml import read_yaml

EVERY_NODE = '/**'
_PARAMETERS = 'ros__parameters'
_WILDCARDS = {'**': r'(/\w+)*', '*': r'/\w+'}


@dataclass(frozen=True)
class Section:
    """What a parameter file gives to one node, or to all that a pattern matches.

    Attributes:
        pattern: the fully qualified name that it is for; `*` stands for one part, `**` for any.
        parameters: by name, with a dot between a group and its parameter.
    """

    pattern: str
    parameters: Mapping[str, Any]

    @property
    def node(self) -> str:
        """Return the name of the node it is for; empty where it is for nodes of any name."""
        name = self.pattern.rpartition('/')[2]
        return '' if name in _WILDCARDS else name

    def reaches(self, node: str) -> bool:
        """Return whether a node with this fully qualified name reads it."""
        parts = self.pattern.strip('/').split('/')
        expression = ''.join(_WILDCARDS.get(part) or f'/{re.escape(part)}' for part in parts)
        return re.fullmatch(expression, node) is not None


def read_parameter_file(path: Path) -> list[Section]:
    """Return the sections of a parameter file in their order.

    Accepts `node:`, `/node:`, `/ns/node:`, `ns: {node: ...}`, `/**:` and `/**/node:`.

    Raises:
        UserError: no such file, no YAML, or nothing that ROS could read.
    """
    if not path.is_file():
        raise UserError(f'There is no parameter file {path}.')
    try:
        events = list(yaml.parse(path.read_text(encoding='utf-8')))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f'{path} is not YAML: {" ".join(str(error).split())}') from None
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f'{path}: ROS reads no YAML aliases (*{event.anchor}).')
    if not any(isinstance(event, yaml.DocumentStartEvent) for event in events):
        return []
    return list(_sections(path, '', read_yaml(path)))


def given(sections: Iterable[Section], node: str, parameter: str) -> tuple[Section, Any] | None:
    """Return the value that a node of this full name gets, and its section; None without one."""
    found = None
    for section in sections:
        if parameter in section.parameters and section.reaches(node):
            found = (section, section.parameters[parameter])
    return found


def _sections(path: Path, name: str, content: Any) -> Iterator[Section]:
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: section '{name}' must hold {_PARAMETERS}.")
    for key, body in content.items():
        if key != _PARAMETERS:
            yield from _sections(path, f'{name}/{str(key).strip("/")}', body)
        elif not name:
            raise UserError(f'{path}: {_PARAMETERS} must stand in the section of a node.')
        elif not isinstance(body, dict):
            raise UserError(f"{path}: {_PARAMETERS} of section '{name}' must be a map.")
        else:
            yield Section(name, dict(_flat('', body)))


def _flat(group: str, parameters: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in parameters.items():
        name = f'{group}.{key}' if group else str(key)
        if isinstance(value, dict):
            yield from _flat(name, value)
        else:
            yield name, value
