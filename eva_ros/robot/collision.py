"""Do the arms touch themselves or each other? Capsules and boxes on the links (Pinocchio, coal).

coal is called hpp-fcl where it comes from PyPI; both give the same verdicts.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray
import pinocchio

from eva_ros.errors import UserError
from eva_ros.robot.kinematics import forward_kinematics
from eva_ros.robot.spec import Body
from eva_ros.robot.spec import Robot

try:
    import coal
except ImportError:
    import hppfcl as coal

Array = NDArray[np.float64]

_EPSILON_M = 1e-6
# Margins that are looked at: once, twice, four times ... the robot's.
_LEVELS = 5
# So many points share a look at which bodies can come near each other at all.
_BLOCK = 32


class CollisionWorld:
    """The bodies of the arms, and which of them must not touch.

    Args:
        robot: with bodies and a URDF.
        margin: bodies that are closer count as touching, m.

    Attributes:
        pairs: names of the bodies that are looked at.

    Raises:
        UserError: the URDF lacks a frame of a body.
    """

    def __init__(self, robot: Robot, margin: float) -> None:
        if robot.bodies is None:
            raise UserError(f'{robot.path} names no collision bodies.')
        self._kinematics = forward_kinematics(robot)
        self._model = self._kinematics.model
        self._data = self._model.createData()
        self._geometry = pinocchio.GeometryModel()
        for body in robot.bodies.bodies:
            self._geometry.addGeometryObject(self._object(body))
        names = [body.name for body in robot.bodies.bodies]
        self.pairs = [
            (names[i], names[j])
            for i in range(len(names))
            for j in range(i + 1, len(names))
            if frozenset((names[i], names[j])) not in robot.bodies.allowed and self._can_move(i, j)
        ]
        for first, second in self.pairs:
            self._geometry.addCollisionPair(
                pinocchio.CollisionPair(names.index(first), names.index(second))
            )
        self._geometry_data = self._with_margin(margin)
        self._levels = [self._with_margin(margin * 2.0**level) for level in range(_LEVELS)]
        self._active = set(range(len(self.pairs)))
        self.margin = margin
        self._reach = self._reaches()
        self._spheres = self._around_bodies()

    def first_contact(self, positions: ArrayLike) -> tuple[int, tuple[str, str]] | None:
        """Return where along a path [N, J] two bodies touch first, and which; None if none do.

        Bodies that are too close at the first point may stay as close, or part. Where bodies are
        far apart a point speaks for its neighbours too: no point of an arm may move farther than
        the margin between two points (see travel).
        """
        configurations = self._kinematics.configurations(np.asarray(positions, dtype=np.float64))
        started = self._close_at(configurations[0])
        self._look_at(self._within_reach(configurations) - set(started))
        found = self._first_touch(configurations)
        return self._first_approach(configurations[: None if found is None else found[0]],
                                    started) or found  # fmt: skip

    def _within_reach(self, configurations: Array) -> set[int]:
        """Return the pairs that come near each other at all, by spheres around the bodies.

        Looked at once in a block of points: until its ends both bodies may come closer by the
        margin for each point on the way.
        """
        joints, centres, first, second, apart = self._spheres
        near = np.zeros(len(self.pairs), dtype=bool)
        for begin in range(0, len(configurations), _BLOCK):
            middle = min(begin + _BLOCK // 2, len(configurations) - 1)
            pinocchio.forwardKinematics(self._model, self._data, configurations[middle])
            poses = [self._data.oMi[joint] for joint in range(self._model.njoints)]
            turns = np.array([pose.rotation for pose in poses])
            places = np.array([pose.translation for pose in poses])
            at = np.einsum('bij,bj->bi', turns[joints], centres) + places[joints]
            gaps = np.linalg.norm(at[first] - at[second], axis=1) - apart
            near |= gaps <= (_BLOCK + 1) * self.margin
        return set(np.flatnonzero(near).tolist())

    def _first_touch(self, configurations: Array) -> tuple[int, tuple[str, str]] | None:
        """Look at the middle of a stretch of points; at its halves where that does not do."""
        block = 2 ** (_LEVELS - 1) + 1
        count = len(configurations)
        todo = [(a, min(a + block, count)) for a in range(0, count, block)][::-1]
        while todo:
            begin, end = todo.pop()
            middle = (begin + end) // 2
            # Both bodies may come closer by the margin for each point on the way.
            away = max(middle - begin, end - 1 - middle)
            if away == 0:
                if self._touches(configurations[middle], self._levels[0]):
                    return middle, self._touching_pair()
                continue
            level = max(1, int(np.ceil(np.log2(2 * away))))
            if self._touches(configurations[middle], self._levels[level]):
                halves = [(begin, middle), (middle, middle + 1), (middle + 1, end)]
                todo += [half for half in halves[::-1] if half[0] < half[1]]
        return None

    def _first_approach(
        self, configurations: Array, started: dict[int, float]
    ) -> tuple[int, tuple[str, str]] | None:
        """Return where a pair that was too close at the start comes closer still."""
        if not started:
            return None
        for i, configuration in enumerate(configurations):
            pinocchio.updateGeometryPlacements(
                self._model, self._data, self._geometry, self._geometry_data, configuration
            )
            for number, distance in started.items():
                now = self._distance(number)
                if now < distance - _EPSILON_M:
                    return i, self.pairs[number]
                started[number] = min(self.margin, max(distance, now))
        return None

    def distances(self, positions: ArrayLike) -> dict[tuple[str, str], float]:
        """Return the distance of each pair in m for joints [J]; negative where they overlap."""
        configuration = self._kinematics.configurations(np.atleast_2d(positions))[0]
        pinocchio.updateGeometryPlacements(
            self._model, self._data, self._geometry, self._geometry_data, configuration
        )
        return {pair: self._distance(number) for number, pair in enumerate(self.pairs)}

    def travel(self, moved: ArrayLike) -> Array:
        """Return how far any point of an arm moves at most, m [N], for joints moved by [N, J]."""
        far = np.abs(np.asarray(moved, dtype=np.float64)) * self._reach
        robot = self._kinematics.robot
        return np.max([far[:, robot.arm_indices(arm)].sum(axis=1) for arm in robot.arms], axis=0)

    def _with_margin(self, margin: float) -> Any:
        """Return data for looking at the pairs with a margin of its own."""
        data = self._geometry.createData()
        for request in data.collisionRequests:
            request.security_margin = margin
        return data

    def _look_at(self, numbers: set[int]) -> None:
        """Look at these pairs alone; those of the last motion are most often the same."""
        for data in self._levels:
            for number in self._active - numbers:
                data.deactivateCollisionPair(number)
            for number in numbers - self._active:
                data.activateCollisionPair(number)
        self._active = numbers

    def _touches(self, configuration: Array, data: Any) -> bool:
        return pinocchio.computeCollisions(
            self._model, self._data, self._geometry, data, configuration, True
        )

    def _touching_pair(self) -> tuple[str, str]:
        results = self._levels[0].collisionResults
        touching = (number for number in sorted(self._active) if results[number].isCollision())
        return self.pairs[next(touching)]

    def _close_at(self, configuration: Array) -> dict[int, float]:
        """Return pairs closer than the margin, with their distances."""
        if not self._touches(configuration, self._geometry_data):
            return {}
        distances = {number: self._distance(number) for number in range(len(self.pairs))}
        return {number: d for number, d in distances.items() if d <= self.margin}

    def _distance(self, number: int) -> float:
        return pinocchio.computeDistance(self._geometry, self._geometry_data, number).min_distance

    def _object(self, body: Body) -> Any:
        frame = self._model.frames[self._kinematics.frame_id(body.frame)]
        shape, placement = _shape(body)
        # Pinocchio 3 has another name for the joint, and another order.
        joint = frame.parentJoint if hasattr(frame, 'parentJoint') else frame.parent
        placed = frame.placement * placement
        try:
            return pinocchio.GeometryObject(body.name, joint, placed, shape)
        except TypeError:
            return pinocchio.GeometryObject(body.name, joint, shape, placed)

    def _can_move(self, i: int, j: int) -> bool:
        objects = self._geometry.geometryObjects
        return objects[i].parentJoint != objects[j].parentJoint

    def _around_bodies(self) -> tuple[Array, ...]:
        """Return spheres around bodies and how far apart the centres of pairs touch.

        Joint [B] and centre in its frame [B, 3] of each body, both bodies of each pair [P], and
        the sum of their radii [P].
        """
        objects = self._geometry.geometryObjects
        for geometry in objects:
            geometry.geometry.computeLocalAABB()
        centres = np.array([g.placement.act(np.array(g.geometry.aabb_center)) for g in objects])
        radii = np.array([g.geometry.aabb_radius for g in objects])
        ends = [(pair.first, pair.second) for pair in self._geometry.collisionPairs]
        first, second = np.array(ends, dtype=int).reshape(-1, 2).T
        joints = np.array([g.parentJoint for g in objects])
        return joints, centres, first, second, radii[first] + radii[second]

    def _reaches(self) -> Array:
        """Return how far from each joint a point of the arm may lie [J], m; grippers: stroke."""
        ends: dict[int, float] = {}
        for geometry in self._geometry.geometryObjects:
            joint = geometry.parentJoint
            geometry.geometry.computeLocalAABB()
            far = np.linalg.norm(geometry.placement.act(geometry.geometry.aabb_center))
            ends[joint] = max(ends.get(joint, 0.0), far + geometry.geometry.aabb_radius)
        model = self._model
        reach: dict[int, float] = {}
        for joint in range(model.njoints - 1, 0, -1):
            reach[joint] = max([ends.get(joint, 0.0), reach.get(joint, 0.0)])
            parent = model.parents[joint]
            stroke = 0.0
            if model.joints[joint].shortname().startswith('JointModelP'):
                stroke = model.upperPositionLimit[model.joints[joint].idx_q]
            link = float(np.linalg.norm(model.jointPlacements[joint].translation)) + abs(stroke)
            reach[parent] = max(reach.get(parent, 0.0), link + reach[joint])
        robot = self._kinematics.robot
        found = np.array([reach[joint] for joint in self._kinematics.joint_ids])
        found[robot.gripper_mask] = np.abs(self._kinematics.strokes)
        return found


def _shape(body: Body) -> tuple[Any, pinocchio.SE3]:
    if body.box is not None:
        center, size = body.box
        return coal.Box(*size), pinocchio.SE3(np.eye(3), np.array(center))
    assert body.capsule is not None
    begin, end = np.array(body.capsule[0]), np.array(body.capsule[1])
    axis, length = end - begin, float(np.linalg.norm(end - begin))
    turn = np.eye(3)
    if length > _EPSILON_M:
        turn = pinocchio.Quaternion.FromTwoVectors(np.array([0.0, 0.0, 1.0]), axis).matrix()
    return coal.Capsule(body.capsule[2], length), pinocchio.SE3(turn, (begin + end) / 2.0)


@lru_cache(maxsize=8)
def collision_world(robot: Robot, margin: float) -> CollisionWorld | None:
    """Return the robot's world, built once; None where its YAML names no bodies."""
    return None if robot.bodies is None else CollisionWorld(robot, margin)
