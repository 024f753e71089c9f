"""Read a recorded run: the bag of its topics, and run.json with the requested tasks."""

from bisect import bisect_right
from collections.abc import Iterable
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.evaluation.run import Attempted
from eva_ros.evaluation.run import Run
from eva_ros.evaluation.run import Turn
from eva_ros.evaluation.run_bag import Logged
from eva_ros.evaluation.run_bag import read_topics
from eva_ros.evaluation.run_bag import RunTopics
from eva_ros.evaluation.run_bag import to_ns
from eva_ros.observations.images import decode_compressed
from eva_ros.observations.views import load_view
from eva_ros.observations.views import ViewSpec
from eva_ros.robot.spec import load_robot
from eva_ros.robot.spec import Robot

RUN_FILE = 'run.json'
BAG = 'bag'


def read_run(folder: Path) -> Run:
    """Return the run that was recorded in a folder.

    Raises:
        UserError: The folder holds no run.
    """
    try:
        about = json.loads((folder / RUN_FILE).read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(f'{folder} holds no recorded run: {error}.') from error
    robot, view = load_robot(about['robot']), load_view(about['view'])
    topics = read_topics(folder / BAG, robot)
    attempts = [_attempt(attempt, topics, robot, view) for attempt in about['attempts']]
    return Run(
        title=about['title'],
        started=about['started'],
        robot=robot,
        view=view,
        attempts=tuple(attempts),
        checkpoints=_checkpoints(topics),
        facts=about['facts'],
    )


def _checkpoints(topics: RunTopics) -> dict[str, str]:
    found = {'world model': topics.rollouts, 'inverse dynamics model': topics.chunks}
    return {
        name: next(iter(logged.values())).message.checkpoint
        for name, logged in found.items()
        if logged
    }


def _attempt(about: dict, topics: RunTopics, robot: Robot, view: ViewSpec) -> Attempted:
    begin, end = about['start_ns'], about['end_ns']
    first, last = (bisect_right(topics.joints.stamps, instant) for instant in (begin, end))
    joints = topics.joints.values[first:last]
    turns: list[Turn] = []
    free_ns, rests_ns = about['start_wall_ns'], 0
    for number, logged in sorted(topics.rollouts.items()):
        # By the dream's end: the observation may be older than the goal.
        if not begin <= to_ns(logged.message.header.stamp) <= end or number not in topics.chunks:
            continue
        wall_ns = (free_ns, about['end_wall_ns'])
        turn = _turn(number, topics, robot, view, end, wall_ns, rests_ns)
        if turn.started_ns is not None:
            rests_ns = turn.started_ns + round(turn.command_times_s[-1] * 1e9)
        decided = topics.reports.get(number, logged)
        free_ns = decided.logged_ns + round(turn.seconds.get('move', 0.0) * 1e9)
        if turn.joined_s > 0.0 and turns:
            # The motion before goes over into this one.
            turns[-1].seconds['move'] = min(turns[-1].seconds['move'], _between(turns[-1], turn))
        turns.append(turn)
    return Attempted(
        task=about['task'],
        instruction=about['instruction'],
        seed=about['seed'],
        success=about['success'],
        message=about['message'],
        start_ns=begin,
        end_ns=end,
        stamps_ns=np.array(topics.joints.stamps[first:last], dtype=np.int64),
        joints=np.array(joints).reshape(-1, len(robot.joint_names)),
        turns=tuple(turns),
    )


def _between(first: Turn, second: Turn) -> float:
    """Return the time between the starts of two motions, in s."""
    assert first.started_ns is not None and second.started_ns is not None
    return (second.started_ns - first.started_ns) * 1e-9


def _turn(
    number: int,
    topics: RunTopics,
    robot: Robot,
    view: ViewSpec,
    end_ns: int,
    wall_ns: tuple[int, int],
    rests_ns: int,
) -> Turn:
    """Return a turn; `rests_ns` is when the motion before it ends."""
    rollout, chunk = topics.rollouts[number], topics.chunks[number]
    report = topics.reports.get(number)
    times, command, started_ns = _command(topics, robot, chunk, report)
    observed_ns = to_ns(rollout.message.observation_stamp)
    dt = to_ns(chunk.message.step_dt) * 1e-9
    stretch = report.message.stretch if report else float('nan')
    frames = np.stack([_pixels(frame) for frame in rollout.message.frames])
    seen, joined_s = None, 0.0
    if started_ns is not None:
        joined_s = (started_ns - observed_ns) * 1e-9 if observed_ns < rests_ns else 0.0
        instants = (
            started_ns
            - round(joined_s * 1e9)
            + np.round(np.arange(len(frames)) * dt * stretch * 1e9).astype(int)
        )
        # Images after the end of the attempt show the next scene.
        seen = _seen(topics, view, np.minimum(instants, end_ns))
    return Turn(
        rollout_id=number,
        cameras=_images(topics, observed_ns),
        frames=frames,
        dt=dt,
        positions=np.array(chunk.message.positions).reshape(chunk.message.horizon, -1),
        score=chunk.message.executability.score,
        accepted=bool(report and report.message.accepted),
        reason=_reason(report),
        detail=report.message.detail if report else 'No report was recorded.',
        clamped_steps=int(report.message.clamped_steps.sum()) if report else 0,
        violations_before=report.message.limit_violations_before if report else 0,
        violations_after=report.message.limit_violations_after if report else 0,
        stretch=stretch,
        started_ns=started_ns,
        joined_s=joined_s,
        think_s=_think_s(report, observed_ns),
        command_times_s=times,
        command=command,
        seen=seen,
        seconds=_seconds(rollout, chunk, report, wall_ns),
    )


def _think_s(report: Logged | None, observed_ns: int) -> float:
    """Return the time from an observation to the report on its chunk, in s of ROS time."""
    if report is None:
        return float('nan')
    return (to_ns(report.message.header.stamp) - observed_ns) * 1e-9


def _reason(report: Logged | None) -> str:
    """Return the name of a report's reason constant."""
    if report is None:
        return 'no report'
    kind = type(report.message)
    names = [name for name in dir(kind) if name.isupper()]
    return next(name for name in names if getattr(kind, name) == report.message.reason)


def _seconds(
    rollout: Logged, chunk: Logged, report: Logged | None, wall_ns: tuple[int, int]
) -> dict[str, float]:
    """Return the wall time of each stage, from when the messages were written.

    Args:
        rollout: Rollout of the turn.
        chunk: Chunk of the turn.
        report: Report on the chunk; None if there is none.
        wall_ns: Wall times at which the arms became free for this turn and the attempt ended.
    """
    free_ns, end_ns = wall_ns
    dream = rollout.message.duration_s
    seconds = {
        'look': max(0.0, (rollout.logged_ns - free_ns) * 1e-9 - dream),
        'dream': dream,
        'decode': (chunk.logged_ns - rollout.logged_ns) * 1e-9,
    }
    if report:
        seconds['check'] = (report.logged_ns - chunk.logged_ns) * 1e-9
        if report.message.sent:
            left_s = max(0.0, (end_ns - report.logged_ns) * 1e-9)
            seconds['move'] = min(report.message.duration_s, left_s)
    return seconds


def _command(
    topics: RunTopics, robot: Robot, chunk: Logged, report: Logged | None
) -> tuple[NDArray, NDArray, int | None]:
    """Return times [K] and joints [K, J] sent for a chunk, and their start."""
    nothing = np.zeros(0), np.zeros((0, len(robot.joint_names))), None
    if report is None or not report.message.sent:
        return nothing
    sent = [_first_after(topics.commands[arm], chunk.logged_ns) for arm in robot.arms]
    if None in sent:
        return nothing
    left: Any = sent[0]
    times = np.array([to_ns(point.time_from_start) * 1e-9 for point in left.points])
    halves = [_inside(robot, arm, message, times) for arm, message in zip(robot.arms, sent)]
    started_ns = to_ns(left.header.stamp) or to_ns(report.message.header.stamp)
    return times, np.concatenate(halves, axis=1), started_ns


def _first_after(logged: Iterable[Logged], instant_ns: int) -> Any | None:
    return next((found.message for found in logged if found.logged_ns >= instant_ns), None)


def _inside(robot: Robot, arm: str, message: Any, times: NDArray) -> NDArray:
    """Return an arm's points [K, joints] at the given times, in the robot's order and units.

    A gripper that is not part of the trajectory is nan.
    """
    own = np.array([to_ns(point.time_from_start) * 1e-9 for point in message.points])
    points = np.array([point.positions for point in message.points])
    interface = robot.arms[arm].command_interface
    order = [list(message.joint_names).index(joint) for joint in interface.names]
    sent = np.stack([np.interp(times, own, points[:, index]) for index in order], axis=1)
    joints = np.full((len(times), len(robot.arms[arm].joint_names)), np.nan)
    joints[:, : len(order)] = interface.from_message(sent)
    return joints


def _pixels(image: Any) -> NDArray[np.uint8]:
    return np.asarray(image.data, dtype=np.uint8).reshape(image.height, image.width, 3)


def _images(topics: RunTopics, stamp_ns: int) -> dict[str, NDArray[np.uint8]]:
    """Return the newest image of each camera at an instant."""
    found = {name: series.as_of(stamp_ns) for name, series in topics.cameras.items()}
    return {
        name: decode_compressed(bytes(message.data), message.format)
        for name, message in found.items()
        if message is not None
    }


def _seen(
    topics: RunTopics, view: ViewSpec, instants: NDArray[np.int_]
) -> NDArray[np.uint8] | None:
    """Return the view at each instant; None where a camera is missing."""
    looks = [_images(topics, int(instant)) for instant in instants]
    if any(camera.name not in look for look in looks for camera in view.cameras):
        return None
    return np.stack([view.tile(look) for look in looks])
