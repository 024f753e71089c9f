"""Scenes: clean ones are those of gym-aloha, randomised ones look and start differently."""

from dataclasses import asdict
from pathlib import Path

import gym_aloha
import mujoco
import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from eva_ros.cli.main import main
from eva_ros.errors import UserError
from eva_ros.sim.robot import SimRobot
from eva_ros.sim.scenes import CLEAN
from eva_ros.sim.scenes import parse_scenes
from eva_ros.sim.scenes import Scenes
from eva_ros.sim.tasks import draw_scene
from eva_ros.sim.tasks import TASKS
from eva_ros.sim.world import AlohaWorld
from eva_ros.sim.world import CAMERAS

SIZE = (48, 64)
FULL = Scenes(1.0)
# Seed 7 as it was drawn before there were randomised scenes.
JOINTS_7 = [
    0.014681659102280368,
    -1.438614299890343,
    1.5589613491092158,
    0.018855430979511142,
    0.3196559500429027,
    -0.04306780297527511,
    0.9838478221014717,
    3.069476634984802e-05,
    -1.572584965454745,
    1.40382286780659,
    -0.1005431960326998,
    0.20755106789979594,
    -0.10631939674014186,
    0.9086683194614853,
]
CUBE_7 = [0.005180051641726108, 0.5839494354938412, 0.02]


def pictures(scene, cluttered):
    """Return the images of a scene [3, H, W, 3] by a world of its own."""
    world = AlohaWorld(*SIZE, cluttered=cluttered)
    try:
        world.reset(scene.joints, scene.target, scene.look)
        world.step()
        return np.stack([world.render(camera) for camera in CAMERAS])
    finally:
        world.close()


def test_clean_scenes_start_as_they_always_did():
    scene = draw_scene(TASKS['lift_left'], 7)
    np.testing.assert_array_equal(scene.joints, JOINTS_7)
    np.testing.assert_array_equal(scene.target, CUBE_7)
    assert scene.look is None
    assert draw_scene(TASKS['lift_left'], 7, CLEAN).look is None


def test_clean_scenes_look_and_move_as_gym_alohas_own_world():
    """Also after a randomised scene in the same world, which leaves nothing behind."""
    path = Path(gym_aloha.__file__).parent / 'assets' / 'bimanual_viperx_transfer_cube.xml'
    clean = draw_scene(TASKS['lift_left'], 7)
    world = AlohaWorld(*SIZE)
    untouched = mujoco.MjModel.from_xml_path(str(path))
    found = draw_scene(TASKS['lift_left'], 3, FULL)
    world.reset(found.joints, found.target, found.look)
    world.reset(clean.joints, clean.target)
    for name in ('geom_rgba', 'light_diffuse', 'light_dir', 'cam_pos', 'cam_quat', 'cam_mode'):
        np.testing.assert_array_equal(getattr(world.model, name), getattr(untouched, name))
    np.testing.assert_array_equal(world.model.cam_fovy, untouched.cam_fovy)
    light = world.model.vis.headlight.ambient
    np.testing.assert_array_equal(light, untouched.vis.headlight.ambient)
    data = mujoco.MjData(untouched)
    data.qpos[:16] = data.ctrl[:] = world.data.ctrl
    data.qpos[16:] = [*clean.target, 1, 0, 0, 0]
    mujoco.mj_step(untouched, data, 250)
    np.testing.assert_array_equal(world.data.qpos, data.qpos)


def test_a_randomised_scene_is_the_same_for_the_same_seed_and_another_for_the_next():
    first, again, other = (draw_scene(TASKS['lift_left'], s, FULL) for s in (4, 4, 5))
    np.testing.assert_array_equal(pictures(first, True), pictures(again, True))
    for name, value in asdict(first.look).items():
        np.testing.assert_array_equal(value, getattr(again.look, name))
        assert not np.array_equal(value, getattr(other.look, name), equal_nan=True), name


def test_a_randomised_scene_keeps_the_cubes_place_and_widens_the_start_poses():
    moved = []
    for seed in range(50):
        clean, randomised = (draw_scene(TASKS['lift_left'], seed, s) for s in (CLEAN, FULL))
        np.testing.assert_array_equal(clean.target, randomised.target)
        moved.append(np.abs(randomised.joints[:6] - [0, -1.5, 1.5, 0, 0.3, 0]).max())
    assert 0.12 < max(moved) <= 0.18


def test_every_camera_sees_that_a_scene_is_randomised_more_so_at_a_higher_level():
    def change(level):
        scenes = [draw_scene(TASKS['lift_left'], seed, Scenes(level)) for seed in range(4)]
        clean = [draw_scene(TASKS['lift_left'], seed) for seed in range(4)]
        pairs = [
            np.abs(pictures(a, True).astype(float) - pictures(b, False)).mean(axis=(1, 2, 3))
            for a, b in zip(scenes, clean)
        ]
        return np.mean(pairs, axis=0)

    full, little = change(1.0), change(0.2)
    assert (full > 15).all()
    assert (little < 0.7 * full).all() and (little > 1).all()


def test_the_cube_stays_red_and_no_distractor_is():
    for seed in range(60):
        look = draw_scene(TASKS['lift_left'], seed, FULL).look
        red, green, blue = look.target
        assert red > 0.5 and max(green, blue) < 0.5 * red
        assert all(colour[0] < 1.5 * max(colour[1:]) for colour in look.colours)


def test_distractors_lie_on_the_table_and_in_nobodys_way():
    counts = []
    for seed in range(60):
        for task in ('lift_left', 'transfer_cube'):
            scene = draw_scene(TASKS[task], seed, FULL)
            places = scene.look.places[~np.isnan(scene.look.places[:, 0]), :2]
            counts.append(len(places))
            assert (np.linalg.norm(places - scene.target[:2], axis=1) > 0.14).all()
    assert min(counts) >= 1 and max(counts) >= 5


def test_an_arm_cannot_pass_through_a_distractor():
    world = AlohaWorld(*SIZE, cluttered=True)
    geoms = [world.model.geom(f'distractor_{i}').id for i in range(6)]
    assert world.model.geom_contype[geoms].all() and world.model.geom_conaffinity[geoms].all()


@pytest.mark.parametrize('text', ['clean', 'randomised:0.5', 'randomised:1'])
def test_scenes_are_named_as_they_are_given(text):
    assert str(parse_scenes(text)) == text


def test_randomised_alone_is_full_strength():
    assert parse_scenes('randomised') == FULL


@pytest.mark.parametrize(
    'text', ['dirty', 'clean:1', 'randomised:', 'randomised:0', 'randomised:2', 'randomised:nan']
)
def test_unknown_scenes_are_refused_in_one_sentence(text, capsys):
    with pytest.raises(
        UserError, match=f"no scenes '{text}'.*clean, randomised or randomised:LEV"
    ):
        parse_scenes(text)
    with pytest.raises(SystemExit) as end:
        main(['evaluate', '--variants', 'still', '--scenes', text])
    assert end.value.code == 2
    assert f"no scenes '{text}'" in capsys.readouterr().err.splitlines()[-1]


def test_a_simulated_robot_changes_between_clean_and_randomised_scenes():
    sim = SimRobot('reach_left', 4, scenes=FULL, height=48, width=64)
    randomised = sim.world.render('top')
    begun_ns = sim.time_ns
    sim.reset('reach_left', 4, draw_scene(TASKS['reach_left'], 4))
    clean = sim.world.render('top')
    assert np.abs(randomised.astype(float) - clean).mean() > 10
    sim.advance(0.1)
    assert sim.time_ns == begun_ns + 100_000_000
    sim.close()


def test_a_recorded_bag_says_which_scenes_it_shows(tmp_path, capsys):
    arguments = ['sim', 'record', '--task', 'reach_left', '--episodes', '1', '--workers', '1']
    arguments += ['--out', str(tmp_path), '--pauses', '0']
    assert main([*arguments, '--scenes', 'randomised:0.5']) == 0
    (path,) = tmp_path.iterdir()
    assert 'eva.scenes: randomised:0.5' in (path / 'metadata.yaml').read_text()
    with Reader(path) as bag:
        assert bag.message_count > 100
    assert main(arguments) == 2
    assert 'was recorded with other settings' in capsys.readouterr().err
