"""Parameters of a node, declared with description and range, and read as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
import difflib
from pathlib import Path
import sys
from typing import Any

from rcl_interfaces.msg import FloatingPointRange
from rcl_interfaces.msg import IntegerRange
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node

from eva_ros.errors import UserError
from eva_ros.ros.parameter_files import read_parameter_file

# What rclpy declares by itself, and launch_ros may set.
_OF_RCLPY = ('use_sim_time', 'start_type_description_service')
_PREFIXES_OF_RCLPY = ('qos_overrides.',)
# Of every parameter that seeds a random generator.
MAX_SEED = 2**31 - 1
# How alike two names are, where one is taken for the other misspelled.
_A_TYPO = 0.8


@dataclass(frozen=True)
class Param:
    """One parameter of a node.

    Attributes:
        name: lower snake, with the unit as suffix where it has one.
        default: gives the type too.
        description: one sentence, with the unit.
        low: the smallest value allowed; None where there is none.
        high: the largest value allowed.
        live: may be changed while the node is configured; the others take effect at configure.
        constraint: what else holds of a value or a change, one sentence; empty where nothing does.
        at_start: read once, when the node starts; a later change is refused.
    """

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    live: bool = False
    constraint: str = ''
    at_start: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Return the ROS description of this parameter."""
        descriptor = ParameterDescriptor(
            name=self.name,
            description=self.description,
            additional_constraints=f'{self._when_it_changes} {self.constraint}'.rstrip(),
            read_only=self.at_start,
        )
        if self.low is None or self.high is None:
            return descriptor
        if isinstance(self.default, int):
            limits = IntegerRange(from_value=int(self.low), to_value=int(self.high), step=0)
            descriptor.integer_range = [limits]
        else:
            limits = FloatingPointRange(from_value=float(self.low), to_value=float(self.high))
            descriptor.floating_point_range = [limits]
        return descriptor

    @property
    def _when_it_changes(self) -> str:
        if self.at_start:
            return 'Read once, when the node starts.'
        if self.live:
            return 'Changes take effect while the node runs.'
        return 'Takes effect at configure: read-only until the node is cleaned up.'


def declare(node: Node, params: Sequence[Param]) -> list[str]:
    """Declare parameters and return a sentence for each value given that does not fit.

    Such a parameter is declared with its default, so that it can be seen and set.
    """
    complaints = []
    for param in params:
        try:
            node.declare_parameter(param.name, param.default, param.descriptor())
        except (InvalidParameterTypeException, InvalidParameterValueException):
            given = node._parameter_overrides[param.name].value
            complaints.append(_does_not_fit(node.get_name(), param, given))
            node.declare_parameter(
                param.name, param.default, param.descriptor(), ignore_override=True
            )
    return complaints


def describe(node: Node, param: Param) -> None:
    """Describe a parameter that rclpy has declared."""
    descriptor = param.descriptor()
    descriptor.type = node.describe_parameter(param.name).type
    node.set_descriptor(param.name, descriptor)


def unknown(node: Node) -> list[str]:
    """Return a sentence for each parameter given (in a YAML or by -p) that the node lacks.

    A section for nodes of any name may hold other nodes' parameters: what is like none of this
    node's is logged, and left out.
    """
    names = [
        name
        for name in node._parameter_overrides
        if not node.has_parameter(name)
        and name not in _OF_RCLPY
        and not name.startswith(_PREFIXES_OF_RCLPY)
    ]
    for_others = _for_others(node, names)
    for name in for_others:
        node.get_logger().info(f"'{name}' is for every node, and no parameter of this one.")
    return [_unknown(node, name) for name in names if name not in for_others]


def check_given(node: Node, complaints: Sequence[str]) -> None:
    """Refuse to go on where a parameter was given wrongly.

    Args:
        complaints: what `declare` returned.

    Raises:
        UserError: the first wrong or unknown parameter.
    """
    for sentence in [*complaints, *unknown(node)]:
        raise UserError(sentence)


def _for_others(node: Node, names: Sequence[str]) -> list[str]:
    """Return the names that parameter files give to nodes of any name, and not like our own."""
    places = [index for index, word in enumerate(sys.argv) if word == '--params-file']
    files = [Path(sys.argv[index + 1]) for index in places if index + 1 < len(sys.argv)]
    sections = [section for path in files for section in read_parameter_file(path)]
    own = {name for s in sections if s.node == node.get_name() for name in s.parameters}
    shared = {name for s in sections if not s.node for name in s.parameters}
    known = _names(node)
    return [
        name
        for name in names
        if name in shared - own and not difflib.get_close_matches(name, known, 1, _A_TYPO)
    ]


def _does_not_fit(node: str, param: Param, given: Any) -> str:
    kind = type(param.default).__name__
    between = '' if param.low is None else f' between {param.low} and {param.high}'
    return (
        f"{node}: parameter '{param.name}' must be a {kind}{between}, and was given as {given!r}."
    )


def _unknown(node: Node, name: str) -> str:
    known = _names(node)
    close = difflib.get_close_matches(name, known, n=1)
    advice = f'did you mean {close[0]!r}?' if close else f'it has {", ".join(known)}.'
    return f"{node.get_name()}: there is no parameter '{name}'; {advice}"


def _names(node: Node) -> list[str]:
    return sorted(parameter for parameter in node._parameters if '.' not in parameter)
