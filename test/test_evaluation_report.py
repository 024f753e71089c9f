"""The report page: whole in itself, and it says what happened."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest
from robot_files import PAIRS
from robot_files import write_robot

from eva_ros.evaluation.metrics import standing_share
from eva_ros.evaluation.report import page
from eva_ros.evaluation.report import write_report
from eva_ros.evaluation.run import Alignment
from eva_ros.evaluation.run import Attempted
from eva_ros.evaluation.run import Dream
from eva_ros.evaluation.run import median_and_p95
from eva_ros.evaluation.run import Run
from eva_ros.evaluation.run import Turn
from eva_ros.evaluation.turn_picture import draw
from eva_ros.robot.spec import load_robot

CAMERAS = ('top', 'left_wrist', 'right_wrist')


def make_frames(steps=17, shift=0):
    """Return views [T, 144, 128, 3] in which a square moves."""
    frames = np.full((steps, 144, 128, 3), 60, dtype=np.uint8)
    for step in range(steps):
        frames[step, 40:60, 10 + 4 * step + shift : 30 + 4 * step + shift] = (230, 120, 40)
    return frames


def make_turn(number, robot, started_s, accepted=True):
    """Return a turn that moves every joint a little."""
    steps = np.linspace(0, 1, 17)[:, None]
    positions = robot.home + 0.3 * steps**2
    images = {name: np.full((240, 320, 3), 90, dtype=np.uint8) for name in CAMERAS}
    return Turn(
        rollout_id=number,
        cameras=images,
        frames=make_frames(),
        dt=0.1,
        positions=positions,
        score=7.5,
        accepted=accepted,
        reason='OK' if accepted else 'START_DEVIATION',
        detail='' if accepted else 'left_waist is <far> off.',
        clamped_steps=2,
        violations_before=5,
        violations_after=0,
        stretch=1.25,
        started_ns=int(started_s * 1e9) if accepted else None,
        joined_s=0.0,
        think_s=2.5 if accepted else float('nan'),
        command_times_s=1.25 * 0.1 * np.arange(1, 17) if accepted else np.zeros(0),
        command=positions[1:] if accepted else np.zeros((0, len(robot.joint_names))),
        seen=make_frames(shift=3) if accepted else None,
        seconds={'look': 0.4, 'dream': 2.0, 'decode': 0.1, 'check': 0.01, 'move': 2.0},
    )


def make_run(robot=None):
    """Return a run of two attempts."""
    robot = robot or load_robot('aloha_sim')
    stamps = np.arange(0, 10_000_000_000, 10_000_000, dtype=np.int64)
    joints = robot.home + 0.2 * np.sin(np.linspace(0, 6, len(stamps)))[:, None]
    joints[:500] = joints[500]
    done = Attempted(
        'reach_left', 'touch the <red> cube', 7, True, 'The task is done.', 0, 10_000_000_000,
        stamps, joints, (make_turn(1, robot, 1.0), make_turn(2, robot, 5.0)),
    )  # fmt: skip
    failed = dataclasses.replace(
        done, task='lift_left', success=False, turns=(make_turn(3, robot, 1.0, accepted=False),)
    )
    view = SimpleNamespace(cameras=[SimpleNamespace(name=name) for name in CAMERAS])
    dream = Dream(make_frames(), make_turn(4, robot, 1.0).positions, 3.25)
    after = dataclasses.replace(dream, score=8.5)
    return Run(
        'A run', 'Today', robot, view, (done, failed), {'world model': 'm@123'}, {'seed': '7'},
        Alignment('reach', 0.1, dream, after),
    )  # fmt: skip


def test_page_fetches_nothing(tmp_path):
    write_report(make_run(), tmp_path / 'report.html')
    html = (tmp_path / 'report.html').read_text(encoding='utf-8')
    sources = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', html)
    assert len(sources) > 10
    assert all((source or url).startswith('data:') for source, url in sources)
    assert '<script' not in html and '@import' not in html


def test_page_says_what_happened():
    html = page(make_run())
    assert 'touch the &lt;red&gt; cube' in html
    assert html.count('pill good') == 2 and html.count('pill bad') == 2
    assert 'Refused: START_DEVIATION' in html and 'left_waist is &lt;far&gt; off.' in html
    assert '1 of 2' in html and '15 → 0' in html
    assert 'Executability 3.25' in html and 'Executability 8.50' in html


def test_page_shows_the_mode_the_think_time_and_what_was_joined():
    run = make_run()
    html = page(run)
    assert 'Mode look_dream_move:' in html and 'Joined the motion' not in html
    assert '2.50 s</b><span>think time' in html and 'of the time the arms stood still' in html
    done, failed = run.attempts
    joined = dataclasses.replace(done.turns[1], joined_s=0.62)
    attempts = (dataclasses.replace(done, turns=(done.turns[0], joined)), failed)
    html = page(dataclasses.replace(run, attempts=attempts, facts={'mode': 'overlap'}))
    assert 'Mode overlap:' in html and '<th>joined in motion</th>' in html
    assert html.count('Joined the motion under way 0.62 s into the dream.') == 1
    assert '<td>2 of 2</td><td>1</td>' in html


def test_every_joint_has_a_panel_with_its_range():
    run = make_run()
    html = page(run)
    for joint in run.robot.joint_names:
        assert html.count(f'{joint.replace("_", " ")} (') == len(run.attempts)
    low = run.robot.limits.min_position[0]
    assert f'limits {low:.2f} to' in html
    # A row an arm, and no empty page below them.
    assert 'viewBox="0 0 1176 256"' in html


@pytest.mark.parametrize('arms', PAIRS)
def test_robots_of_any_arms_have_a_page_and_a_picture(arms, tmp_path):
    robot = load_robot(write_robot(tmp_path, PAIRS[arms]))
    run = make_run(robot)
    html = page(run)
    for joint in robot.joint_names:
        assert html.count(f'>{joint.replace("_", " ")} (') == len(run.attempts)
    assert html.count('(0 to 1)<') == len(run.attempts) * len(robot.grippers)
    widest = max(len(arm.joint_names) for arm in robot.arms.values())
    assert f'class="joints" viewBox="0 0 {168 * widest} {128 * len(robot.arms)}"' in html
    draw(run, tmp_path / 'turn.png')
    assert (tmp_path / 'turn.png').stat().st_size > 1000


def test_a_joint_without_limits_or_command_is_drawn_without_them():
    run = make_run()
    attempt, joint = run.attempts[0], 13
    commands = [np.where(np.arange(14) == joint, np.nan, turn.command) for turn in attempt.turns]
    turns = tuple(
        dataclasses.replace(turn, command=sent) for turn, sent in zip(attempt.turns, commands)
    )
    unlimited = dataclasses.replace(
        run.robot.limits, max_position=np.full(14, np.inf), min_position=np.full(14, -np.inf)
    )
    robot = dataclasses.replace(run.robot, limits=unlimited)
    attempts = (dataclasses.replace(attempt, turns=turns),)
    html = page(dataclasses.replace(run, robot=robot, attempts=attempts))
    assert 'nan' not in re.sub(r'base64,[^)"]*', '', html)
    assert html.count('class="sent"') == 13 * 2 and html.count('class="executed"') == 14
    assert 'class="limit"' not in html and 'class="range"' not in html


def test_what_was_said_to_the_robot_stays_text():
    hostile = '</style><script>alert(1)</script>" onload="alert(2)'
    run = make_run()
    attempt = run.attempts[0]
    turn = dataclasses.replace(
        attempt.turns[0],
        accepted=False,
        started_ns=None,
        seen=None,
        reason=hostile,
        detail=hostile,
    )
    attempt = dataclasses.replace(
        attempt, task=hostile, instruction=hostile, message=hostile, turns=(turn,)
    )
    html = page(
        dataclasses.replace(
            run,
            title=hostile,
            started=hostile,
            attempts=(attempt,),
            checkpoints={hostile: hostile},
            facts={hostile: hostile},
            alignment=dataclasses.replace(run.alignment, instruction=hostile),
        )
    )
    assert '<script' not in html and '" onload=' not in html
    assert html.count('&lt;script&gt;alert(1)') > 10


def test_a_limit_that_was_reached_is_drawn():
    run = make_run()
    attempt = run.attempts[0]
    joints = attempt.joints.copy()
    joints[:, 1] = run.robot.limits.min_position[1]
    near = dataclasses.replace(run, attempts=(dataclasses.replace(attempt, joints=joints),))
    far = dataclasses.replace(run, attempts=(attempt,))
    assert page(near).count('class="limit"') > page(far).count('class="limit"')


def test_figures_of_a_run():
    run = make_run()
    assert run.attempts[0].standing == pytest.approx(0.5, abs=0.08)
    assert run.attempts[0].violations() == (10, 0)
    median, p95 = median_and_p95(run.stage_seconds('dream'))
    assert (median, p95) == (2.0, 2.0)
    assert np.isnan(median_and_p95(np.zeros(0))).all()


def test_a_run_without_any_turn_still_makes_a_page():
    run = make_run()
    attempt = run.attempts[0]
    nothing = dataclasses.replace(
        attempt, turns=(), joints=np.zeros((0, 14)), stamps_ns=np.zeros(0, dtype=np.int64)
    )
    html = page(dataclasses.replace(run, attempts=(nothing,)))
    assert '0 of 0' in html and 'class="joints"' not in html
    assert '>nan' not in html and '<td>–</td>' in html


def test_standing_share_weighs_time():
    stamps = np.array([0, 1, 2, 4]) * 1_000_000_000
    joints = np.array([[0.0], [0.0], [1.0], [1.001]])
    assert standing_share(joints, stamps, 0.02) == pytest.approx(3 / 4)
    assert np.isnan(standing_share(joints[:1], stamps[:1], 0.02))
