"""A draft of a robot as YAML text, with a marked question wherever something is not known."""

from collections.abc import Mapping
from collections.abc import Sequence
import os
from pathlib import Path
import re

from eva_ros.robot.draft import Draft
from eva_ros.robot.draft import DraftArm
from eva_ros.robot.questions import FOR_TRAINING
from eva_ros.robot.questions import MARK
from eva_ros.robot.urdf_facts import UrdfJoint

_DRIVE = 'Needed to drive the arms.'
_OPENING = '{min_position: 0.0, max_position: 1.0, source: {position: 0 is closed and 1 open}}'


def draft_text(draft: Draft, out: Path) -> str:
    """Return the YAML of a draft.

    Args:
        draft: what is known.
        out: where it will lie; the path of the URDF is written as seen from there.
    """
    sources = [draft.seen.source] if draft.seen else []
    sources += [draft.urdf.path.name] if draft.urdf else []
    lines = [
        f'# Made by `eva robot init` from {" and ".join(sources)}.',
        '# What is not known is marked QUESTION: answer it and delete its line.',
        '# `eva robot check` says what is needed for what.',
        f'name: {draft.name}',
        *_urdf(draft, out),
    ]
    if draft.left_out:
        lines.append(f'# Left out, as they belong to no arm: {", ".join(draft.left_out)}.')
    lines += ['', 'arms:']
    if draft.guess:
        lines.append(f'  {MARK}{draft.guess}')
    lines += _arms({side: _arm(draft, arm) for side, arm in draft.arms.items()})
    lines += ['', *_cameras(draft), '', *_home(draft), '', *_limits(draft)]
    return '\n'.join(lines) + '\n'


def _urdf(draft: Draft, out: Path) -> list[str]:
    if draft.urdf is not None and draft.whole_urdf:
        return [f'urdf: {os.path.relpath(draft.urdf.path.resolve(), out.resolve().parent)}']
    lacks = f' ({draft.urdf.path.name} lacks {", ".join(draft.not_in_urdf)})' if draft.urdf else ''
    return [f'{MARK}which URDF has all joints by these names{lacks}? For rviz and `collision` '
            'only.',
            '# urdf: FILE']  # fmt: skip


def _arms(blocks: Mapping[str, list[str]]) -> list[str]:
    """Return the arms; what is the same but for the side is written once."""
    shared = _shared(blocks)
    if shared:
        return ['  both:', *shared]
    return [line for side, block in blocks.items() for line in (f'  {side}:', *block)]


def _shared(blocks: Mapping[str, list[str]]) -> list[str]:
    """Return the lines of both sides with <side> where they differ; none if not only there."""
    # left_left_finger and right_left_finger differ in the first word alone.
    for pattern in ('{}', r'\b{}(?=_)'):
        found = [[re.sub(pattern.format(side), '<side>', line) for line in block]
                 for side, block in blocks.items()]  # fmt: skip
        if len(found) == 2 and found[0] == found[1]:
            return found[0]
    return []


def _arm(draft: Draft, arm: DraftArm) -> list[str]:
    inside, named = ([pair[i] for pair in arm.joints] for i in (0, 1))
    lines = [f'joints: [{", ".join(inside)}]']
    if named != inside:
        lines.append(f'state_joints: [{", ".join(named)}]')
    lines.append(f'state_topic: {arm.topic}{_rate(draft.seen.rate_hz if draft.seen else 0)}')
    lines += [*_units(draft), *_gripper(draft, arm), *_controller(arm)]
    if arm.frames and draft.whole_urdf:
        lines += [f'base_frame: {arm.frames[0]}', f'end_effector_frame: {arm.frames[1]}']
    return [f'    {line}' for line in lines]


def _units(draft: Draft) -> list[str]:
    if draft.seen is None or draft.spread is None:
        return []
    went = f'recorded values go from {draft.spread[0]:.4g} to {draft.spread[1]:.4g}'
    if not draft.not_rad:
        asked = f'{MARK}are the joint states in rad ({went})? {FOR_TRAINING}'
        return [] if draft.seen.in_rad else [asked]
    return [
        f'{MARK}in which unit are the joint states ({went})? rad, deg, or instead:',
        '# calibration: {JOINT: {scale: RAD_FOR_EACH_UNIT, offset: VALUE_AT_ZERO, sign: 1}, ...}',
        'state_unit: unknown',
    ]


def _gripper(draft: Draft, arm: DraftArm) -> list[str]:
    if arm.hand:
        hand = ', '.join(arm.hand)
        return [f'{MARK}which of {hand} says how far the hand is open? {FOR_TRAINING}']
    if arm.gripper is None:
        counted = len({re.sub(r'\d+', '', name) for _, name in arm.joints}) == 1
        if not counted or len(arm.joints) == 1:
            return []
        return [
            f'{MARK}is one of these joints a gripper? {FOR_TRAINING}',
            '# Then move it from joints to:',
            '# gripper: {name: , controller_joint: , closed: , open: , unit: }',
        ]
    name, state = arm.gripper
    entry = f'gripper: {{name: {name}, controller_joint: {state}, closed: '
    if draft.seen is not None and draft.seen.by_lerobot:
        return [f"{entry}0.0, open: 100.0, unit: raw}}  # LeRobot's own unit"]
    urdf, facts, unit = arm.urdf.get(name), [], 'UNIT'
    if urdf:
        unit = 'm' if urdf.kind == 'prismatic' else 'rad'
        if urdf.position:
            low, high = urdf.position
            facts.append(f'its range in {draft.urdf.path.name if draft.urdf else ""} is '
                         f'{low:g} to {high:g}')  # fmt: skip
    if arm.gripper_spread:
        low, high = arm.gripper_spread
        facts.append(f'recorded values go from {low:.4g} to {high:.4g}')
    about = f' ({"; ".join(facts)})' if facts else ''
    return [
        f'{MARK}at which value is {state} closed, and at which open{about}? {FOR_TRAINING}',
        f'# {entry}, open: , unit: {unit}}}',
    ]


def _controller(arm: DraftArm) -> list[str]:
    if arm.command is None:
        return [
            f'{MARK}where does this arm take its commands? {_DRIVE}',
            '# controller: {topic: , type: trajectory_msgs/msg/JointTrajectory}',
        ]
    topic, sent = arm.command
    own = [state for _, state in arm.joints]
    # A gripper among them is one as soon as it is no question any more.
    joints = [name for name in sent if name in own]
    named = '' if joints == own else f', joints: [{", ".join(joints)}]'
    return [f'controller: {{topic: {topic}, type: trajectory_msgs/msg/JointTrajectory{named}}}']


def _cameras(draft: Draft) -> list[str]:
    cameras = draft.seen.cameras if draft.seen else ()
    left_out = (
        [f'# Not used: {sentence}' for sentence in draft.seen.left_out] if draft.seen else []
    )
    entries = []
    for camera in cameras:
        entry = f'{camera.name}: {{topic: {camera.topic}, '
        if camera.size is None:
            entries.append(f'  {MARK}how large are the pictures on {camera.topic}?')
            entries.append(f'  # {entry}height: , width: }}')
        else:
            height, width = camera.size
            entries.append(f'  {entry}height: {height}, width: {width}}}{_rate(camera.rate_hz)}')
    if any(camera.size for camera in cameras):
        return [*left_out, 'cameras:', *entries]
    entries = entries or ['  # NAME: {topic: , height: , width: }']
    return [*left_out, f'{MARK}which cameras are there? Needed for recordings.', '# cameras:',
            *entries]  # fmt: skip


def _rate(rate_hz: float) -> str:
    return f'  # {rate_hz:.3g} Hz' if rate_hz else ''


def _home(draft: Draft) -> list[str]:
    poses = {}
    for side, arm in draft.arms.items():
        # A gripper that is still asked about is no joint to rest in a pose.
        is_known = draft.seen is not None and draft.seen.by_lerobot
        names = [*arm.joints, *([arm.gripper] if arm.gripper and is_known else [])]
        poses[side] = [', '.join(f'{name}: ' for name, _ in names)]
    pose = _shared(poses) or [line for lines in poses.values() for line in lines]
    return [
        f'{MARK}in which pose do the arms rest? {_DRIVE}',
        f'# home: {{{", ".join(pose)}}}',
    ]


def _limits(draft: Draft) -> list[str]:
    """Return the limits that the URDF gives, and a question for each kind that is missing."""
    file = draft.urdf.path.name if draft.urdf else ''
    blocks: dict[str, list[str]] = {side: [] for side in draft.arms}
    asked: dict[tuple[str, str], list[str]] = {}
    for side, arm in draft.arms.items():
        for name, _ in arm.joints:
            joint = arm.urdf.get(name)
            for kind in ('position', 'velocity'):
                if joint is None or kind in joint.doubts:
                    absent = f'{file} has no such joint' if file else ''
                    doubt = absent if joint is None else joint.doubts[kind]
                    why = f' ({doubt})' if doubt else ''
                    asked.setdefault((kind, why), []).append(name)
            if joint is not None and (line := _limit(name, joint, file)):
                blocks[side].append(line)
        if arm.gripper and draft.seen is not None and draft.seen.by_lerobot:
            blocks[side].append(f'  {arm.gripper[0]}: {_OPENING}')
    lines = [f'{MARK}which {kind} limits have {_every(names, draft)}{why}?'
             for (kind, why), names in asked.items()]  # fmt: skip
    lines.append(f'{MARK}which acceleration limits have all joints?')
    lines.append(f'# Every limit names its `source`. {_DRIVE}')
    entries = _shared(blocks) or [line for block in blocks.values() for line in block]
    return [*lines, *(['joint_limits:', *entries] if entries else ['# joint_limits:'])]


def _limit(name: str, joint: UrdfJoint, file: str) -> str:
    values, sources = [], []
    if joint.position:
        values += [f'min_position: {joint.position[0]!r}', f'max_position: {joint.position[1]!r}']
        sources.append(f'position: {file}')
    if joint.velocity:
        values.append(f'max_velocity: {joint.velocity!r}')
        sources.append(f'velocity: {file}')
    if not values:
        return ''
    return f'  {name}: {{{", ".join(values)}, source: {{{", ".join(sources)}}}}}'


def _every(names: Sequence[str], draft: Draft) -> str:
    joints = [name for arm in draft.arms.values() for name, _ in arm.joints]
    return 'all joints' if list(names) == joints else ', '.join(names)
