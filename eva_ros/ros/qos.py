"""Quality of service by what a topic is for (REP-2003; research: the ROS facts, section 7)."""

from typing import Any

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy
from rclpy.qos import HistoryPolicy
from rclpy.qos import LivelinessPolicy
from rclpy.qos import qos_profile_sensor_data
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy

# Listening to a driver: best effort hears reliable and best-effort publishers alike.
SENSOR_INPUT = qos_profile_sensor_data

# Speaking as a driver: reliable serves every listener.
SENSOR_OUTPUT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE
)

# The time: best effort and the newest alone, as rclpy's time source and Gazebo have it.
CLOCK = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT
)

# One hop of the data's way: only the newest matters, and it must arrive.
PIPELINE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE
)

# A command to a controller.
COMMAND = PIPELINE

# Something that is counted, or answered to: none may be lost.
REPORT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=20, reliability=ReliabilityPolicy.RELIABLE
)

# A state: whoever joins late gets the last one.
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)

# A state that others rely on: its node asserts that it lives (EvaNode does for what it publishes
# with this), and a listener that asks for the lease is told when it no longer does. Listeners that
# ask for none hear it as they hear LATCHED. By topic, since Fast DDS asserts nothing by itself to
# listeners in the same process.
LEASED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
    liveliness_lease_duration=Duration(seconds=1.5),
)


def as_recorded(profile: QoSProfile) -> dict[str, Any]:
    """Return what a publisher offers as rosbag2 writes it into a bag, by names, version 9."""
    return {
        'history': profile.history.name.lower(),
        'depth': profile.depth,
        'reliability': profile.reliability.name.lower(),
        'durability': profile.durability.name.lower(),
        'deadline': _span(profile.deadline),
        'lifespan': _span(profile.lifespan),
        'liveliness': profile.liveliness.name.lower(),
        'liveliness_lease_duration': _span(profile.liveliness_lease_duration),
        'avoid_ros_namespace_conventions': profile.avoid_ros_namespace_conventions,
    }


def _span(duration: Duration) -> dict[str, int]:
    seconds, rest = divmod(duration.nanoseconds, 10**9)
    return {'sec': seconds, 'nsec': rest}
