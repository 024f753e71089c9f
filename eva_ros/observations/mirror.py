"""When a view may be mirrored left to right: the robot and the layout of the cameras decide."""

from eva_ros.observations.views import ViewSpec
from eva_ros.robot.spec import Robot


def mirror_fault(robot: Robot, view: ViewSpec) -> str:
    """Return why recordings must not be mirrored, as a phrase; empty if they may be.

    Args:
        robot: Robot that was recorded.
        view: Layout of its cameras.
    """
    if robot.mirror_signs is None:
        return f'{robot.path} states no mirror_signs'
    boxes = {camera.box: camera.name for camera in view.cameras}
    for (y, x, height, width), name in boxes.items():
        opposite = boxes.get((y, view.width - x - width, height, width))
        if opposite != _other_side(name):
            return f"view '{view.name}' has no mirror image of camera '{name}' opposite to it"
    return ''


def _other_side(camera: str) -> str:
    """Return the name of a camera with left and right exchanged."""
    if 'left' in camera:
        return camera.replace('left', 'right')
    return camera.replace('right', 'left')
