"""Write config/urdf/aloha_sim.urdf from the MuJoCo model that gym-aloha ships.

    python scripts/generate_urdf.py [--check]

Frames, axes, ranges and masses are MuJoCo's; velocities are those of config/robots/aloha_sim.yaml.
Shapes are boxes around the meshes, so that nothing of gym-aloha is copied. Joints are named as
the robot's joint states name them; `<arm>_fingertips` lies between the fingertips.
"""

import argparse
from pathlib import Path
import sys
from xml.etree import ElementTree

import gym_aloha
import mujoco
import numpy as np

from eva_ros.robot.spec import load_robot

# As in eva_ros.sim.world: the MJCF marks this point between the fingers, which end at 0.1537 m.
FINGERTIP_OFFSET_M = 0.15
MODEL = Path(gym_aloha.__file__).parent / 'assets' / 'bimanual_viperx_transfer_cube.xml'
TARGET = Path(__file__).resolve().parent.parent / 'config' / 'urdf' / 'aloha_sim.urdf'
_TYPES = {mujoco.mjtJoint.mjJNT_HINGE: 'revolute', mujoco.mjtJoint.mjJNT_SLIDE: 'prismatic'}


def generate() -> str:
    """Return the URDF as text."""
    model = mujoco.MjModel.from_xml_path(str(MODEL))
    velocities = _velocities()
    root = ElementTree.Element('robot', name='aloha_sim')
    root.append(ElementTree.Comment(' written by scripts/generate_urdf.py; do not edit '))
    ElementTree.SubElement(root, 'link', name='world')
    for arm in load_robot('aloha_sim').arms:
        base = model.body(f'vx300s_{arm}').id
        for body in range(base, model.nbody):
            if _belongs(model, body, base):
                _add_body(root, model, arm, body, base, velocities)
        _add_fingertips(root, arm)
    ElementTree.indent(root)
    return '<?xml version="1.0"?>\n' + ElementTree.tostring(root, encoding='unicode') + '\n'


def _velocities() -> dict[str, float]:
    """Return the velocity limits by URDF joint name, in the controllers' units."""
    robot = load_robot('aloha_sim')
    values = {}
    for arm in robot.arms:
        names, _ = robot.arm_command(arm, robot.home)
        rates = robot.arm_command_rates(arm, robot.limits.max_velocity)
        values.update(zip(names, rates))
        values[f'{arm}_right_finger'] = values[f'{arm}_left_finger']
    return values


def _belongs(model: mujoco.MjModel, body: int, base: int) -> bool:
    """Return whether a body is a part of the arm (a camera's target is none)."""
    while body not in (0, base):
        if model.body(body).name.endswith('camera_focus'):
            return False
        body = model.body_parentid[body]
    return body == base


def _link_name(model: mujoco.MjModel, arm: str, body: int, base: int) -> str:
    return f'{arm}_base_link' if body == base else f'{arm}_{model.body(body).name.split("/")[1]}'


def _add_body(
    root: ElementTree.Element,
    model: mujoco.MjModel,
    arm: str,
    body: int,
    base: int,
    velocities: dict[str, float],
) -> None:
    name = _link_name(model, arm, body, base)
    link = ElementTree.SubElement(root, 'link', name=name)
    if model.body_mass[body] > 0.0:
        _add_inertial(link, model, body)
    for geom in range(model.ngeom):
        if model.geom_bodyid[geom] == body:
            _add_box(link, model, geom)
    has_joint = model.body_jntnum[body] == 1
    joint = int(model.body_jntadr[body]) if has_joint else -1
    joint_name = f'{arm}_{model.joint(joint).name.split("/")[1]}' if has_joint else f'{name}_fixed'
    kind = _TYPES[model.jnt_type[joint]] if has_joint else 'fixed'
    element = ElementTree.SubElement(root, 'joint', name=joint_name, type=kind)
    _add_origin(element, model.body_pos[body], model.body_quat[body])
    parent = model.body_parentid[body]
    above = 'world' if body == base else _link_name(model, arm, parent, base)
    ElementTree.SubElement(element, 'parent', link=above)
    ElementTree.SubElement(element, 'child', link=name)
    if has_joint:
        ElementTree.SubElement(element, 'axis', xyz=_text(model.jnt_axis[joint]))
        low, high = map(_text, model.jnt_range[joint])
        effort, velocity = _text(_effort(model, joint)), _text(velocities[joint_name])
        ElementTree.SubElement(
            element, 'limit', lower=low, upper=high, effort=effort, velocity=velocity
        )
        if joint_name.endswith('right_finger'):
            ElementTree.SubElement(
                element, 'mimic', joint=f'{arm}_left_finger', multiplier='-1', offset='0'
            )


def _add_fingertips(root: ElementTree.Element, arm: str) -> None:
    ElementTree.SubElement(root, 'link', name=f'{arm}_fingertips')
    joint = ElementTree.SubElement(root, 'joint', name=f'{arm}_fingertips_fixed', type='fixed')
    _add_origin(joint, [FINGERTIP_OFFSET_M, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0])
    ElementTree.SubElement(joint, 'parent', link=f'{arm}_gripper_link')
    ElementTree.SubElement(joint, 'child', link=f'{arm}_fingertips')


def _add_inertial(link: ElementTree.Element, model: mujoco.MjModel, body: int) -> None:
    inertial = ElementTree.SubElement(link, 'inertial')
    _add_origin(inertial, model.body_ipos[body], model.body_iquat[body])
    ElementTree.SubElement(inertial, 'mass', value=_text(model.body_mass[body]))
    ixx, iyy, izz = (f'{value:.6g}' for value in model.body_inertia[body])
    ElementTree.SubElement(
        inertial, 'inertia', ixx=ixx, iyy=iyy, izz=izz, ixy='0', ixz='0', iyz='0'
    )


def _add_box(link: ElementTree.Element, model: mujoco.MjModel, geom: int) -> None:
    """Add the box around a mesh, in the frame that MuJoCo gives the mesh."""
    center, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
    position = np.zeros(3)
    mujoco.mju_rotVecQuat(position, center, model.geom_quat[geom])
    for kind in ('visual', 'collision'):
        element = ElementTree.SubElement(link, kind)
        _add_origin(element, model.geom_pos[geom] + position, model.geom_quat[geom])
        geometry = ElementTree.SubElement(element, 'geometry')
        ElementTree.SubElement(geometry, 'box', size=_text(2.0 * half))


def _add_origin(parent: ElementTree.Element, xyz, quaternion) -> None:
    """Add a pose; the quaternion is w, x, y, z."""
    ElementTree.SubElement(parent, 'origin', xyz=_text(xyz), rpy=_text(_rpy(quaternion)))


def _rpy(quaternion) -> np.ndarray:
    """Return roll, pitch and yaw of a quaternion w, x, y, z."""
    unit = np.asarray(quaternion) / np.linalg.norm(quaternion)
    R = np.zeros(9)
    mujoco.mju_quat2Mat(R, unit)
    R = R.reshape(3, 3)
    pitch = np.arctan2(-R[2, 0], np.hypot(R[0, 0], R[1, 0]))
    if np.hypot(R[0, 0], R[1, 0]) < 1e-9:
        return np.array([np.arctan2(-R[1, 2], R[1, 1]), pitch, 0.0])
    return np.array([np.arctan2(R[2, 1], R[2, 2]), pitch, np.arctan2(R[1, 0], R[0, 0])])


def _effort(model: mujoco.MjModel, joint: int) -> float:
    """Return the largest force or torque of the joint's actuator; 100 where the model has none."""
    for actuator in range(model.nu):
        if model.actuator_trnid[actuator, 0] == joint and model.actuator_forcelimited[actuator]:
            return float(model.actuator_forcerange[actuator, 1])
    return 100.0


def _text(values) -> str:
    rounded = np.round(np.atleast_1d(values), 6) + 0.0
    return ' '.join(f'{value:.6f}'.rstrip('0').rstrip('.') for value in rounded)


def main() -> int:
    """Write the file, or with --check say whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--check', action='store_true', help='only compare; exit code 1 if old')
    text = generate()
    if parser.parse_args().check:
        return int(not TARGET.is_file() or TARGET.read_text(encoding='utf-8') != text)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text, encoding='utf-8')
    print(TARGET)
    return 0


if __name__ == '__main__':
    sys.exit(main())
