"""From bags to a command, for two arms of seven joints, for one arm, and without grippers."""

import json

import cv2
import numpy as np
import pytest
from robot_files import write_robot
from test_robot_any_arms import PAIRS
import yaml

from eva_ros.cli.main import main
from eva_ros.idm.checkpoint import load_idm
from eva_ros.idm.reading import read_rollout
from eva_ros.observations.views import view_of
from eva_ros.recordings.bag_writer import EpisodeBagWriter
from eva_ros.robot.motion import minimum_jerk
from eva_ros.robot.spec import load_robot
from eva_ros.world_model.checkpoint import load_world_model

RATE_HZ = 10.0
SIZE = (48, 64)
TEXT = 'pick up the cup'


def made(folder, kind):
    """Return the YAML of a robot, whose view is 48x64 pixels of its camera, and the view's."""
    content = dict(PAIRS[kind])
    if kind == 'a right arm alone':
        # By its name it belongs to an arm that is not there.
        content['cameras'] = {
            'left_side': {**content['cameras']['top'], 'topic': 'side/image_raw'}
        }
    path = write_robot(folder, content)
    (camera,) = content['cameras']
    view = {'name': 'made_up', 'height': SIZE[0], 'width': SIZE[1], 'rate_hz': RATE_HZ,
            'frames': 9, 'cameras': [{'name': camera, 'box': [0, 0, *SIZE]}]}  # fmt: skip
    (folder / 'view.yaml').write_text(yaml.safe_dump(view))
    return path, folder / 'view.yaml'


def frame(shares):
    """Return a picture [H, W, 3] with a column for each joint, filled as far as it has moved."""
    image = np.full((*SIZE, 3), 30, np.uint8)
    width = SIZE[1] // len(shares)
    for joint, share in enumerate(shares):
        height = round(4 + 40 * share)
        image[-height:, joint * width : (joint + 1) * width - 1] = 120 + 8 * joint
    return image


def write_bags(folder, robot, count=3):
    """Write episodes in which all joints move a little, rest, and move back."""
    (camera,) = robot.cameras.values()
    for number in range(count):
        goal = robot.home + np.random.default_rng(number).uniform(0.1, 0.25, len(robot.home))
        way = minimum_jerk(robot.home, goal, 20)
        path = np.concatenate([way[:1].repeat(4, 0), way, way[::-1], way[:1].repeat(4, 0)])
        writer = EpisodeBagWriter(folder / f'bag{number}', robot.name, {}, number)
        stamps = [10**9 + round(i * 1e9 / RATE_HZ) for i in range(len(path))]
        writer.write_episode(stamps[0], start=True, task='pick', instruction=TEXT)
        for stamp, joints in zip(stamps, path):
            for arm, spec in robot.arms.items():
                own = spec.state_interface.to_message(joints[robot.arm_indices(arm)])
                writer.write_joint_state(
                    f'/{spec.state_topic}', stamp, spec.state_joints, own, np.zeros(0)
                )
            shown = frame((joints - robot.home) / 0.25)
            packed = cv2.imencode('.png', shown[..., ::-1])[1].tobytes()
            writer.write_image(f'/{camera.topic}', stamp, camera.name, packed, 'png')
        writer.write_episode(stamps[-1], start=False, task='pick', instruction=TEXT, success=True)
        writer.close()


def run(capsys, *arguments, code=0):
    assert main([str(argument) for argument in arguments]) == code
    return capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['seven joints each', 'a right arm alone', 'no grippers'])
def test_bags_become_models_and_a_dream_becomes_a_command_for_each_arm(tmp_path, capsys, kind):
    path, view_path = made(tmp_path, kind)
    robot = load_robot(path)
    view = view_of(robot, view_path)
    write_bags(tmp_path / 'bags', robot)
    world = ('--robot', path, '--view', view_path)
    checks = json.loads(run(capsys, 'bags', 'check', tmp_path / 'bags', *world, '--json'))
    assert [c['verdict'] for c in checks['bags']] == ['usable'] * 3, checks
    run(capsys, 'bags', 'view', tmp_path / 'bags', *world, '--out', tmp_path / 'page.html')
    run(capsys, 'bags', 'export', tmp_path / 'bags', *world, '--out', tmp_path / 'export')

    data = ('--bags', tmp_path / 'bags', *world, '--cache', tmp_path / 'cache')
    idm = tmp_path / 'idm'
    run(capsys, 'idm', 'train', *data, '--out', idm, '--steps', 4, '--batch', 2,
        '--held-out', 0.4)  # fmt: skip
    figures = json.loads(
        run(capsys, 'idm', 'evaluate', '--checkpoint', idm, *data, '--all', '--json')
    )
    assert list(figures['joint_error']) == list(robot.joint_names)
    run(capsys, 'idm', 'evaluate', '--checkpoint', idm, *data, '--all')

    if kind == 'seven joints each':
        small = ('--steps', 2, '--batch', 2, '--width', 64, '--layers', 1, '--processes', 1)
        model = tmp_path / 'world_model'
        run(capsys, 'world-model', 'train', *data, '--out', model, *small)
        judged = run(capsys, 'world-model', 'evaluate', *data, '--world-model', model,
                     '--idm', idm, '--clips', 2, '--steps', 2, '--json')  # fmt: skip
        assert json.loads(judged)['clips'] == 2
        align(capsys, tmp_path, world, ('--world-model', model, '--idm', idm))
        dreamer = load_world_model(model, robot=robot, view=view)
        rollout = dreamer.dream(np.full(view.shape, 30, np.uint8), TEXT, seed=0, steps=2)
        frames, dt = rollout.frames, rollout.dt
    else:
        shares = np.linspace(0, 1, 9)
        frames = np.stack([frame(np.full(len(robot.home), share)) for share in shares])
        dt = 1.0 / RATE_HZ
    read = read_rollout(load_idm(idm, robot, view), frames)
    assert read.smoothed.shape == (len(frames), len(robot.joint_names))
    np.savez(tmp_path / 'chunk.npz', positions=robot.gripping(read.smoothed), dt=dt)
    verdict = json.loads(
        run(capsys, 'gate', 'check', tmp_path / 'chunk.npz', '--robot', path, '--json')
    )
    assert verdict['accepted'] and set(verdict['arms']) == set(robot.arms)
    for arm, message in verdict['arms'].items():
        assert message['joint_names'] == list(robot.arms[arm].controller.joints)


def align(capsys, folder, world, models):
    """Align on all recordings and compare the dreams of one; neither may be left with none."""
    bags, cache = folder / 'bags', ('--cache', folder / 'cache')
    one, lora = next(path for path in bags.iterdir()), folder / 'lora'
    every = ('--bags', bags, *world, *cache, '--held-out', 0, *models)
    alone = ('--bags', one, *world, *cache, '--held-out', 1, *models)
    train = ('--out', lora, '--iterations', 1)
    # The IDM is hardly trained: no reward would pass its probes.
    run(capsys, 'align', *every, *train, '--algorithm', 'finetune', '--clips', 1)
    found = json.loads(run(capsys, 'align', 'evaluate', *alone, '--lora', lora, '--json'))
    assert found['views'] >= 1
    for arguments, words in (
        (('align', 'evaluate', *every, '--lora', lora), 'No episode is held out'),
        (('align', *alone, *train), 'Every episode is held out'),
    ):
        assert main([str(argument) for argument in arguments]) == 2
        assert words in capsys.readouterr().err
