"""Look through a bag: what is in it, what is wrong with it, how much of it can be used."""

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np

from eva_ros.episodes.attempts import attempts
from eva_ros.episodes.resampling import Piece
from eva_ros.episodes.settings import by_reception
from eva_ros.episodes.settings import ResamplingSettings
from eva_ros.errors import UserError
from eva_ros.inspection.joint_check import ArmCheck
from eva_ros.observations.ingest import Observation
from eva_ros.observations.picture_check import PictureCheck
from eva_ros.observations.reasons import Hurt
from eva_ros.observations.reasons import listed
from eva_ros.observations.reasons import Notes
from eva_ros.observations.reasons import sentence
from eva_ros.observations.video import Pictures
from eva_ros.observations.views import ViewSpec
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.bag_reader import Unread
from eva_ros.recordings.contradictions import ContradictionError
from eva_ros.recordings.records import EPISODE
from eva_ros.recordings.records import EpisodeRecord
from eva_ros.recordings.records import ImageRecord
from eva_ros.recordings.records import IMAGES
from eva_ros.recordings.records import JOINT_STATE
from eva_ros.recordings.records import JointStateRecord
from eva_ros.recordings.records import KINDS
from eva_ros.recordings.records import Record
from eva_ros.recordings.records import TEXT
from eva_ros.recordings.records import TextRecord
from eva_ros.recordings.streams import Stream
from eva_ros.robot.spec import Robot

USABLE, PARTIAL, UNUSABLE = 'usable', 'partial', 'unusable'
# Pictures are looked at this often.
_LOOK_NS = 500_000_000
_CLOCK = 'rosgraph_msgs/msg/Clock'


@dataclass
class BagCheck:
    """What was found in a bag; `as_json` is what other programs read.

    Attributes:
        verdict: usable (episodes and no findings), partial (both), unusable (no episode).
        reasons: the findings, a sentence each, what hurts most first.
        notes: what may be of interest and is no finding.
        topics: what each topic holds, by name.
        episodes: the pieces that training would get.
        lost_messages: that are lost, or were left out; None where nobody knows how many.
        opened: whether anything could be read.
    """

    path: str
    verdict: str = UNUSABLE
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    topics: dict[str, dict[str, Any]] = field(default_factory=dict)
    episodes: list[dict[str, Any]] = field(default_factory=list)
    lost_messages: int | None = 0
    opened: bool = True

    @property
    def usable_s(self) -> float:
        """Return how many seconds training would get."""
        return sum(episode['duration_s'] for episode in self.episodes)

    def as_json(self) -> dict[str, Any]:
        """Return the fields that other programs read."""
        return {
            'path': self.path,
            'verdict': self.verdict,
            'reasons': self.reasons,
            'notes': self.notes,
            'topics': self.topics,
            'episodes': self.episodes,
            'lost_messages': self.lost_messages,
        }


def check_bag(
    path: Path,
    robot: Robot,
    view: ViewSpec,
    settings: ResamplingSettings | None = None,
    guess: str | None = None,
) -> BagCheck:
    """Read a bag once, as training would, and say what is in it. Damage ends up in the reasons.

    Args:
        path: the bag.
        robot: whose joints and topics.
        view: how cameras are tiled, and the rate.
        settings: as for training.
        guess: what was guessed when the bag was found, a sentence: one of the reasons.
    """
    notes = Notes()
    if guess:
        notes.add(guess, Hurt.DOUBT)
    try:
        with BagReader(path, notes.add) as reader:
            return _Look(reader, robot, view, settings or ResamplingSettings(), notes).result()
    except UserError as error:
        notes.add(str(error), Hurt.NOTHING_USABLE)
        reasons = notes.sentences()
        return BagCheck(str(path), reasons=reasons, lost_messages=None, opened=False)


class _Look:
    """One pass over a bag."""

    def __init__(
        self,
        reader: BagReader,
        robot: Robot,
        view: ViewSpec,
        settings: ResamplingSettings,
        notes: Notes,
    ) -> None:
        self._reader, self._robot, self._view = reader, robot, view
        self._settings, self._notes = settings, notes
        self._streams = {name: Stream(kind) for name, kind in reader.topics.items()}
        self._cameras = {robot.cameras[name].topic.lstrip('/'): name for name in view.camera_names}
        self._wanted = [*self._cameras, *robot.joint_state_topics]
        self._needed = {*self._wanted, (self._settings.task_topic or '').lstrip('/')}
        self._needed |= {name for name, kind in reader.topics.items() if kind == EPISODE}
        self._pictures = {topic: PictureCheck() for topic in self._cameras}
        self._looked_ns: dict[str, int] = {}
        self._decoder = Pictures()
        self._arms = {name: _arm_check(robot, name) for name in robot.arms}
        self._spread = _Spread(view)
        self._unread = Unread(reader)
        # What the attempts lack; of an empty bag that says nothing.
        self._cuts: list[str] = []

    def result(self) -> BagCheck:
        reader = self._reader
        pieces: list[Piece] = []
        records = self._records()
        try:
            for piece in attempts(
                reader,
                self._robot,
                self._view,
                self._cuts.append,
                settings=self._settings,
                keep=self._spread.add,
                records=records,
            ):
                pieces.append(piece)
        except ContradictionError as error:
            for contradiction in error.sentences:
                self._notes.add(contradiction, Hurt.NOTHING_USABLE)
        except UserError as error:
            self._notes.add(str(error))
        for _ in records:  # what is left is counted too
            pass
        self._judge()
        notes = [*self._tell_unread(), *self._unjudged()]
        check = BagCheck(str(reader.path), topics=self._topics(), notes=notes)
        check.episodes = [self._episode(piece) for piece in pieces]
        check.lost_messages = self._lost()
        check.reasons = self._notes.sentences()
        if pieces:
            check.verdict = PARTIAL if check.reasons else USABLE
        elif not check.reasons:
            check.reasons = ['It holds no episode.']
        return check

    # Reading.

    def _records(self) -> Iterator[Record]:
        for topic, received_ns, data in self._reader.messages():
            stream = self._streams[topic.name]
            if topic in self._reader.unreadable:
                self._unread.leave_out(topic)
            if topic.type not in KINDS or topic in self._reader.unreadable:
                stream.stamped = False
                stream.add(received_ns, received_ns, len(data))
                continue
            try:
                record = self._reader.decode(topic, received_ns, data)
            except Exception as error:  # damaged bytes fail in any way
                self._unread.fail(topic, received_ns, error)
                continue
            stream.stamped = topic.type != TEXT
            stream.add(record.stamp_ns, received_ns, len(data))
            if self._is_wanted(record):
                self._watch(record)
                yield record

    def _lost(self) -> int | None:
        """Return how many messages are lost, None if that is not known, and say so."""
        losses = self._reader.losses
        count = losses.messages + self._unread.count(self._needed)
        if losses.uncounted:
            least = f'at least {count}' if count else 'perhaps none'
            self._notes.add(f'It is not known how many messages are lost: {least}.')
            return None
        if count:
            self._notes.add(f'{count} messages are lost or left out.')
        return count

    def _tell_unread(self) -> list[str]:
        """Say what cannot be read, and return it where it is on topics that are not needed."""
        others = []
        for (topic, _), text in self._unread.sentences().items():
            if topic in self._needed:
                self._notes.add(text)
            else:
                others.append(f'{text[:-1]} (it is not needed).')
        return others

    def _unjudged(self) -> list[str]:
        """Say of which arms no joint was held against limits, speeds and turns."""
        return [
            f'{arm.name.capitalize()} arm: the unit of its joint states is unknown, so that '
            'wraps, speeds, limits, frozen encoders and a second publisher are not looked for: '
            "set state_unit or calibration in the robot's YAML."
            for arm in self._robot.arms.values()
            if arm.state_unit == 'unknown'
        ]

    def _is_wanted(self, record: Record) -> bool:
        """Return whether training would read it."""
        if isinstance(record, EpisodeRecord | TextRecord):
            return True
        return record.topic in self._wanted

    def _watch(self, record: Record) -> None:
        if isinstance(record, JointStateRecord):
            for name in self._arms:
                if self._robot.arms[name].state_topic == record.topic:
                    self._arms[name].add(record)
        elif isinstance(record, ImageRecord) and record.topic in self._pictures:
            self._look_at(record)

    def _look_at(self, record: ImageRecord) -> None:
        """Decode a picture now and then (the frames of a video all, they need each other)."""
        due = record.received_ns - self._looked_ns.get(record.topic, -_LOOK_NS) >= _LOOK_NS
        if not due and not hasattr(record.message, 'timestamp'):
            return
        camera = self._robot.cameras[self._cameras[record.topic]]
        try:
            picture = self._decoder.decode(record.topic, record.message, camera.value_range)
        except UserError as error:
            self._notes.add(f"An image on '{record.topic}': {error}", Hurt.WRONG)
            return
        if due and picture is not None:
            self._looked_ns[record.topic] = record.received_ns
            self._pictures[record.topic].add(picture)

    # Judging.

    def _judge(self) -> None:
        if not self._reader.found.total():
            self._notes.add('The bag is empty: it holds no message.', Hurt.NOTHING_USABLE)
            return
        for cut in self._cuts:
            self._notes.add(cut, Hurt.CUT)
        wanted = self._wanted
        for fault in map(self._absence, wanted):
            if fault:
                self._notes.add(fault, Hurt.NOTHING_USABLE)
        simulated = self._robot.simulated or any(
            stream.type == _CLOCK and stream.count for stream in self._streams.values()
        )
        received = self._received()
        for topic in (t for t in wanted if self._count(t) and t not in received):
            faults = self._streams[topic].faults(simulated=simulated)
            hint = ' (align it by the time of reception: clock: receive)' if faults else ''
            for fault in faults:
                self._notes.add(f"On '{topic}', {fault}{hint}.", Hurt.WRONG)
        for topic, pictures in self._pictures.items():
            camera = self._robot.cameras[self._cameras[topic]]
            for fault in pictures.faults((camera.height, camera.width)):
                self._notes.add(sentence(f"camera '{camera.name}': {fault}"), Hurt.WRONG)
        self._judge_joints()

    def _absence(self, topic: str) -> str:
        """Return why nothing on a topic that is needed can be used; '' where something can."""
        kinds = IMAGES if topic in self._cameras else (JOINT_STATE,)
        kind = self._reader.topics.get(topic, '')
        if not self._reader.found[topic]:
            return sentence(f"there is no message on '{topic}'{self._instead(topic, kinds)}")
        if kind not in kinds:
            return f"The messages on '{topic}' are of type '{kind}', not {' or '.join(kinds)}."
        return ''

    def _received(self) -> set[str]:
        """Return the topics that are aligned by the time of reception."""
        found = by_reception(self._settings, self._robot)
        return found | {topic for topic, name in self._cameras.items() if name in found}

    def _judge_joints(self) -> None:
        heard = [name for name in self._arms if self._arms[name].messages]
        for name in heard:
            for fault in self._arms[name].faults(self._names_of_others(name)):
                self._notes.add(sentence(f'{name} arm: {fault}'), Hurt.WRONG)
        found = [joint for name in heard for joint in self._arms[name].found]
        still = [joint for name in heard for joint in self._arms[name].motionless]
        if found and len(still) == len(found):
            text = f'No joint moves: all {len(found)} stay where they are.'
            self._notes.add(text, Hurt.WRONG)

    def _names_of_others(self, arm: str) -> set[str]:
        """Return the names that the other arms have in joint states of an arm's topic."""
        arms, topic = self._robot.arms.values(), self._robot.arms[arm].state_topic
        return {n for other in arms if other.state_topic == topic for n in other.state_joints}

    def _count(self, topic: str) -> int:
        return self._streams[topic].count if topic in self._streams else 0

    def _instead(self, topic: str, kinds: Sequence[str]) -> str:
        """Return which topics might be meant."""
        used = set(self._wanted)
        other = [n for n, kind in self._reader.topics.items() if n not in used and kind in kinds]
        return f'; the bag has {listed(other)}: is the robot YAML right?' if other else ''

    def _topics(self) -> dict[str, dict[str, Any]]:
        found = {}
        for name, stream in sorted(self._streams.items()):
            facts = stream.facts() | {'messages': self._reader.found[name]}
            promised = self._reader.promised.get(name)
            if promised is not None:
                facts['declared_messages'] = promised
                if self._reader.declared_s:
                    facts['declared_rate_hz'] = round(promised / self._reader.declared_s, 2)
            if name in self._pictures:
                camera = self._cameras[name]
                facts |= {'camera': camera, **self._pictures[name].facts()}
                facts |= self._spread.facts(camera)
            arms = [a for a in self._arms if self._robot.arms[a].state_topic == name]
            if arms:
                facts['joints'] = {arm: self._arms[arm].facts() for arm in arms}
            found[name] = facts
        return found

    def _episode(self, piece: Piece) -> dict[str, Any]:
        first, last = piece.ticks[0].observation.stamp_ns, piece.ticks[-1].observation.stamp_ns
        received = self._received()
        firsts = [
            stream.first_received_ns if name in received else stream.first_ns
            for name, stream in self._streams.items()
            if name in self._wanted and stream.count
        ]
        begin = min((first_ns for first_ns in firsts if first_ns), default=first)
        topic = next(iter(self._cameras))
        start_s = (first - begin) * 1e-9
        if topic not in received:
            camera = self._streams[topic]
            start_s = (camera.first_ns - begin) * 1e-9 + camera.since_first_s(first)
        return {
            'instruction': piece.instruction,
            'success': piece.success,
            'start_s': round(start_s, 3),
            'duration_s': round((last - first) * 1e-9, 3),
            'frames': len(piece.ticks),
        }


class _Spread:
    """How old the pictures are at the ticks."""

    def __init__(self, view: ViewSpec) -> None:
        self._ages: dict[str, list[int]] = {name: [0, 0, 0] for name in view.camera_names}

    def add(self, observation: Observation) -> int:
        for camera, stamp_ns in observation.image_stamps.items():
            age_ns, ages = observation.stamp_ns - stamp_ns, self._ages[camera]
            self._ages[camera] = [ages[0] + 1, ages[1] + age_ns, max(ages[2], age_ns)]
        return -1

    def facts(self, camera: str) -> dict[str, Any]:
        count, total, most = self._ages[camera]
        if not count:
            return {}
        ages = {'mean': round(total / count * 1e-6, 1), 'max': round(most * 1e-6, 1)}
        return {'age_at_ticks_ms': ages}


def _arm_check(robot: Robot, name: str) -> ArmCheck:
    own, limits = robot.arm_indices(name), robot.limits
    fastest = np.where(np.isfinite(limits.max_velocity), limits.max_velocity, np.inf)
    return ArmCheck(
        robot.arms[name], limits.min_position[own], limits.max_position[own], fastest[own]
    )
