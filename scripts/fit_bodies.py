"""Print the `collision` bodies of config/robots/aloha_sim.yaml, fitted to gym-aloha's meshes.

    python scripts/fit_bodies.py

The triangles of a link are cut across its axes, again and again where that saves the most volume.
Around each part goes the smaller one of a capsule and a box along the link's axes. Both are
convex, so they hold what lies between the vertices too; triangles that are long are divided first.
Only these figures enter the repository.
"""

from pathlib import Path

import gym_aloha
import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

MODEL = Path(gym_aloha.__file__).parent / 'assets' / 'bimanual_viperx_transfer_cube.xml'
# Name of the bodies, MuJoCo's name of the link, number of parts.
LINKS = (
    ('base', 'base_link', 5),
    ('shoulder', 'shoulder_link', 2),
    ('upper_arm', 'upper_arm_link', 4),
    ('upper_forearm', 'upper_forearm_link', 3),
    ('lower_forearm', 'lower_forearm_link', 2),
    ('wrist', 'wrist_link', 3),
    ('gripper_body', 'gripper_link', 5),
    ('left_finger', 'left_finger_link', 5),
    ('right_finger', 'right_finger_link', 5),
)
# What turns with a link without a joint of its own that the robot YAML knows.
FIXED = {'gripper_body': 'gripper_prop_link'}
# A triangle that is longer lies in several parts.
_LONGEST_M = 0.008
# Places along an axis where a cut is tried.
_CUTS = 24
Array = NDArray[np.float64]


def main() -> None:
    """Print a line for each body of the left arm; the right arm's are the same."""
    model = mujoco.MjModel.from_xml_path(str(MODEL))
    for name, link, count in LINKS:
        body = 'vx300s_left' if name == 'base' else f'vx300s_left/{link}'
        corners = triangles(model, model.body(body).id)
        if name in FIXED:
            corners = np.vstack([corners, _of_child(model, f'vx300s_left/{FIXED[name]}')])
        for number, points in enumerate(parts(corners, count)):
            suffix = f'_{number + 1}' if count > 1 else ''
            print(f'    - {{name: left_{name}{suffix}, frame: left_{link}, {_shape(points)}}}')


def triangles(model: mujoco.MjModel, body: int) -> Array:
    """Return the triangles of a body's meshes in its frame [N, 3, 3], m."""
    found = []
    for geom in np.flatnonzero(model.geom_bodyid == body):
        if model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_MESH:
            continue
        mesh = model.geom_dataid[geom]
        first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
        points = model.mesh_vert[first : first + count] @ rotation.reshape(3, 3).T
        face, faces = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        found.append((points + model.geom_pos[geom])[model.mesh_face[face : face + faces]])
    return np.vstack(found)


def _of_child(model: mujoco.MjModel, name: str) -> Array:
    """Return the triangles of a link in the frame of the one that it is fixed to."""
    child = model.body(name)
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, child.quat)
    return triangles(model, child.id) @ rotation.reshape(3, 3).T + child.pos


def divided(corners: Array) -> Array:
    """Return triangles [M, 3, 3] of the same surface that are no longer than _LONGEST_M."""
    done = []
    while len(corners):
        edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
        long = edges.max(axis=1) > _LONGEST_M
        done.append(corners[~long])
        a, b, c = corners[long].transpose(1, 0, 2)
        ab, bc, ca = (a + b) / 2.0, (b + c) / 2.0, (c + a) / 2.0
        quarters = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
        corners = np.concatenate([np.stack(quarter, axis=1) for quarter in quarters])
    return np.concatenate(done)


def parts(corners: Array, count: int) -> list[Array]:
    """Return the vertices [N, 3] of so many parts of a surface, cut where it saves most volume.

    They are in order along its longest axis.
    """
    longest = int(np.argmax(np.ptp(corners.reshape(-1, 3), axis=0)))
    found = [divided(corners)]
    while len(found) < count:
        cuts = [_best_cut(part) for part in found]
        worst = int(np.argmax([saved for saved, _ in cuts]))
        below, part = cuts[worst][1], found.pop(worst)
        found += [part[below], part[~below]]
    points = sorted((part.reshape(-1, 3) for part in found), key=lambda p: p[:, longest].mean())
    return [part[ConvexHull(part).vertices] for part in points]


def _best_cut(corners: Array) -> tuple[float, NDArray[np.bool_]]:
    """Return how much volume of boxes the best cut across an axis saves, and what lies below."""
    middles, whole = corners.mean(axis=1), _volume(corners)
    found = []
    for axis, (low, high) in enumerate(zip(middles.min(axis=0), middles.max(axis=0))):
        for place in np.linspace(low, high, _CUTS + 2)[1:-1]:
            below = middles[:, axis] < place
            found.append((whole - _volume(corners[below]) - _volume(corners[~below]), below))
    return max(found, key=lambda cut: cut[0])


def _volume(corners: Array) -> float:
    return float(np.prod(np.ptp(corners.reshape(-1, 3), axis=0)))


def _shape(points: Array) -> str:
    begin, end, radius = capsule(points)
    low, high = points.min(axis=0), points.max(axis=0)
    volume = np.pi * radius**2 * (np.linalg.norm(end - begin) + 4.0 / 3.0 * radius)
    if np.prod(high - low) < volume:
        size = np.ceil((high - low) * 1e4 + 1.0) / 1e4
        return f'box: {{center: {_text((low + high) / 2.0)}, size: {_text(size)}}}'
    radius = np.ceil(radius * 1e4 + 1.0) / 1e4
    return f'capsule: {{from: {_text(begin)}, to: {_text(end)}, radius: {radius:.4f}}}'


def capsule(points: Array) -> tuple[Array, Array, float]:
    """Return ends and radius of the smallest capsule found around points [N, 3]."""
    centred = points - points.mean(axis=0)
    principal = np.linalg.svd(centred, full_matrices=False)[2]
    found = [_along(points, axis) for axis in (*np.eye(3), *principal)]
    return min(found, key=lambda c: np.pi * c[2] ** 2 * (np.linalg.norm(c[1] - c[0]) + c[2]))


def _along(points: Array, axis: Array) -> tuple[Array, Array, float]:
    """Return the capsule along an axis through the middle of the points' extent across it."""
    across = np.linalg.svd(np.eye(3) - np.outer(axis, axis))[0][:, :2]
    flat = points @ across
    middle = _smallest_circle(flat)
    away = np.linalg.norm(flat - middle, axis=1)
    radius = float(away.max())
    along = points @ axis
    cap = np.sqrt(np.maximum(radius**2 - away**2, 0.0))
    low, high = float((along + cap).min()), float((along - cap).max())
    if low > high:
        low = high = (low + high) / 2.0
    begin, end = middle @ across.T + low * axis, middle @ across.T + high * axis
    outside = [np.linalg.norm(points - _nearest(points, begin, end), axis=1).max()]
    return begin, end, float(max(radius, *outside))


def _smallest_circle(flat: Array) -> Array:
    """Return the middle of the smallest circle around points [N, 2] (Badoiu and Clarkson)."""
    middle = flat.mean(axis=0)
    for i in range(1, 2000):
        far = flat[np.argmax(np.linalg.norm(flat - middle, axis=1))]
        middle = middle + (far - middle) / (i + 1)
    return middle


def _nearest(points: Array, begin: Array, end: Array) -> Array:
    along = end - begin
    squared = float(along @ along)
    part = np.clip((points - begin) @ along / squared, 0.0, 1.0) if squared else np.zeros(1)
    return begin + part[:, None] * along


def _text(values: Array) -> str:
    return '[' + ', '.join(f'{value:.4f}' for value in values + 0.0) + ']'


if __name__ == '__main__':
    main()
