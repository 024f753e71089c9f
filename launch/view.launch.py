"""Start rviz with what the trajectory inspector draws, beside a system that runs already.

ros2 launch eva_ros view.launch.py robot:=my_robot.yaml robot_state_publisher:=false
"""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from eva_ros.robot.paths import SIM_ROBOT
from eva_ros.robot.spec import load_robot
from eva_ros.robot.urdf import root_link
from eva_ros.ros import topics
from eva_ros.ros.bringup import MERGERS
from eva_ros.ros.launching import declared
from eva_ros.ros.launching import opaque
from eva_ros.ros.launching import run_folder
from eva_ros.ros.launching import started
from eva_ros.ros.launching import warn
from eva_ros.ros.viewing import description_file
from eva_ros.ros.viewing import installed
from eva_ros.ros.viewing import missing
from eva_ros.ros.viewing import needs_merging
from eva_ros.ros.viewing import rviz_file
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Return rviz, and the publishers of the robot's and of the ghost's links."""
    return LaunchDescription(
        [
            declared('robot'),
            declared('namespace'),
            declared('use_sim_time'),
            declared('log_level'),
            DeclareLaunchArgument(
                'robot_state_publisher',
                default_value='true',
                choices=['true', 'false'],
                description="Publish the robot's links; false where its own bringup does.",
            ),
            DeclareLaunchArgument(
                'frame_prefix',
                default_value=[LaunchConfiguration('namespace'), '/'],
                description="What stands before the robot's frames in TF; '/' for nothing.",
            ),
            DeclareLaunchArgument(
                'rviz_config',
                default_value='',
                description='What rviz shows; config/eva.rviz, fitted to the robot, if empty.',
            ),
            opaque(view_actions),
        ]
    )


def view_actions(context, settings) -> list:
    """Return what is installed of rviz, the robot's links, and what a chunk would make of them."""
    robot = load_robot(settings['robot'] or SIM_ROBOT)
    settings['use_sim_time'] = bool(settings['use_sim_time'])
    folder = run_folder()
    frame_prefix = topics.frame_prefix(LaunchConfiguration('frame_prefix').perform(context))
    actions = rviz(context, settings, robot, frame_prefix, folder)
    if robot.urdf is None:
        warn(f'{robot.name} names no URDF: neither its links nor the paths are shown.')
        return actions
    if not installed('robot_state_publisher'):
        warn(missing('robot_state_publisher', 'neither the robot nor the ghost is shown'))
        return actions
    if LaunchConfiguration('robot_state_publisher').perform(context) == 'true':
        actions += links(settings, robot, frame_prefix, folder)
    return [*actions, *ghost(settings, robot, frame_prefix, folder)]


def rviz(context, settings, robot, frame_prefix, folder) -> list:
    """Return rviz where it is installed."""
    if not installed('rviz2'):
        warn(missing('rviz2', 'no window opens'))
        return []
    namespace = settings['namespace'] or ''
    given = LaunchConfiguration('rviz_config').perform(context)
    shown = rviz_file(folder, given, robot, frame_prefix, namespace, warn)
    time = ['--ros-args', '-p', f'use_sim_time:={str(settings["use_sim_time"]).lower()}']
    return [
        Node(
            package='rviz2',
            executable='rviz2',
            namespace=namespace,
            arguments=['-d', str(shown), *time],
        )
    ]


def links(settings, robot, frame_prefix, folder) -> list:
    """Return the publisher of the robot's links, and what makes its joint states readable."""
    time = settings['use_sim_time']
    joint_states = robot.joint_state_topics[0]
    mergers = []
    if needs_merging(robot):
        joint_states = topics.of(topics.JOINT_STATE_MERGER, topics.MERGED_JOINT_STATES)
        mergers = started(MERGERS, settings)
    publisher = Node(
        package='robot_state_publisher',
        executable='robot_state_publisher',
        namespace=settings['namespace'] or '',
        parameters=[str(description_file(folder, robot, frame_prefix, use_sim_time=time))],
        remappings=[('joint_states', joint_states)],
    )
    return [*mergers, publisher]


def ghost(settings, robot, frame_prefix, folder) -> list:
    """Return the publisher of the ghost's links, and where they and the paths stand."""
    namespace, time = settings['namespace'] or '', settings['use_sim_time']
    own = topics.frame_prefix(namespace)
    prefix = own + topics.GHOST_FRAME_PREFIX
    joint_states = topics.of(topics.TRAJECTORY_INSPECTOR, topics.GHOST_JOINT_STATES)
    publisher = Node(
        package='robot_state_publisher',
        executable='robot_state_publisher',
        name='ghost_state_publisher',
        namespace=namespace,
        parameters=[str(description_file(folder, robot, prefix, use_sim_time=time))],
        remappings=[
            ('joint_states', joint_states),
            (topics.ROBOT_DESCRIPTION, topics.GHOST_DESCRIPTION),
        ],
    )
    if not installed('tf2_ros'):
        warn(missing('tf2_ros', 'the ghost has no place beside the robot'))
        return [publisher]
    root = root_link(robot)
    # The inspector draws in the frames of its namespace, whatever the robot calls its own.
    children = {f'{prefix}{root}', f'{own}{root}'} - {f'{frame_prefix}{root}'}
    return [
        publisher,
        *(same_place(f'{frame_prefix}{root}', name, namespace) for name in sorted(children)),
    ]


def same_place(parent, child, namespace) -> Node:
    """Return the publisher of a frame that is where another one is."""
    return Node(
        package='tf2_ros',
        executable='static_transform_publisher',
        namespace=namespace,
        arguments=['--frame-id', parent, '--child-frame-id', child],
    )
