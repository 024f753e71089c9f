"""From records to aligned samples: fixed ticks, inputs as-of, labels interpolated."""

from bisect import insort
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eva_ros.episodes.settings import by_reception
from eva_ros.episodes.settings import ResamplingSettings
from eva_ros.errors import UserError
from eva_ros.observations.ingest import NotReady
from eva_ros.observations.ingest import NotYet
from eva_ros.observations.ingest import Observation
from eva_ros.observations.ingest import ObservationBuilder
from eva_ros.observations.reasons import spelled
from eva_ros.observations.stamp_repeats import Repeats
from eva_ros.observations.views import ViewSpec
from eva_ros.recordings.records import EpisodeRecord
from eva_ros.recordings.records import ImageRecord
from eva_ros.recordings.records import JointStateRecord
from eva_ros.recordings.records import Record
from eva_ros.recordings.records import TextRecord
from eva_ros.robot.spec import Robot

# A stream that is this far behind the newest one is not waited for.
_PATIENCE_NS = 1_000_000_000
# Messages of a stream may arrive in another order than they were stamped, so late at most.
_LATE_NS = 250_000_000
_NEVER = 1 << 63
# An attempt may begin with any image that comes, whatever its stamp.
_FROM_HERE = 0
# An attempt whose first tick lies further behind its start lacks a part that is worth a word.
_LATE_BEGIN_NS = 500_000_000
# An image is received so long after it was stamped at most, and no marker is so old, or they are
# of different clocks.
_DELAY_NS, _OLD_NS = 2_000_000_000, 86_400 * 1_000_000_000
# A shorter piece is of no use: velocities and accelerations need three ticks.
_SHORTEST = 3
_PUT_AWAY = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class Tick:
    """One sample of an episode.

    Attributes:
        observation: as of the tick.
        joints: [J] at the stamp of the image that stands for the view, interpolated.
        frame: what `keep` returned for the view, which the observation then holds no more.
    """

    observation: Observation
    joints: NDArray[np.float64]
    frame: int = -1


@dataclass
class Piece:
    """Ticks in a row, without a gap, of one attempt."""

    task: str = ''
    instruction: str = ''
    success: bool | None = None
    number: int = 0
    ticks: list[Tick] = field(default_factory=list)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Return when each tick is, from the first one, in s."""
        stamps = np.array([tick.observation.stamp_ns for tick in self.ticks])
        return (stamps - stamps[0]) * 1e-9


def align(
    records: Iterable[Record],
    robot: Robot,
    view: ViewSpec,
    on_problem: Callable[[str], None],
    *,
    marked: bool,
    settings: ResamplingSettings | None = None,
    facts: Mapping[str, str] | None = None,
    keep: Callable[[Observation], int] | None = None,
) -> Iterator[Piece]:
    """Yield the attempts in a recording, cut where a stream is missing or too old.

    Ticks are `1 / rate_hz` apart, from the first image at which every camera and joint is there.

    Args:
        records: as received.
        robot: whose joints and topics.
        view: how cameras are tiled, and the rate.
        on_problem: is given a sentence for whatever was cut or left out.
        marked: whether Episode markers say where attempts begin and end; otherwise the texts on
            the task topic do, and where there is none all is one.
        settings: clocks, tolerances and the task topic.
        facts: what the bag says about itself: `eva.task`, `eva.instruction`, `eva.success`.
        keep: puts the view of each tick away and returns its number, so that memory stays flat
            however long an attempt is; ticks hold their views where None.
    """
    settings = settings or ResamplingSettings()
    aligner = _Aligner(robot, view, on_problem, settings, keep)
    topic = settings.task_topic.lstrip('/') if settings.task_topic else None
    if not marked and topic is None:
        aligner.begin(_whole_bag(facts or {}), _FROM_HERE)
    for record in records:
        if isinstance(record, EpisodeRecord):
            yield from aligner.mark(record)
        elif isinstance(record, TextRecord):
            if not marked and record.topic == topic:
                yield from aligner.tell(record)
        else:
            aligner.feed(record)
    yield from aligner.finish()


def _whole_bag(facts: Mapping[str, str]) -> Piece:
    success = {'true': True, 'false': False}.get(facts.get('eva.success', '').lower())
    return Piece(facts.get('eva.task', ''), facts.get('eva.instruction', ''), success)


class _Aligner:
    """Walks through a recording once, holding the attempt it is in."""

    def __init__(
        self,
        robot: Robot,
        view: ViewSpec,
        on_problem: Callable[[str], None],
        settings: ResamplingSettings,
        keep: Callable[[Observation], int] | None,
    ) -> None:
        self._check(settings, robot, view)
        self._keep = keep
        self._settings = settings
        self._by_reception = by_reception(settings, robot)
        self._period_s = 1.0 / view.rate_hz
        self._robot = robot
        self._cameras = {robot.cameras[name].topic: name for name in view.camera_names}
        self._reference = view.camera_names[0]
        self._streams = {*view.camera_names, *robot.joint_state_topics}
        self._on_problem = on_problem
        age_s = 1.5 * self._period_s
        self._builder = ObservationBuilder(
            robot,
            view,
            max_image_age_s=age_s,
            max_joint_age_s=age_s,
            max_age_s=settings.max_age_s,
            on_clock_jump=self._jumped,
        )
        self._told = ''
        self._doubted: set[str] = set()
        self._count, self._begun = 0, False
        self._piece: Piece | None = None
        self._pieces: list[Piece] = []

    def _check(self, settings: ResamplingSettings, robot: Robot, view: ViewSpec) -> None:
        streams = {*view.camera_names, *robot.joint_state_topics}
        unknown = sorted({*settings.clock, *settings.max_age_s} - streams)
        if unknown:
            raise UserError(
                f'The alignment settings name {", ".join(unknown)}, which is none of the streams '
                f'{", ".join(sorted(streams))}.'
            )

    # Attempts.

    def begin(self, piece: Piece, start_ns: int, told_ns: int | None = None) -> None:
        """Begin an attempt.

        Args:
            piece: its first piece.
            start_ns: stamp of the first image that it may hold.
            told_ns: when the text that begins it was received, where one does.
        """
        piece.number = self._count
        self._count, self._begun = self._count + 1, True
        self._piece, self._pieces = piece, [piece]
        self._start_ns, self._told_ns = start_ns, told_ns
        self._marker: EpisodeRecord | None = None
        # Its marker is stamped by another clock than the images.
        self._foreign = False
        self._end_ns: int | None = None
        self._anchor: int | None = None
        self._step = 0
        self._candidates: list[int] = []
        self._heard_ns: int | None = None
        self._missing = self._late = f"there is no image of camera '{self._reference}'."
        self._skipped = self._builder.skipped()
        self._repeats = self._builder.repeats()
        self._heard: dict[str, Repeats] | None = None
        # When the joints of the last tick were measured.
        self._labelled_ns = 0

    def mark(self, record: EpisodeRecord) -> Iterator[Piece]:
        if record.robot not in ('', self._robot.name):
            if record.starts:
                yield from self.finish()
                self._count, self._begun = self._count + 1, True
                self._on_problem(
                    f"An attempt was recorded on robot '{record.robot}', not "
                    f"'{self._robot.name}': it is left out."
                )
            return
        if record.starts:
            yield from self.finish()
            self.begin(Piece(record.task, record.instruction), record.stamp_ns)
            self._marker = record
        elif self._piece is not None:
            self._end(record)
            for piece in self._pieces:
                piece.success = record.success
        elif not self._begun:
            self._on_problem(
                'An episode marker says END and none before it says START: was the recording '
                'begun later?'
            )

    def _end(self, record: EpisodeRecord) -> None:
        """End with what its marker's stamp says, or with what was received before it."""
        self._end_ns, self._heard = record.stamp_ns, self._builder.repeats()
        newest_ns = self._builder.newest().get(self._reference)
        is_behind = self._anchor is not None and record.stamp_ns < self._anchor
        if newest_ns is None or not (self._foreign or is_behind):
            return
        self._end_ns = newest_ns
        self._tell_clocks('ends with the last image received before it')

    def _compare(self, stamp_ns: int) -> None:
        """Compare the first image with the marker that began the attempt."""
        marker, self._marker = self._marker, None
        if marker is None or not marker.stamp_ns or self._end_ns is not None:
            return
        if -_DELAY_NS <= stamp_ns - marker.stamp_ns <= _OLD_NS:
            return
        self._foreign = True
        self._start_ns, self._told_ns = _FROM_HERE, marker.received_ns
        self._tell_clocks('begins with the first image received after it')

    def _tell_clocks(self, how: str) -> None:
        assert self._piece is not None
        self._on_problem(
            f'Attempt {self._piece.number}: its marker is not stamped by the clock of the images, '
            f'so it {how}.'
        )

    def tell(self, record: TextRecord) -> Iterator[Piece]:
        """Begin another attempt where the robot is told something else.

        A text has no stamp, and the time when it was received may be of another clock than the
        images' stamps (those of a simulation, or of a machine's start): the attempt holds the
        images that were received after it.
        """
        text = record.text.strip()
        if text == self._told:
            return
        self._told = text
        yield from self.finish()
        if text:
            self.begin(Piece(text, text), _FROM_HERE, record.received_ns)

    def finish(self) -> Iterator[Piece]:
        """End the attempt: take the ticks that are left and hand out its pieces."""
        if self._piece is None:
            return
        self._advance(final=True)
        if self._anchor is None:
            self._on_problem(f'Attempt {self._piece.number} has no usable image: {self._missing}')
        self._tell_skipped()
        for piece in [] if self._repeats_stamps() else self._pieces:
            if len(piece.ticks) >= _SHORTEST:
                yield piece
            elif piece.ticks:
                self._on_problem(
                    f'A piece of {len(piece.ticks)} ticks of attempt {piece.number} is too short '
                    'to use.'
                )
        self._piece, self._pieces = None, []

    def _tell_skipped(self) -> None:
        for camera, count in self._builder.skipped().items():
            new = count - self._skipped.get(camera, 0)
            if new:
                self._on_problem(
                    f"{new} video frames of camera '{camera}' cannot be used: no keyframe comes "
                    'before them.'
                )

    def _repeats_stamps(self) -> bool:
        """Return whether a camera repeats too many stamps for the attempt to be used."""
        assert self._piece is not None
        counts = self._heard or self._builder.repeats()
        found = {name: count.since(self._repeats[name]) for name, count in counts.items()}
        bad = {name: count for name, count in found.items() if count.is_too_many}
        for name, count in bad.items():
            self._on_problem(
                f"attempt {self._piece.number} is left out: of camera '{name}', {count}."
            )
        return bool(bad)

    # Samples.

    def feed(self, record: Record) -> None:
        if isinstance(record, JointStateRecord):
            stamp_ns = self._stamp(record.topic, record)
            self._builder.add_joint_state(
                stamp_ns,
                record.names,
                record.positions,
                record.velocities,
                record.topic,
            )
            self._hear(stamp_ns, record.received_ns)
        elif isinstance(record, ImageRecord) and record.topic in self._cameras:
            camera = self._cameras[record.topic]
            stamp_ns = self._stamp(camera, record)
            self._builder.add_image_message(camera, stamp_ns, record.message)
            self._hear(stamp_ns, record.received_ns)
            if camera == self._reference and self._piece is not None and self._anchor is None:
                if stamp_ns:
                    self._compare(stamp_ns)
                insort(self._candidates, stamp_ns)
        if self._piece is not None:
            self._advance(final=False)

    def _hear(self, stamp_ns: int, received_ns: int) -> None:
        """Note when an attempt began by the stamps: with the first one, zeros are none.

        Where a text began it, as long before a message's stamp as the text was received before
        the message.
        """
        if self._piece is None or self._anchor is not None or not stamp_ns:
            return
        began_ns = stamp_ns
        if self._told_ns is not None:
            began_ns -= received_ns - self._told_ns
        self._heard_ns = min(began_ns, self._heard_ns or began_ns)

    def _stamp(self, stream: str, record: Record) -> int:
        return record.received_ns if stream in self._by_reception else record.stamp_ns

    def _advance(self, *, final: bool) -> None:
        """Take all ticks that no later message can change."""
        newest = self._builder.newest()
        if not newest:
            return
        due_ns = self._due_until(newest, final)
        while True:
            tick_ns = self._next_tick()
            if tick_ns is None or (self._end_ns is not None and tick_ns > self._end_ns):
                return
            if tick_ns > due_ns:
                return
            self._take(tick_ns, due_ns)

    def _next_tick(self) -> int | None:
        if self._anchor is not None:
            return self._anchor + round(self._step * self._period_s * 1e9)
        while self._candidates and self._candidates[0] < self._start_ns:
            self._candidates.pop(0)
        return self._candidates[0] if self._candidates else None

    def _due_until(self, newest: dict[str, int], final: bool) -> int:
        """Return the last instant that no later message can change."""
        if final:
            return newest.get(self._reference, 0)
        heard = min(newest.get(stream, 0) for stream in self._streams) - _LATE_NS - 1
        return max(heard, max(newest.values()) - _PATIENCE_NS)

    def _take(self, tick_ns: int, due_ns: int) -> None:
        """Make the sample of a tick, or cut the attempt there."""
        try:
            observation = self._builder.latest(tick_ns)
            stamp_ns = observation.image_stamps[self._reference]
            joints = self._builder.joints_between(stamp_ns)
            # Labels and inputs of one tick are on the same side of it.
            self._refuse_wrap(stamp_ns, tick_ns)
        except NotReady as reason:
            self._skip(tick_ns, due_ns, reason)
            return
        self._tell_doubts()
        if self._anchor is None:
            self._anchor = tick_ns
            self._candidates.clear()
            self._tell_late()
        self._cut_at_wrap(tick_ns, stamp_ns)
        self._step += 1
        self._number(tick_ns)
        self._pieces[-1].ticks.append(self._kept(observation, joints))

    def _refuse_wrap(self, since_ns: int, until_ns: int) -> None:
        wrap = self._builder.wrap(since_ns, until_ns)
        if wrap:
            raise NotReady(f'{wrap}.')

    def _cut_at_wrap(self, tick_ns: int, stamp_ns: int) -> None:
        """Begin another piece where an encoder wrapped since the last tick."""
        assert self._anchor is not None
        wrap = self._pieces[-1].ticks and self._builder.wrap(self._labelled_ns, stamp_ns)
        if wrap:
            self._cut(f'cut at {spelled((tick_ns - self._anchor) * 1e-9)}: {wrap}.')
        self._labelled_ns = stamp_ns

    def _tell_doubts(self) -> None:
        """Say once what is doubtful about the colours of a camera."""
        for doubt in self._builder.doubts().values():
            if doubt not in self._doubted:
                self._doubted.add(doubt)
                self._on_problem(doubt)

    def _tell_late(self) -> None:
        """Say it where the attempt's first seconds are lost."""
        assert self._anchor is not None and self._piece is not None
        start_ns = self._start_ns or self._heard_ns or self._anchor
        late_ns = self._anchor - start_ns
        if late_ns > _LATE_BEGIN_NS:
            number = self._piece.number
            late = spelled(late_ns * 1e-9, 1)
            self._on_problem(f'Attempt {number} begins {late} late: {self._late}')

    def _kept(self, observation: Observation, joints: NDArray[np.float64]) -> Tick:
        if self._keep is None:
            return Tick(observation, joints)
        frame = self._keep(observation)
        return Tick(replace(observation, view=_PUT_AWAY), joints, frame)

    def _number(self, tick_ns: int) -> None:
        """Count another attempt where a piece begins behind a long gap."""
        gap_s, before = self._settings.gap_s, [p for p in self._pieces if p.ticks]
        if gap_s is None or not before or self._pieces[-1].ticks or self._pieces[-1].task:
            return
        if tick_ns - before[-1].ticks[-1].observation.stamp_ns >= gap_s * 1e9:
            self._pieces[-1].number, self._count = self._count, self._count + 1

    def _skip(self, tick_ns: int, due_ns: int, reason: NotReady) -> None:
        if self._anchor is None:
            self._missing = str(reason)
            self._late = reason.late if isinstance(reason, NotYet) else str(reason)
            self._candidates.pop(0)
            return
        self._step += 1
        at = spelled((tick_ns - self._anchor) * 1e-9)
        self._cut(f'Attempt {self._pieces[-1].number} is cut at {at}: {reason}')
        self._leap(due_ns)

    def _leap(self, due_ns: int) -> None:
        """Pass over ticks without an image: a damaged stamp may lie centuries ahead."""
        assert self._anchor is not None
        tick_ns = self._anchor + round(self._step * self._period_s * 1e9)
        next_ns = self._builder.next_fresh(self._reference, tick_ns)
        if next_ns == tick_ns:
            return
        goal_ns = due_ns if next_ns is None else min(next_ns, due_ns)
        steps = int((goal_ns - self._anchor) * 1e-9 / self._period_s) - 1
        self._step = max(self._step, steps)

    def _cut(self, reason: str) -> None:
        """Begin another piece, unless nothing was taken since the last cut."""
        last = self._pieces[-1]
        if last.ticks:
            self._on_problem(reason)
            self._pieces.append(Piece(last.task, last.instruction, last.success, last.number))

    def _jumped(self, reason: str) -> None:
        """Stamps jumped back: what follows has ticks of its own."""
        if self._piece is not None:
            self._cut(reason)
            over = self._end_ns is not None
            self._anchor, self._step, self._start_ns = None, 0, _NEVER if over else _FROM_HERE
            self._heard_ns = self._told_ns = None
