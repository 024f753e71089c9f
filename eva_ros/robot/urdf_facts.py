"""What a URDF says of joints: limits that can be true, their order, and frames of the arms."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
import math
from pathlib import Path
from xml.etree import ElementTree

from eva_ros.errors import UserError
from eva_ros.robot.joint_naming import words
from eva_ros.robot.limits import MAX_SENSIBLE_VELOCITY
from eva_ros.robot.limits import MAX_TURNS_RAD

_MOVING = ('revolute', 'continuous', 'prismatic')
# Frames at the end of an arm, the best first.
_ENDS = ('tcp', 'fingertips', 'tool0', 'tool', 'grasp', 'ee', 'effector', 'frame', 'gripper',
         'flange')  # fmt: skip
_SENSORS = {'camera', 'optical', 'imu'}


@dataclass(frozen=True)
class UrdfJoint:
    """A joint that moves by itself.

    Attributes:
        kind: revolute, continuous or prismatic.
        position: lower and upper limit, rad or m; None where there is none that can be true.
        velocity: rad/s or m/s, likewise.
        doubts: why a limit of the file is not taken, a phrase by its key in joint_limits.
    """

    name: str
    kind: str
    parent: str
    child: str
    position: tuple[float, float] | None
    velocity: float | None
    doubts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UrdfFacts:
    """A URDF: its joints that move by themselves, from the root outwards, and its fixed links."""

    path: Path
    joints: dict[str, UrdfJoint]
    fixed: dict[str, list[str]]

    def frames(self, names: Sequence[str]) -> tuple[str, str]:
        """Return the link in which an arm begins, and the frame at its end.

        Args:
            names: of the arm's joints, from its base outwards.
        """
        links = [self.joints[names[-1]].child]
        for link in links:
            links += self.fixed.get(link, [])
        own = [link for link in links if _SENSORS.isdisjoint(words(link))]
        ends = [link for word in _ENDS for link in own if word in words(link)]
        return self.joints[names[0]].parent, ends[0] if ends else links[0]


def read_urdf(path: Path) -> UrdfFacts:
    """Return what a URDF says; joints that are fixed or mimic another one are left out.

    Raises:
        UserError: it cannot be read, is a xacro, or has no joint that moves.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}.') from None
    except ElementTree.ParseError as error:
        raise UserError(f'{path} is not XML: {error}.') from None
    if any('xacro' in tag.tag for tag in root.iter()):
        raise UserError(f'{path} is a xacro: expand it first (xacro {path.name} > robot.urdf).')
    below: dict[str, list[ElementTree.Element]] = {}
    for joint in root.findall('joint'):
        below.setdefault(_link(joint, 'parent'), []).append(joint)
    held = {_link(joint, 'child') for joint in root.findall('joint')}
    links = [link.get('name', '') for link in root.findall('link')]
    links = [link for link in links if link not in held]
    joints: dict[str, UrdfJoint] = {}
    fixed: dict[str, list[str]] = {}
    for link in links:
        for joint in below.get(link, []):
            links.append(_link(joint, 'child'))
            if joint.get('type') == 'fixed':
                fixed.setdefault(link, []).append(_link(joint, 'child'))
            elif joint.get('type') in _MOVING and joint.find('mimic') is None:
                joints[joint.get('name', '')] = _joint(joint, path.name)
    if not joints:
        raise UserError(f'{path} has no joint that moves: is it a URDF?')
    return UrdfFacts(path, joints, fixed)


def _link(joint: ElementTree.Element, end: str) -> str:
    found = joint.find(end)
    return '' if found is None else found.get('link', '')


def _joint(joint: ElementTree.Element, file: str) -> UrdfJoint:
    kind, limit = joint.get('type', ''), joint.find('limit')
    given = {} if limit is None else limit.attrib
    # What is not written is 0 in a URDF.
    lower, upper, velocity, effort = (
        _number(given.get(key, '0')) for key in ('lower', 'upper', 'velocity', 'effort')
    )
    doubts = {}
    if kind == 'continuous':
        doubts['position'] = 'it turns without end'
    elif not math.isfinite(lower + upper):
        doubts['position'] = _unreadable(given, 'lower', 'upper', file=file)
    elif not lower < upper:
        doubts['position'] = f'{file} gives none'
    elif kind == 'revolute' and upper - lower > MAX_TURNS_RAD + 1e-6:
        doubts['position'] = f'{lower:g} to {upper:g} in {file} looks like a placeholder'
    if not math.isfinite(velocity):
        doubts['velocity'] = _unreadable(given, 'velocity', file=file)
    elif velocity <= 0.0:
        doubts['velocity'] = f'{file} gives none'
    elif velocity > MAX_SENSIBLE_VELOCITY or velocity == effort:
        # Exporters write one number for effort and velocity where nobody gave any.
        doubts['velocity'] = f'{velocity:g} in {file} looks like a placeholder'
    return UrdfJoint(
        joint.get('name', ''), kind, _link(joint, 'parent'), _link(joint, 'child'),
        None if 'position' in doubts else (lower, upper),
        None if 'velocity' in doubts else velocity, doubts,
    )  # fmt: skip


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _unreadable(given: dict[str, str], *keys: str, file: str) -> str:
    """Return which values of a URDF are not finite numbers."""
    found = [f'{key}={given[key]!r}' for key in keys
             if not math.isfinite(_number(given.get(key, '0')))]  # fmt: skip
    return f'{" and ".join(found)} in {file} is not a finite number'
