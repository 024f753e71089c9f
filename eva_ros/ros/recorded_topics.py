"""What is recorded beside cameras and joint states, by relative name, and of what type."""

from eva_ros.robot.spec import Robot
from eva_ros.ros import topics

STREAM = 'sensor_msgs/msg/JointState'
CONTROLLER_STATE = 'control_msgs/msg/JointTrajectoryControllerState'
# What the models and the gate did, of which training learns too.
OF_ATTEMPTS = {
    topics.ROLLOUT: 'eva_msgs/msg/Rollout',
    topics.CHUNK: 'eva_msgs/msg/ActionChunk',
    topics.CHUNK_REPORT: 'eva_msgs/msg/ChunkReport',
}
# The last words of image topics that are beside the picture's own.
_TRANSPORTS = ('compressed', 'video')


def command_topics(robot: Robot) -> dict[str, str]:
    """Return the type of each topic on which the arms are commanded; goals of actions are none."""
    controllers = [arm.controller for arm in robot.arms.values()]
    return {found.topic: found.type for found in controllers if '/action/' not in found.type}


def surrounding_topics(robot: Robot, *, simulated_time: bool) -> dict[str, str]:
    """Return the type of each topic that is recorded where somebody publishes it.

    A trajectory controller says on `controller_state` what it asks of the arm in every cycle,
    whoever sent the trajectory and whether by topic or by action.
    """
    cameras = [camera.topic for camera in robot.cameras.values()]
    found = {_camera_info(topic): 'sensor_msgs/msg/CameraInfo' for topic in cameras}
    for arm in robot.arms.values():
        owner = arm.controller.topic.rpartition('/')[0]
        if arm.controller.type != STREAM and owner:
            found[f'{owner}/controller_state'] = CONTROLLER_STATE
    found |= OF_ATTEMPTS
    found[topics.TF_STATIC] = 'tf2_msgs/msg/TFMessage'
    if simulated_time:
        found[topics.CLOCK] = 'rosgraph_msgs/msg/Clock'
    return found


def _camera_info(topic: str) -> str:
    """Return the topic beside an image topic on which the camera's calibration is published."""
    owner, _, last = topic.rpartition('/')
    owner = owner.rpartition('/')[0] if last in _TRANSPORTS else owner
    return '/'.join([*filter(None, [owner]), 'camera_info'])
