"""The paths of both end effectors as markers: where they lead and how close to the limits."""

from collections.abc import Mapping

from geometry_msgs.msg import Point
import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from std_msgs.msg import Header
from visualization_msgs.msg import Marker
from visualization_msgs.msg import MarkerArray

from eva_ros.robot.limits import Limits
from eva_ros.robot.spec import Robot

Array = NDArray[np.float64]

_LINE_M = 0.006
_SPHERE_M = 0.02
_TEXT_M = 0.03
# From far from every limit to at one.
_GREEN, _YELLOW, _RED = (0.1, 0.8, 0.2), (1.0, 0.85, 0.1), (0.9, 0.1, 0.1)
_WARM = 0.8


def closeness(positions: Array, dt: float, limits: Limits) -> Array:
    """Return how close each joint is to its limits at each step.

    Args:
        positions: [T, J].
        dt: time between steps, s.
        limits: of these joints.

    Returns:
        [T, J]: 0 in the middle of the range and at rest, 1 at a limit of position or velocity,
        more beyond it; 0 where there is no limit.
    """
    with np.errstate(invalid='ignore'):
        middle = (limits.max_position + limits.min_position) / 2
        half = (limits.max_position - limits.min_position) / 2
        # Not a number where the robot has no limits.
        position = np.nan_to_num(np.abs(positions - middle) / half)
    velocity = np.abs(np.gradient(positions, dt, axis=0)) / limits.max_velocity
    return np.maximum(position, velocity)


def colour(value: float) -> ColorRGBA:
    """Return green for 0, yellow for 0.8 and red from 1 on."""
    if value < _WARM:
        low, high, part = _GREEN, _YELLOW, value / _WARM
    else:
        low, high, part = _YELLOW, _RED, min((value - _WARM) / (1.0 - _WARM), 1.0)
    red, green, blue = (a + (b - a) * part for a, b in zip(low, high))
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)


def path_markers(
    positions: Array,
    dt: float,
    points: Mapping[str, Array],
    robot: Robot,
    caption: str,
    header: Header,
) -> MarkerArray:
    """Return a chunk as markers, per arm a LINE_STRIP and a SPHERE_LIST, and one caption.

    Args:
        positions: joints [T, J].
        dt: time between steps, s.
        points: per arm where the end effector is at each step [T, 3], in the header's frame.
        robot: whose joints and limits.
        caption: said above the paths.
        header: of the markers.
    """
    close = closeness(positions, dt, robot.limits)
    outside = (positions < robot.limits.min_position) | (positions > robot.limits.max_position)
    markers = []
    for arm, path in points.items():
        joints = robot.arm_indices(arm)
        line = _marker(f'{arm}_path', Marker.LINE_STRIP, _LINE_M, header)
        line.points = [_point(point) for point in path]
        line.colors = [colour(float(value)) for value in close[:, joints].max(axis=1)]
        clamped = _marker(f'{arm}_clamped', Marker.SPHERE_LIST, _SPHERE_M, header)
        clamped.points = [_point(point) for point in path[outside[:, joints].any(axis=1)]]
        clamped.color = colour(1.0)
        # rviz complains about a list without points.
        clamped.action = Marker.ADD if clamped.points else Marker.DELETE
        markers += [line, clamped]
    return MarkerArray(markers=[*markers, _caption(caption, points, header)])


def _caption(caption: str, points: Mapping[str, Array], header: Header) -> Marker:
    text = _marker('caption', Marker.TEXT_VIEW_FACING, _TEXT_M, header)
    every = np.concatenate(list(points.values()))
    top = np.append(every.mean(axis=0)[:2], every[:, 2].max() + 0.1)
    text.pose.position = _point(top)
    text.color = ColorRGBA(r=0.9, g=0.9, b=0.9, a=1.0)
    text.text = caption
    return text


def _marker(namespace: str, kind: int, size: float, header: Header) -> Marker:
    marker = Marker(ns=namespace, id=0, type=kind, action=Marker.ADD)
    marker.header = header
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = size
    return marker


def _point(xyz: Array) -> Point:
    return Point(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))
