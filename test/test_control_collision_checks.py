"""Arms that would touch themselves or each other are not moved."""

from dataclasses import replace

import numpy as np
import pinocchio
import pytest

from eva_ros.control.chunk import Chunk
from eva_ros.control.collision_checks import instants
from eva_ros.control.gate import check_chunk
from eva_ros.control.settings import GateSettings
from eva_ros.robot.collision import collision_world
from eva_ros.robot.collision import CollisionWorld
from eva_ros.robot.motion import minimum_jerk
from eva_ros.robot.spec import load_robot
from eva_ros.robot.splines import HermiteSpline

ROBOT = load_robot('aloha_sim')
WIDE = GateSettings(max_time_stretch=50.0, collision_margin=0.005)
NAMES = list(ROBOT.joint_names)


def pose(**joints):
    q = ROBOT.home.copy()
    for name, value in joints.items():
        q[NAMES.index(name)] = value
    return q


def judge(begin, end, robot=ROBOT, settings=WIDE):
    chunk = Chunk(0, 1, robot.joint_names, 0.1, minimum_jerk(begin, end, 17), begin)
    return check_chunk(chunk, begin, robot, settings, 0)


# The arms stand face to face along x (gym-aloha's bases), and reach for each other.
REACHING = pose(left_shoulder=0.75, left_elbow=-0.35, right_shoulder=0.75, right_elbow=-0.35)


def test_home_is_free_and_bodies_are_those_of_both_arms():
    world = collision_world(ROBOT, 0.005)
    assert world.first_contact(ROBOT.home[None]) is None
    sides = {tuple(sorted({name.split('_')[0] for name in pair})) for pair in world.pairs}
    assert sides == {('left',), ('right',), ('left', 'right')}


def test_arms_that_reach_into_each_other_are_refused_with_the_pair():
    verdict = judge(ROBOT.home, REACHING)
    assert (verdict.accepted, verdict.reason) == (False, 'COLLISION')
    assert verdict.command == {}
    assert {name.split('_')[0] for name in verdict.collision_pair} == {'left', 'right'}
    assert all(name in verdict.detail for name in verdict.collision_pair)


def test_one_arm_that_reaches_alone_is_free():
    alone = pose(left_shoulder=0.2, left_elbow=0.1)
    verdict = judge(ROBOT.home, alone)
    assert verdict.accepted, verdict.detail


def test_without_the_check_nothing_is_looked_at():
    settings = WIDE.model_copy(update={'check_collisions': False})
    assert judge(ROBOT.home, REACHING, settings=settings).accepted


def test_an_arm_that_folds_into_itself_is_refused():
    folded = pose(left_elbow=1.4, left_wrist_angle=1.8, left_shoulder=-1.4)
    verdict = judge(ROBOT.home, folded)
    assert (verdict.accepted, verdict.reason) == (False, 'COLLISION')
    assert {name.split('_')[0] for name in verdict.collision_pair} == {'left'}


def test_an_arm_that_rests_folded_is_not_taken_for_touching_itself():
    """The pose in which an idle arm ends: 4 mm were left by boxes that were too wide."""
    folded = [-0.01, -1.48, 1.58, -0.02, 0.42, -0.05, 0.04]
    q = np.concatenate([ROBOT.home[:7], folded])
    pair, distance = min(
        collision_world(ROBOT, 0.005).distances(q).items(), key=lambda item: item[1]
    )
    assert distance > 0.01, (pair, distance)


def test_the_first_contact_is_that_of_all_pairs_at_all_points():
    """Whatever was looked at before: the pairs of one motion are not those of the next."""
    world = CollisionWorld(ROBOT, 0.005)
    rng = np.random.default_rng(1)
    low, high = ROBOT.limits.min_position, ROBOT.limits.max_position
    found = 0
    for turn in range(24):
        end = np.clip(REACHING + rng.normal(0.0, 0.15, 14), low, high)
        begin = end + 0.3 * (ROBOT.home - end)
        count = int(np.ceil(world.travel((end - begin)[None])[0] / world.margin)) + 1
        path = np.linspace(begin, end, count) if turn % 3 else np.tile(ROBOT.home, (3, 1))
        near = [
            {pair for pair, distance in world.distances(q).items() if distance <= world.margin}
            for q in path
        ]
        touching = [(i, pairs - near[0]) for i, pairs in enumerate(near) if pairs - near[0]]
        contact = world.first_contact(path)
        if not touching:
            # Those that began too close may not come closer.
            assert contact is None or contact[1] in near[0]
            continue
        index, pairs = touching[0]
        assert contact is not None and contact[0] <= index
        assert contact[1] in (pairs if contact[0] == index else near[0]) | near[0]
        found += contact[1] in pairs
    assert found >= 3


def test_arms_that_start_too_close_may_part_but_not_close_in():
    world = CollisionWorld(ROBOT, 0.02)
    line = np.linspace(ROBOT.home, REACHING, 400)
    index, pair = world.first_contact(line)
    assert world.distances(line[index])[pair] == pytest.approx(0.02, abs=0.01)
    touching = line[index + 1]
    apart = np.linspace(touching, ROBOT.home, 100)
    assert world.first_contact(apart) is None
    closer = world.first_contact(np.linspace(touching, REACHING, 100))
    assert closer is not None and closer[0] >= 1


def test_no_point_moves_farther_than_the_margin_between_two_instants():
    world = collision_world(ROBOT, 0.01)
    rng = np.random.default_rng(0)
    q = ROBOT.home + 0.5 * rng.normal(size=(6, 14)) * ~ROBOT.gripper_mask
    path = HermiteSpline(np.arange(6) * 0.3, q, rng.normal(size=q.shape), np.zeros_like(q))
    times = instants(path, world)
    positions = path.sample(times)[0]
    geometry, data = world._geometry, world._geometry.createData()
    last = None
    for configuration in world._kinematics.configurations(positions):
        pinocchio.updateGeometryPlacements(
            world._model, world._data, geometry, data, configuration
        )
        ends = [placement.act(np.zeros(3)) for placement in data.oMg]
        if last is not None:
            assert max(np.linalg.norm(a - b) for a, b in zip(ends, last)) <= 0.01 + 1e-9
        last = ends


def test_every_allowed_pair_and_body_is_of_the_urdf(tmp_path):
    bodies = ROBOT.bodies
    names = {body.name for body in bodies.bodies}
    assert all(len(pair) == 2 and pair <= names for pair in bodies.allowed)
    for body in bodies.bodies:
        assert (body.capsule is None) != (body.box is None)


def test_an_end_effector_that_leaves_the_workspace_is_refused():
    boxed = replace(ROBOT, workspace=((-0.6, -1.0, 0.0), (0.6, 1.0, 0.5)))
    assert judge(ROBOT.home, ROBOT.home, robot=boxed).accepted
    up = pose(left_shoulder=-0.3, left_elbow=-0.6)
    verdict = judge(ROBOT.home, up, robot=boxed)
    assert verdict.reason == 'WORKSPACE'
    assert 'left arm' in verdict.detail and 'along z' in verdict.detail
