"""Dreams in the bags of attempts: read back with seed, checkpoint and how the attempt ended."""

from collections import Counter
from dataclasses import replace

from episode_bags import joints_at
from episode_bags import jpeg
from episode_bags import picture
from episode_bags import record
from episode_bags import SECOND
import numpy as np
import probe_world
import pytest

from eva_ros.alignment.attempt_probe import probe_attempts
from eva_ros.alignment.attempts import AttemptDream
from eva_ros.alignment.attempts import dream_prompts
from eva_ros.alignment.attempts import read_dreams
from eva_ros.alignment.attempts import require_checkpoint
from eva_ros.alignment.prompts import find_prompts
from eva_ros.errors import UserError
from eva_ros.observations.views import load_view
from eva_ros.recordings.attempt_writer import AttemptBagWriter
from eva_ros.recordings.records import ChunkRecord
from eva_ros.recordings.records import EXECUTABILITY
from eva_ros.recordings.records import ReportRecord
from eva_ros.recordings.records import RolloutRecord
from eva_ros.robot.spec import load_robot

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
WORLD_MODEL = 'world_model@0123456789ab'
TOLD = 'reach the cube'


def dreamed(rollout_id, now_ns, *, size=None, checkpoint=WORLD_MODEL, robot=ROBOT.name):
    """Return a dream and its chunk as of an instant; its frames and seed say its number."""
    height, width = size or (VIEW.height, VIEW.width)
    shared = {
        'received_ns': now_ns,
        'stamp_ns': now_ns,
        'observation_stamp_ns': now_ns - SECOND // 5,
        'rollout_id': rollout_id,
        'robot': robot,
        'instruction': TOLD,
        'dt': 1 / VIEW.rate_hz,
        'joint_names': ROBOT.joint_names,
    }
    frames = np.full((VIEW.frames, height, width, 3), rollout_id, np.uint8)
    rollout = RolloutRecord(
        'rollout', **shared, frames=frames, joint_positions=joints_at(now_ns),
        seed=1000 + rollout_id, denoising_steps=4, checkpoint=checkpoint, duration_s=0.5,
    )  # fmt: skip
    chunk = ChunkRecord(
        'chunk', **shared, positions=np.tile(joints_at(now_ns), (VIEW.frames, 1)),
        observed_positions=joints_at(now_ns), confidence=0.5,
        executability=dict.fromkeys(EXECUTABILITY, 1.0), checkpoint='idm@1',
    )  # fmt: skip
    return rollout, chunk


def write_dream(writer, rollout_id, now_ns, *, sent=True, **changes):
    rollout, chunk = dreamed(rollout_id, now_ns, **changes)
    writer.write_rollout(rollout)
    writer.write_chunk(chunk)
    nothing = np.zeros(14)
    fields = {
        'accepted': sent, 'sent': sent, 'detail': 'as planned', 'stretch': 1.5,
        'joint_names': list(ROBOT.joint_names), 'clamped_steps': nothing.astype(np.uint32),
        'clamped_max_rad': nothing, 'limit_violations_before': 0, 'limit_violations_after': 0,
        'execute_steps': 16, 'duration_s': 1.0, 'observation_age_s': 0.2,
        'joint_state_age_s': 0.0, 'start_deviation_rad': 0.0, 'collision_pair': [],
    }  # fmt: skip
    writer.write_report('chunk_report', chunk, 'OK' if sent else 'NOT_ARMED', fields)


def write_attempts(path, outcomes=(True,), *, sent=True, robot=ROBOT.name, **changes):
    """Write a bag of attempts of 4 s, each with two dreams, and a dream behind each."""
    writer = AttemptBagWriter(path, robot, {})
    about = {'task': 'reach_left', 'instruction': TOLD}
    rollout_id, now_ns = 0, SECOND
    for success in outcomes:
        writer.write_episode(now_ns, start=True, **about)
        for step in range(401):
            if step % 5 == 0:
                for camera in ('top', 'left_wrist', 'right_wrist'):
                    image = jpeg(picture(camera, now_ns))
                    writer.write_image(f'/{camera}/image_raw/compressed', now_ns, '', image)
            names, values = ROBOT.to_joint_state(joints_at(now_ns))
            writer.write_joint_state('/joint_states', now_ns, names, values, np.zeros(14))
            if step in (50, 150):
                rollout_id += 1
                write_dream(writer, rollout_id, now_ns, sent=sent, robot=robot, **changes)
            now_ns += SECOND // 100
        writer.write_episode(now_ns, start=False, success=success, **about)
        now_ns += SECOND // 2
        rollout_id += 1
        write_dream(writer, rollout_id, now_ns, **changes)
        now_ns += SECOND // 2
    writer.close()
    return path


def test_each_dream_comes_back_with_the_attempt_that_it_belongs_to(tmp_path, load):
    bag = write_attempts(tmp_path / 'bag', (True, False))
    dreams = list(read_dreams([bag], ROBOT, VIEW))
    assert [(dream.number, dream.rollout.seed) for dream in dreams] == [
        (0, 1001), (0, 1002), (1, 1004), (1, 1005),
    ]  # fmt: skip
    for dream in dreams:
        frames, number = dream.rollout.frames, dream.rollout.rollout_id
        assert frames.shape == (VIEW.frames, VIEW.height, VIEW.width, 3)
        assert (frames == number).all() and dream.rollout.checkpoint == WORLD_MODEL
        assert dream.chunk.rollout_id == dream.report.rollout_id == number and dream.sent
    episodes, _ = load(bag)
    prompts = dream_prompts(dreams, episodes)
    assert [(p.seed, p.success, p.episode) for p in prompts] == [
        (1001, True, 0), (1002, True, 0), (1004, False, 1), (1005, False, 1),
    ]  # fmt: skip
    assert {(p.instruction, p.task, p.checkpoint) for p in prompts} == {
        (TOLD, 'reach_left', WORLD_MODEL)
    }


def test_the_joints_of_a_dream_are_those_measured_while_it_was_done(tmp_path, load):
    bag = write_attempts(tmp_path / 'bag')
    episodes, _ = load(bag)
    first = dream_prompts(read_dreams([bag], ROBOT, VIEW), episodes)[0]
    # Sent at 1.5 s, half as slow again as dreamed; these joints move evenly.
    due_ns = 1.5 * SECOND + np.arange(VIEW.frames) * 1.5 / VIEW.rate_hz * SECOND
    np.testing.assert_allclose(first.joints, [joints_at(ns) for ns in due_ns], atol=1e-3)


def test_dreams_that_the_arms_never_did_teach_nothing(tmp_path, load):
    bag = write_attempts(tmp_path / 'bag', sent=False)
    dreams = list(read_dreams([bag], ROBOT, VIEW))
    assert len(dreams) == 2 and not any(dream.sent for dream in dreams)
    assert dream_prompts(dreams, load(bag)[0]) == []


def test_a_bag_without_dreams_has_none(tmp_path):
    assert list(read_dreams([record(tmp_path / 'bag')], ROBOT, VIEW)) == []


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'robot': 'piper_dual'}, "made by robot 'piper_dual', not by 'aloha_sim'"),
        ({'size': (16, 16)}, 'are 16x16 at 10 Hz, but view .aloha_sim. has'),
    ],
)
def test_attempts_of_another_robot_or_view_are_refused_in_a_sentence(tmp_path, changes, words):
    bag = write_attempts(tmp_path / 'bag', **changes)
    with pytest.raises(UserError, match=words) as refusal:
        list(read_dreams([bag], ROBOT, VIEW))
    assert str(bag) in str(refusal.value)


def test_attempts_of_another_checkpoint_are_refused_in_a_sentence(tmp_path):
    write_attempts(tmp_path / 'bags' / 'one')
    write_attempts(tmp_path / 'bags' / 'two', checkpoint='world_model@1+aligned@2')
    found = Counter(d.rollout.checkpoint for d in read_dreams([tmp_path / 'bags'], ROBOT, VIEW))
    with pytest.raises(UserError, match=rf'by 2 checkpoints \({WORLD_MODEL}: 2, '):
        require_checkpoint(found)
    one = {WORLD_MODEL: 2}
    require_checkpoint(one)
    require_checkpoint(one, WORLD_MODEL)
    # Bags without dreams, such as those of a person's own attempts.
    require_checkpoint({}, WORLD_MODEL)
    with pytest.raises(UserError, match=r'another checkpoint than world_model@9 \('):
        require_checkpoint(one, 'world_model@9')


def recorded_dream(number, frames):
    """Return a dream of the attempt with that number, sent at its first view."""
    rollout, chunk = dreamed(1, 0)
    report = ReportRecord('chunk_report', 0, 0, 1, accepted=True, sent=True, detail='', stretch=1)
    rollout = replace(rollout, frames=frames, dt=1 / probe_world.RATE_HZ)
    return AttemptDream(f'bag {number}', 0, rollout, chunk, report)


def test_probing_attempts_says_which_terms_of_their_dreams_predict_success():
    """Cameras saw the same of all; only the dreams of successes go where was demonstrated."""
    attempts, dreams = [], []
    for number in range(12):
        attempt = probe_world.episode(number, success=number % 2 == 1)
        attempt.source, attempt.number = f'bag {number}', 0
        attempt.stamps_ns = np.arange(probe_world.STEPS) * SECOND // 10
        attempts.append(attempt)
        share = 1.0 if attempt.success else 0.4
        dreams.append(recorded_dream(number, probe_world.episode(number, share=share).frames))
    known = find_prompts(
        [probe_world.episode(i) for i in range(12)], probe_world.STEPS, probe_world.RATE_HZ
    )
    judge = probe_world.judge()
    told = probe_attempts(judge, attempts, known, probe_world.STEPS, dreams)['left']
    assert told['auc']['similarity'] < 0.8
    assert told['dreams']['auc']['similarity'] > 0.95
    assert told['dreams']['auc']['outcome'] == 1.0
    assert (told['dreams']['episodes'], told['dreams']['successes']) == (12, 6)
    assert 'dreams' not in probe_attempts(judge, attempts, known, probe_world.STEPS)['left']
