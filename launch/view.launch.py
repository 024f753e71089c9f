"""Start rviz with what the trajectory inspector draws, beside a system that runs already."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from eva_ros.robot.paths import config_dir
from eva_ros.robot.spec import load_robot
from eva_ros.ros import topics
from eva_ros.ros.launching import declared
from eva_ros.ros.launching import opaque
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Return rviz, and the publishers of the robot's and of the ghost's links."""
    return LaunchDescription(
        [
            declared('robot'),
            declared('namespace'),
            declared('use_sim_time'),
            DeclareLaunchArgument(
                'rviz_config',
                default_value=str(config_dir() / 'eva.rviz'),
                description='What rviz shows.',
            ),
            opaque(view_actions),
        ]
    )


def view_actions(context, settings) -> list:
    """Return rviz and two robot_state_publishers: the robot, and what a chunk would make of it."""
    robot = load_robot(settings['robot'] or 'aloha_sim')
    time = {'use_sim_time': bool(settings['use_sim_time'])}
    namespace = settings['namespace'] or ''
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        namespace=namespace,
        arguments=['-d', LaunchConfiguration('rviz_config')],
        parameters=[time],
    )
    if robot.urdf is None:
        return [rviz]
    description = {'robot_description': ParameterValue(robot.urdf.read_text(), value_type=str)}
    inspector = topics.TRAJECTORY_INSPECTOR
    ghost = {'frame_prefix': topics.GHOST_FRAME_PREFIX}
    return [
        rviz,
        Node(
            package='robot_state_publisher',
            executable='robot_state_publisher',
            namespace=namespace,
            parameters=[description, time],
            remappings=[('joint_states', robot.joint_state_topics[0])],
        ),
        Node(
            package='robot_state_publisher',
            executable='robot_state_publisher',
            name='ghost_state_publisher',
            namespace=namespace,
            parameters=[description, time, ghost],
            remappings=[
                ('joint_states', topics.of(inspector, topics.GHOST_JOINT_STATES)),
                (topics.ROBOT_DESCRIPTION, topics.GHOST_DESCRIPTION),
            ],
        ),
        Node(
            package='tf2_ros',
            executable='static_transform_publisher',
            namespace=namespace,
            arguments=[
                '--frame-id',
                topics.WORLD_FRAME,
                '--child-frame-id',
                f'{topics.GHOST_FRAME_PREFIX}{topics.WORLD_FRAME}',
            ],
        ),
    ]
