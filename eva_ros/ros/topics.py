"""Every name this package uses on the ROS graph, once.

Names are relative, so that a namespace moves the whole package; a node's own outputs begin with
`~/`. Cameras, joint states and controllers are named by the robot YAML.
"""

# The data's way, in its order.
OBSERVATION = 'observation'
ROLLOUT = 'rollout'
CHUNK = 'chunk'
CHUNK_REPORT = 'chunk_report'
SAFETY_STATE = 'safety_state'

# Beside it.
EPISODE = 'episode'
ESTOP = 'estop'
CLOCK = '/clock'
TF_STATIC = '/tf_static'
DIAGNOSTICS = '/diagnostics'
ROBOT_DESCRIPTION = 'robot_description'
GHOST_DESCRIPTION = 'ghost_description'

# Frames: those of the URDF, below the namespace of the nodes (`frame_prefix`).
GHOST_FRAME_PREFIX = 'ghost/'

# Actions.
EXECUTE_TASK = 'execute_task'
GENERATE_ROLLOUT = 'generate_rollout'
RECORD_EPISODE = 'record_episode'

# Own outputs and services of a node. STATE is of every node.
STATE = '~/state'
PREVIEW = '~/preview'
MARKERS = '~/markers'
DREAM = '~/dream'
GHOST_JOINT_STATES = '~/joint_states'
MERGED_JOINT_STATES = '~/joint_states'
ARM = '~/arm'
DISARM = '~/disarm'
HOLD = '~/hold'
TRIGGER_ESTOP = '~/estop'
RESET_ESTOP = '~/reset_estop'
APPROVE = '~/approve'
REJECT = '~/reject'
GO_HOME = '~/go_home'
START_TASK = '~/start_task'
CANCEL_TASK = '~/cancel_task'
GENERATE = '~/generate'
RESET = '~/reset'
START = '~/start'
STOP = '~/stop'
DISCARD = '~/discard'

# Node names.
CAMERA_INGEST = 'camera_ingest'
ROLLOUT_GENERATOR = 'rollout_generator'
ACTION_DECODER = 'action_decoder'
ARM_TRAJECTORY_PUBLISHER = 'arm_trajectory_publisher'
TASK_EXECUTOR = 'task_executor'
TRAJECTORY_INSPECTOR = 'trajectory_inspector'
SIM_ROBOT = 'sim_robot'
EPISODE_RECORDER = 'episode_recorder'
JOINT_STATE_MERGER = 'joint_state_merger'


def of(node: str, name: str) -> str:
    """Return the relative name of a node's own topic or service, as others write it.

    Args:
        node: the node's name, e.g. SIM_ROBOT.
        name: one of the names above that begin with `~/`.
    """
    return f'{node}/{name.removeprefix("~/")}'


def frame_prefix(namespace: str) -> str:
    """Return what stands before the frames of a robot whose nodes are in a namespace."""
    name = namespace.strip('/')
    return f'{name}/' if name else ''
