"""A robot's own attempts, from bags: what was dreamed, with how the attempt ended."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.alignment.prompts import Prompt
from eva_ros.errors import UserError
from eva_ros.observations.views import ViewSpec
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.bag_search import find_bags
from eva_ros.recordings.records import CHUNK
from eva_ros.recordings.records import ChunkRecord
from eva_ros.recordings.records import EPISODE
from eva_ros.recordings.records import EpisodeRecord
from eva_ros.recordings.records import REPORT
from eva_ros.recordings.records import ReportRecord
from eva_ros.recordings.records import ROLLOUT
from eva_ros.recordings.records import RolloutRecord
from eva_ros.robot.spec import Robot


@dataclass(frozen=True, eq=False)
class AttemptDream:
    """A dream of an attempt, with what became of it.

    Attributes:
        source: Bag of the attempt.
        number: Number of the attempt within the bag, as in episodes.dataset.
        rollout: The dream: frames, seed and checkpoint.
        chunk: What was decoded from it; None if nothing was.
        report: What the gate did with the chunk; None if it was never judged.
    """

    source: str
    number: int
    rollout: RolloutRecord
    chunk: ChunkRecord | None = None
    report: ReportRecord | None = None

    @property
    def sent(self) -> bool:
        """Return whether the arms were commanded to do it."""
        return self.report is not None and self.report.sent


@dataclass(frozen=True)
class DreamPrompt(Prompt):
    """A dream with the view it began with, what was measured while it was done, and the outcome.

    Attributes:
        frames: dreamed views [T, H, W, 3], uint8; the first is the observed one.
        joints: joints measured at the instants that the frames show, as executed [T, J].
        seed: of the dream.
        checkpoint: that dreamed it, "name@sha12".
    """

    seed: int = 0
    checkpoint: str = ''

    def identity(self) -> tuple[str, NDArray, NDArray]:
        """Return what tells this dream from another, its outcome included."""
        instruction, _, joints = super().identity()
        return f'{instruction} {self.success} {self.seed}', np.asarray(self.frames), joints


def read_dreams(paths: Iterable[Path], robot: Robot, view: ViewSpec) -> Iterator[AttemptDream]:
    """Yield the dreams of all attempts in bags, in order; none where none were recorded.

    Args:
        paths: Bags of attempts, or folders that hold bags at any depth.
        robot: Robot of the attempts.
        view: View of the dreams.

    Raises:
        UserError: No bag was found, or one belongs to another robot or view.
    """
    for bag in find_bags(list(paths)):
        yield from _of_bag(bag, robot, view)


def _of_bag(bag: Path, robot: Robot, view: ViewSpec) -> list[AttemptDream]:
    """Return the dreams between the markers of each attempt, or of the whole bag."""
    kinds = (ROLLOUT, CHUNK, REPORT, EPISODE)
    dreams: dict[tuple[int, int], dict[str, Any]] = {}
    with BagReader(bag, lambda _problem: None) as reader:
        _require_robot(bag, robot, reader.facts.get('eva.robot', ''))
        topics = [name for name, kind in reader.topics.items() if kind in kinds]
        number, inside = (-1, False) if reader.marked else (0, True)
        for record in reader.records(topics):
            if isinstance(record, EpisodeRecord):
                _require_robot(bag, robot, record.robot)
                number, inside = number + record.starts, record.starts
            elif inside and isinstance(record, RolloutRecord):
                _require_fit(bag, record, robot, view)
                dreams[number, record.rollout_id] = {'rollout': record}
            elif isinstance(record, ChunkRecord | ReportRecord):
                name = 'chunk' if isinstance(record, ChunkRecord) else 'report'
                dreams.get((number, record.rollout_id), {})[name] = record
    return [AttemptDream(str(bag), key[0], **parts) for key, parts in dreams.items()]


def _require_robot(bag: Path, robot: Robot, name: str) -> None:
    if name not in ('', robot.name):
        raise UserError(
            f"The attempt in {bag} was made by robot '{name}', not by '{robot.name}': give "
            f"attempts of '{robot.name}', or another --robot."
        )


def _require_fit(bag: Path, dream: RolloutRecord, robot: Robot, view: ViewSpec) -> None:
    _require_robot(bag, robot, dream.robot)
    has = (*dream.frames.shape[1:3], round(1 / dream.dt, 3) if dream.dt else 0.0)
    wanted = (view.height, view.width, round(view.rate_hz, 3))
    if has != wanted:
        raise UserError(
            f'The dreams in {bag} are {has[0]}x{has[1]} at {has[2]:g} Hz, but view '
            f"'{view.name}' has {wanted[0]}x{wanted[1]} at {wanted[2]:g} Hz: give the --view "
            'that the attempts were made with.'
        )


def require_checkpoint(found: Mapping[str, int], wanted: str | None = None) -> None:
    """Refuse attempts whose dreams are not all of one checkpoint.

    Args:
        found: Number of dreams by checkpoint.
        wanted: The checkpoint that they shall be of; None if any one will do.

    Raises:
        UserError: They are of another checkpoint, or of several.
    """
    shown = ', '.join(f'{name}: {count}' for name, count in found.items())
    if wanted is not None and set(found) - {wanted}:
        raise UserError(
            f'The attempts were dreamed by another checkpoint than {wanted} ({shown}): give '
            'attempts of that one, or the model that made them.'
        )
    if len(found) > 1:
        raise UserError(
            f'The attempts were dreamed by {len(found)} checkpoints ({shown}): give those of one.'
        )


def dream_prompts(dreams: Iterable[AttemptDream], episodes: Sequence[Any]) -> list[DreamPrompt]:
    """Return the dreams that the arms did, each with its attempt's outcome.

    Dreams that were not sent decided nothing and are left out, as are those of attempts whose
    views and joints could not be used.

    Args:
        dreams: Dreams of attempts.
        episodes: The same attempts' episodes (episodes.dataset); a prompt's `episode` is the
            number among them.
    """
    found = []
    for dream in dreams:
        if not dream.sent:
            continue
        for number, episode in enumerate(episodes):
            if _holds(episode, dream):
                found.append(_prompt(dream, episode, number))
                break
    return found


def _holds(episode: Any, dream: AttemptDream) -> bool:
    """Return whether a piece of an attempt holds the instant at which a dream was sent."""
    assert dream.report is not None
    own = (episode.source, episode.number) == (dream.source, dream.number)
    return own and episode.stamps_ns[0] <= dream.report.stamp_ns <= episode.stamps_ns[-1]


def _prompt(dream: AttemptDream, episode: Any, number: int) -> DreamPrompt:
    rollout = dream.rollout
    return DreamPrompt(
        frames=rollout.frames,
        joints=_executed(dream, episode),
        instruction=rollout.instruction,
        task=episode.task,
        success=episode.success,
        episode=number,
        seed=rollout.seed,
        checkpoint=rollout.checkpoint,
    )


def _executed(dream: AttemptDream, episode: Any) -> NDArray[np.float64]:
    """Return the joints measured when each frame was due, at the pace of the motion [T, J]."""
    assert dream.report is not None
    steps = np.arange(len(dream.rollout.frames)) * dream.rollout.dt * dream.report.stretch
    measured_s = (episode.stamps_ns - dream.report.stamp_ns) * 1e-9
    joints = np.asarray(episode.joints)
    return np.stack([np.interp(steps, measured_s, column) for column in joints.T], axis=1)
