"""Robot YAMLs for tests: a shipped one with what is changed."""

from pathlib import Path

import yaml

from eva_ros.robot.paths import find_config
from eva_ros.robot.sides import expand_sides


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
