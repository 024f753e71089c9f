"""Robot YAMLs for tests: a shipped one with what is changed, and made-up arms of any size."""

from pathlib import Path

import yaml

from eva_ros.robot.paths import find_config
from eva_ros.robot.sides import expand_sides

LIMITS = {
    'min_position': -1.5, 'max_position': 1.5, 'max_velocity': 2.0, 'max_acceleration': 8.0,
    'max_jerk': 80.0, 'source': dict.fromkeys(('position', 'velocity', 'acceleration', 'jerk'),
                                              'made up for a test'),
}  # fmt: skip
OPENING = {**LIMITS, 'min_position': 0.0, 'max_position': 1.0}


def arm(side, joints, *, gripper=True, **changes):
    names = [f'{side}_j{i}' for i in range(joints)]
    found = {
        'joints': names,
        'controller': {'topic': f'{side}_arm_controller/joint_trajectory'},
        **changes,
    }
    if gripper:
        found['gripper'] = {'name': f'{side}_gripper', 'controller_joint': f'{side}_finger',
                            'closed': 0.0, 'open': 0.08, 'unit': 'm'}  # fmt: skip
    return found


def content(**arms):
    names = [name for entry in arms.values() for name in entry['joints']]
    grippers = [entry['gripper']['name'] for entry in arms.values() if 'gripper' in entry]
    return {
        'name': 'made_up',
        'arms': arms,
        'cameras': {'top': {'topic': 'top/image_raw', 'height': 48, 'width': 64}},
        'home': {**dict.fromkeys(names, 0.0), **dict.fromkeys(grippers, 0.5)},
        'joint_limits': {**dict.fromkeys(names, LIMITS), **dict.fromkeys(grippers, OPENING)},
    }


PAIRS = {
    'seven joints each': content(left=arm('left', 7), right=arm('right', 7)),
    'no grippers': content(
        left=arm('left', 6, gripper=False), right=arm('right', 6, gripper=False)
    ),
    'five joints and eight': content(left=arm('left', 5), right=arm('right', 8, gripper=False)),
    'a right arm alone': content(right=arm('right', 3)),
    'one joint each': content(left=arm('left', 1, gripper=False), right=arm('right', 1)),
}


def robot_content(name='aloha_sim'):
    """Return a shipped robot's YAML with both arms written out and no relative path."""
    path = find_config('robots', name)
    content = yaml.safe_load(path.read_text())
    if 'collision' in content:
        content['collision'] = yaml.safe_load((path.parent / content['collision']).read_text())
    if 'urdf' in content:
        content['urdf'] = str((path.parent / content['urdf']).resolve())
    return expand_sides(content)


def write_robot(folder: Path, content) -> Path:
    path = folder / 'robot.yaml'
    path.write_text(yaml.safe_dump(content))
    return path
