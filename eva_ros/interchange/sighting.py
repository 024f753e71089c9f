"""Look at a bag or a LeRobot data set for what it says of the robot that was recorded."""

from collections import defaultdict
from pathlib import Path
import re

import numpy as np

from eva_ros.errors import UserError
from eva_ros.interchange.import_map import KEY_SUFFIX
from eva_ros.interchange.lerobot.features import Features
from eva_ros.interchange.lerobot.meta import json_map
from eva_ros.interchange.lerobot.reader import read_lerobot
from eva_ros.observations.video import Pictures
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.records import EPISODE
from eva_ros.recordings.records import EpisodeRecord
from eva_ros.recordings.records import ImageRecord
from eva_ros.recordings.records import IMAGES
from eva_ros.recordings.records import JOINT_STATE
from eva_ros.recordings.records import JointStateRecord
from eva_ros.recordings.records import TRAJECTORY
from eva_ros.recordings.records import TrajectoryRecord
from eva_ros.recordings.streams import Stream
from eva_ros.robot.joint_naming import words
from eva_ros.robot.seen import Seen
from eva_ros.robot.seen import SeenCamera

# What joints and cameras there are shows soon; the rest of a bag is not read.
_MESSAGES = 20_000
_COMMANDS = {'action', 'cmd', 'command', 'commands', 'control', 'ctrl', 'desired', 'goal',
             'leader', 'master', 'reference', 'target'}  # fmt: skip
_DEPTH = {'depth', 'disparity', 'infra', 'infra1', 'infra2', 'ir'}
# Words of image topics that do not say which camera it is.
_NO_NAME = {'camera', 'color', 'compressed', 'image', 'raw', 'rect', 'rgb', 'video', 'ffmpeg'}


def look_at_bag(path: Path) -> Seen:
    """Return what the first messages of a bag say.

    Raises:
        UserError: there is no bag, or no joint state in it.
    """
    look = _Look()
    with BagReader(path, lambda sentence: None) as reader:
        wanted = [t for t, kind in reader.topics.items()
                  if kind in (*IMAGES, EPISODE, JOINT_STATE, TRAJECTORY)]  # fmt: skip
        for number, record in enumerate(reader.records(wanted)):
            look.add(record)
            if number >= _MESSAGES:
                break
    states = {topic: tuple(names) for topic, names in look.states.items()
              if _COMMANDS.isdisjoint(words(topic))}  # fmt: skip
    # One topic may repeat what the arms say on their own.
    whole = [t for t, names in states.items() if set(names) >= set().union(*states.values())]
    states = {whole[0]: states[whole[0]]} if whole else states
    if not states:
        raise UserError(f'{path} holds no joint states: a robot is described by their names.')
    return Seen(
        source=f'the bag {path.name}',
        states=states,
        rate_hz=look.rate_hz(next(iter(states))),
        spread=look.spread,
        cameras=tuple(look.cameras()),
        commands=look.commands,
        robot=look.robot,
        left_out=tuple(look.left_out),
    )


def look_at_data_set(folder: Path) -> Seen:
    """Return what a LeRobot data set says.

    Raises:
        UserError: it is none, or cannot be read.
    """
    data = read_lerobot(folder)
    features = Features(folder, json_map(folder / 'meta' / 'info.json'), None, None, [])
    names = tuple(name.removesuffix(KEY_SUFFIX) for name in data.joint_names)
    if not data.episodes:
        raise UserError(f'{folder} holds no episode that can be read.')
    rows = np.concatenate([episode.states for episode in data.episodes])
    extremes = zip(rows.min(axis=0).tolist(), rows.max(axis=0).tolist())
    cameras = []
    for key in features.videos:
        name = re.sub(r'\W+', '_', key.removeprefix('observation.images.'))
        cameras.append(
            SeenCamera(name, f'{name}/image_raw/compressed', _size(features.all[key]),
                       data.rate_hz)
        )  # fmt: skip
    return Seen(
        source=f'the {data.kind} data set {folder.resolve().name}',
        states={'joint_states': names},
        rate_hz=data.rate_hz,
        spread=dict(zip([('joint_states', name) for name in names], extremes)),
        cameras=tuple(cameras),
        in_rad=False,
        by_lerobot=all(name.endswith(KEY_SUFFIX) for name in data.joint_names),
    )


def _size(feature: dict) -> tuple[int, int] | None:
    """Return height and width of a video feature; channels may come first or last."""
    shape = [n for n in feature.get('shape') or [] if isinstance(n, int)]
    if len(shape) != 3:
        return None
    return (shape[1], shape[2]) if shape[0] in (1, 3) else (shape[0], shape[1])


class _Look:
    """Collects what messages say."""

    def __init__(self) -> None:
        self._streams: dict[str, Stream] = defaultdict(lambda: Stream(''))
        self.states: dict[str, dict[str, None]] = {}
        self.spread: dict[tuple[str, str], tuple[float, float]] = {}
        self.commands: dict[str, tuple[str, ...]] = {}
        self.left_out: list[str] = []
        self.robot = ''
        self._pictures = Pictures()
        self._sizes: dict[str, tuple[int, int] | None] = {}

    def add(self, record: object) -> None:
        """Take in a message."""
        if isinstance(record, JointStateRecord):
            self._add_state(record)
        elif isinstance(record, TrajectoryRecord):
            self.commands.setdefault(record.topic, record.joint_names)
        elif isinstance(record, EpisodeRecord):
            self.robot = self.robot or record.robot
        elif isinstance(record, ImageRecord):
            self._add_image(record)

    def _add_state(self, record: JointStateRecord) -> None:
        self._streams[record.topic].add(record.stamp_ns, record.received_ns, 0)
        self.states.setdefault(record.topic, {}).update(dict.fromkeys(record.names))
        for name, value in zip(record.names, np.asarray(record.positions).tolist()):
            low, high = self.spread.get((record.topic, name), (value, value))
            self.spread[record.topic, name] = (min(low, value), max(high, value))

    def _add_image(self, record: ImageRecord) -> None:
        self._streams[record.topic].add(record.stamp_ns, record.received_ns, 0)
        if self._sizes.get(record.topic):
            return
        self._sizes[record.topic] = None
        try:
            picture = self._pictures.decode(record.topic, record.message, None)
        except UserError:
            return
        if picture is not None:
            self._sizes[record.topic] = (picture.shape[0], picture.shape[1])

    def rate_hz(self, topic: str) -> float:
        """Return the usual rate of a topic."""
        return self._streams[topic].rate_hz

    def cameras(self) -> list[SeenCamera]:
        """Return the cameras; of raw and compressed pictures of one the compressed ones."""
        found: dict[str, SeenCamera] = {}
        for topic, size in sorted(self._sizes.items()):
            if not _DEPTH.isdisjoint(words(topic)):
                self.left_out.append(f'{topic} shows depth and no colours.')
            elif f'{topic}/compressed' not in self._sizes:
                name = _camera_name(topic)
                number = sum(re.sub(r'_\d+$', '', other) == name for other in found)
                name = f'{name}_{number + 1}' if number else name
                found[name] = SeenCamera(name, topic, size, self.rate_hz(topic))
        return list(found.values())


def _camera_name(topic: str) -> str:
    parts = re.split(r'\W+', topic)
    named = [part for part in parts if not _NO_NAME.issuperset(words(part))]
    return '_'.join(named) or 'camera'
