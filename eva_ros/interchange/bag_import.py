"""Episodes of another data set as rosbag2 bags, one an episode."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from eva_ros.interchange.episode_faults import Fault
from eva_ros.interchange.episode_faults import grouped
from eva_ros.interchange.episode_faults import spans
from eva_ros.interchange.import_map import check_map
from eva_ros.interchange.import_map import ImportMap
from eva_ros.interchange.import_map import left_out
from eva_ros.interchange.import_map import mapped
from eva_ros.interchange.import_places import import_facts
from eva_ros.interchange.import_places import is_there
from eva_ros.interchange.import_places import set_name
from eva_ros.interchange.imported import copied_actions
from eva_ros.interchange.imported import DataSet
from eva_ros.interchange.imported import ImportedEpisode
from eva_ros.interchange.imported import PictureWatch
from eva_ros.observations.reasons import listed
from eva_ros.observations.wraps import wrapped
from eva_ros.recordings.bag_writer import EpisodeBagWriter
from eva_ros.recordings.storage import brief
from eva_ros.robot.spec import Robot

# The data sets count time from the beginning of an episode; a stamp of zero would mean none.
_START_NS = 1_000_000_000
_QUALITY = 95
# Of a time of hours in single precision.
_RESOLUTION_S = 1e-4

Rows = Sequence[tuple[str, tuple[str, ...], NDArray[np.float64]]]


@dataclass(frozen=True)
class Written:
    """What came of an import.

    Attributes:
        bags: of all episodes.
        there: how many of them were there already, and stayed as they were.
        findings: what was found while the rows and pictures passed, a sentence each.
        notes: what the bags are not meant to hold, a sentence each.
    """

    bags: list[Path]
    there: int
    findings: list[str]
    notes: list[str]


def write_bags(
    data: DataSet,
    out: Path,
    *,
    robot: Robot | None = None,
    found: ImportMap | None = None,
    images: str = 'jpeg',
) -> Written:
    """Write each episode of a data set as a bag; bags that are there already stay as they are.

    Without a robot, joints keep their names and numbers (topics `joint_states` and `action`) and
    cameras their keys as topics. With one, the map makes them that robot's.

    Args:
        data: the data set.
        out: folder of the bags.
        robot: whose names, units and topics the bags get.
        found: how; needed with a robot.
        images: 'jpeg' (quality 95) or 'png' (exactly the decoded pictures).

    Raises:
        UserError: the map does not fit, a file cannot be read, or something other than this
            import's bag is where one belongs; that is known before anything is written.
    """
    if robot and found:
        check_map(found, data, robot)
    same, name = import_facts(data, robot, found, images), set_name(data)
    bags = [out / f'{name}-{episode.index:05d}' for episode in data.episodes]
    facts = [{**same, 'eva.instruction': _asked(episode)} for episode in data.episodes]
    for path, about in zip(bags, facts):
        is_there(path, about)
    there, watch, faults = 0, PictureWatch(data.rate_hz), list[Fault]()
    for episode, path, about in zip(data.episodes, bags, facts):
        # Asked again: a data set may name an episode twice.
        if is_there(path, about):
            there += 1
        else:
            faults += _write(data, episode, path, about, robot, found, images, watch)
    findings = [*grouped(faults), *watch.findings()]
    if there:
        findings.append(f'{there} bags were there already; their pictures were not looked at.')
    copied = copied_actions(data)
    if robot and found:
        acted = any(episode.actions is not None for episode in data.episodes)
        notes = [*left_out(found, data), *copied]
        notes += ['The actions are left out: bags of a robot hold what was measured.'] * acted
        return Written(bags, there, [*findings, *_wraps(data, robot, found)], notes)
    findings += _misshapen(data)
    # RoboTwin's layout has it so.
    if data.kind == 'RoboTwin':
        return Written(bags, there, findings, copied)
    return Written(bags, there, [*findings, *copied], [])


def _wraps(data: DataSet, robot: Robot, found: ImportMap) -> list[str]:
    """Say which of a robot's joints jump by a full turn, and where."""
    columns = np.flatnonzero(np.concatenate([arm.in_rad for arm in robot.arms.values()]))
    turning = [robot.joint_names[column] for column in columns]
    said: dict[str, list[str]] = {}
    for episode in data.episodes:
        steps = np.diff(mapped(episode.states, found, data, robot)[:, columns], axis=0)
        turned = wrapped(steps, np.diff(episode.stamps_s)[:, None])
        for column in np.flatnonzero(turned.any(axis=0)):
            since_s = episode.stamps_s[turned[:, column].argmax() + 1]
            said.setdefault(turning[column], []).append(f'{episode.index} (at {since_s:.2f} s)')
    return [
        f'The encoder of {name} wraps in episode {listed(places)}: training cuts it there.'
        for name, places in said.items()
    ]


def _misshapen(data: DataSet) -> list[str]:
    """Say which actions the bags do not hold."""
    acted = [(e.index, e.actions.shape, e.states) for e in data.episodes if e.actions is not None]
    odd = ', '.join(str(index) for index, shape, states in acted if shape != states.shape)
    if odd:
        return [f'Actions that are not shaped as the states are left out: episode {odd}.']
    return []


def _write(
    data: DataSet,
    episode: ImportedEpisode,
    path: Path,
    about: dict[str, str],
    robot: Robot | None,
    found: ImportMap | None,
    images: str,
    watch: PictureWatch,
) -> list[Fault]:
    source = f'{data.kind} {set_name(data)} episode {episode.index}'
    facts = {'eva.source': source, **about}
    writer = EpisodeBagWriter(path, robot.name if robot else '', facts, episode.index)
    try:
        stamps = stamps_ns(episode.stamps_s, data.rate_hz)
        writer.write_episode(stamps[0], start=True, task='', instruction=episode.instruction)
        faults = _rows(writer, data, episode, robot, found, images, watch, stamps)
        last = [episode.instruction, *episode.changes.values()][-1]
        writer.write_episode(stamps[-1], start=False, task='', instruction=last)
    except BaseException:
        writer.abort()
        raise
    writer.close()
    return faults


def _asked(episode: ImportedEpisode) -> str:
    """Return all instructions of an episode."""
    return '; '.join(dict.fromkeys([episode.instruction, *episode.changes.values()]))


def stamps_ns(stamps_s: NDArray[np.float64], rate_hz: float) -> list[int]:
    """Return stamps in ns.

    Numbers of single precision that mean multiples of 1 / rate_hz become exactly these: a picture
    a few ns behind its tick would be the next tick's.
    """
    found = []
    for seconds in stamps_s.tolist():
        count = round(seconds * rate_hz)
        counted = rate_hz > 0 and abs(seconds - count / rate_hz) < _RESOLUTION_S
        found.append(_START_NS + round(count * 1e9 / rate_hz if counted else seconds * 1e9))
    return found


def _rows(
    writer: EpisodeBagWriter,
    data: DataSet,
    episode: ImportedEpisode,
    robot: Robot | None,
    found: ImportMap | None,
    images: str,
    watch: PictureWatch,
    stamps: list[int],
) -> list[Fault]:
    """Write all rows in order; returns a sentence for each video that lacks pictures."""
    topics = camera_topics(data, robot, found)
    cameras = {key: frames() for key, frames in episode.frames.items() if key in topics}
    lacking, faults = dict[str, list[int]](), list[Fault]()
    joints = joint_rows(data, episode, robot, found)
    asked = episode.instruction
    for index, stamp_ns in enumerate(stamps):
        if index in episode.changes:
            writer.write_episode(stamps[index - 1], start=False, task='', instruction=asked)
            asked = episode.changes[index]
            writer.write_episode(stamp_ns, start=True, task='', instruction=asked)
        for topic, names, values in joints:
            writer.write_joint_state(topic, stamp_ns, names, values[index], np.zeros(0))
        for key in list(cameras):
            try:
                picture = next(cameras[key], None)
            except Exception as error:  # PyAV has many
                del cameras[key]
                faults.append((
                    episode.index,
                    f"Episode {episode.index}: the video of '{key}' cannot be decoded behind "
                    f'{index} of {len(stamps)} frames ({brief(error)}).',
                ))  # fmt: skip
                continue
            if picture is None:
                lacking.setdefault(key, []).append(index)
                continue
            watch.add(episode.index, key, index, picture)
            packed = encode(picture, images)
            for topic in topics[key]:
                writer.write_image(topic, stamp_ns, key, packed, images)
    return faults + [
        (
            episode.index,
            f'Episode {episode.index}: {len(rows)} of {len(stamps)} frames have no picture in '
            f"'{key}': rows {spans(rows)}.",
        )
        for key, rows in lacking.items()
    ]


def camera_topics(
    data: DataSet, robot: Robot | None, found: ImportMap | None
) -> dict[str, list[str]]:
    """Return the topics of each of the data set's cameras that is written."""
    if not (robot and found):
        return {key: ['/' + key.replace('.', '/') + '/compressed'] for key in data.cameras}
    topics: dict[str, list[str]] = {}
    for own, key in found.cameras.items():
        topics.setdefault(key, []).append('/' + robot.cameras[own].topic)
    return topics


def joint_rows(
    data: DataSet, episode: ImportedEpisode, robot: Robot | None, found: ImportMap | None
) -> Rows:
    """Return topic, names and values [T, K] of everything that is written as a joint state."""
    if not (robot and found):
        rows = [('/joint_states', data.joint_names, episode.states)]
        if episode.actions is not None and episode.actions.shape == episode.states.shape:
            rows.append(('/action', data.joint_names, episode.actions))
        return rows
    names, values = _controllers(mapped(episode.states, found, data, robot), robot)
    rows = []
    for topic in robot.joint_state_topics:
        arms = [arm.name for arm in robot.arms.values() if arm.state_topic == topic]
        index = [i for arm in arms for i in range(*robot.arm_indices(arm).indices(len(names)))]
        rows.append(('/' + topic, tuple(names[i] for i in index), values[:, index]))
    return rows


def _controllers(joints: NDArray, robot: Robot) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return names and values [T, J] in the controllers' names and units."""
    states = [robot.to_joint_state(row) for row in joints]
    return states[0][0], np.stack([values for _, values in states])


def encode(picture: NDArray[np.uint8], images: str) -> bytes:
    """Return a picture [H, W, 3], RGB, as JPEG or PNG bytes."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY] if images == 'jpeg' else []
    flags += [cv2.IMWRITE_PNG_COMPRESSION, 1] if images == 'png' else []
    extension = '.jpg' if images == 'jpeg' else '.png'
    return cv2.imencode(extension, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), flags)[1].tobytes()
