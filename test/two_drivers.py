"""A robot of two drivers that use the same joint names, with a URDF of its own."""

from pathlib import Path

from eva_ros.robot.paths import config_dir

JOINTS = tuple(
    f'{side}_{name}'
    for side in ('left', 'right')
    for name in (*(f'joint{number}' for number in range(1, 7)), 'gripper')
)


def robot_of_two_drivers(folder: Path, unit: str = 'rad') -> Path:
    """Write piper_dual with a URDF, and return its robot YAML."""
    links = ''.join(
        f'<link name="{joint}_link"/><joint name="{joint}" type="revolute"><parent link="base"/>'
        f'<child link="{joint}_link"/><limit effort="1" velocity="1" lower="-1" upper="1"/>'
        '</joint>'
        for joint in JOINTS
    )
    links += ''.join(
        f'<link name="{side}_gripper_base"/><joint name="{side}_mount" type="fixed">'
        f'<parent link="{side}_joint6_link"/><child link="{side}_gripper_base"/></joint>'
        for side in ('left', 'right')
    )
    (folder / 'two.urdf').write_text(f'<robot name="two"><link name="base"/>{links}</robot>')
    text = (config_dir() / 'robots' / 'piper_dual.yaml').read_text()
    text = text.replace('name: piper_dual', 'name: piper_dual\nurdf: two.urdf')
    text = text.replace('stamp_source: receive', f'stamp_source: receive\n    state_unit: {unit}')
    path = folder / 'two.yaml'
    path.write_text(text)
    return path
