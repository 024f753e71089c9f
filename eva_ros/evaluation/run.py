"""One run of the whole system as it was recorded, and the figures that sum it up."""

from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from eva_ros.episodes.views import ViewSpec
from eva_ros.evaluation.metrics import standing_share
from eva_ros.robot.spec import Robot

# The stages of a turn, in their order.
STAGES = ('look', 'dream', 'decode', 'check', 'move')

# A joint slower than this stands still, in rad/s; sampling noise of joint states lies below.
REST_VELOCITY = 0.02


@dataclass(frozen=True)
class Turn:
    """One turn of look, dream, move.

    Attributes:
        rollout_id: number of the dream.
        cameras: what each camera saw then, uint8 RGB, by camera name.
        frames: the dreamed views [T, H, W, 3], uint8; frame 0 is the observation.
        dt: time between two of them, in s.
        positions: joints decoded from them [T, J].
        score: their executability, 10 is best; nan if not judged.
        accepted: whether the gate let the chunk through.
        reason: the gate's reason, in words, and its sentence for people.
        clamped_steps: number of (step, joint) pairs clamped to position limits.
        violations_before: pairs that break a limit as decoded.
        violations_after: pairs that break a limit as sent.
        stretch: how much slower than the dream the motion was.
        started_ns: when the arms began to follow; None if they did not.
        command_times_s: time of each point sent, after the start [K].
        command: joints sent [K, J]; K is 0 if nothing was.
        seen: views the cameras gave while each step was executed [T, H, W, 3]; None if not run.
        seconds: wall time of each stage.
    """

    rollout_id: int
    cameras: dict[str, NDArray[np.uint8]]
    frames: NDArray[np.uint8]
    dt: float
    positions: NDArray[np.float64]
    score: float
    accepted: bool
    reason: str
    detail: str
    clamped_steps: int
    violations_before: int
    violations_after: int
    stretch: float
    started_ns: int | None
    command_times_s: NDArray[np.float64]
    command: NDArray[np.float64]
    seen: NDArray[np.uint8] | None
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempted:
    """One task that was asked for.

    Attributes:
        success: what the simulated task's judge said.
        message: how the task executor ended.
        start_ns: when it began and ended, in ROS time.
        stamps_ns: when the joints were measured [N].
        joints: what they measured [N, J].
    """

    task: str
    instruction: str
    seed: int
    success: bool
    message: str
    start_ns: int
    end_ns: int
    stamps_ns: NDArray[np.int64]
    joints: NDArray[np.float64]
    turns: tuple[Turn, ...]

    @property
    def elapsed_s(self) -> float:
        """Return how long it took, in s of the ROS clock."""
        return (self.end_ns - self.start_ns) * 1e-9

    @property
    def standing(self) -> float:
        """Return the share of the time during which every joint stood still."""
        return standing_share(self.joints, self.stamps_ns, REST_VELOCITY)

    @property
    def score(self) -> float:
        """Return the mean executability of the decoded chunks; nan if none was judged."""
        return mean_known(turn.score for turn in self.turns)

    @property
    def accepted(self) -> int:
        """Return how many chunks the gate accepted."""
        return sum(turn.accepted for turn in self.turns)

    def violations(self) -> tuple[int, int]:
        """Return limit violations of all chunks: as decoded, and as sent."""
        before = sum(turn.violations_before for turn in self.turns)
        return before, sum(turn.violations_after for turn in self.turns)


@dataclass(frozen=True)
class Alignment:
    """The same scene dreamed before and after alignment, each dream with the same seed.

    Attributes:
        instruction: what both were told.
        before: frames, decoded joints and executability score of the unaligned model.
        after: the same of the aligned model.
    """

    instruction: str
    dt: float
    before: 'Dream'
    after: 'Dream'


@dataclass(frozen=True)
class Dream:
    """Dreamed frames [T, H, W, 3], the joints decoded from them [T, J], and their score."""

    frames: NDArray[np.uint8]
    positions: NDArray[np.float64]
    score: float


@dataclass(frozen=True)
class Run:
    """A whole run.

    Attributes:
        title: what it was.
        started: when, as text.
        checkpoints: name of each model used.
        facts: anything else worth a line, by its name.
    """

    title: str
    started: str
    robot: Robot
    view: ViewSpec
    attempts: tuple[Attempted, ...]
    checkpoints: dict[str, str]
    facts: dict[str, str]
    alignment: Alignment | None = None

    def stage_seconds(self, stage: str) -> NDArray[np.float64]:
        """Return the wall time of a stage in every turn that had it."""
        turns = [turn for attempt in self.attempts for turn in attempt.turns]
        return np.array([turn.seconds[stage] for turn in turns if stage in turn.seconds])


def mean_known(values: Iterable[float]) -> float:
    """Return the mean of the values that are finite; nan if there is none."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float('nan')


def median_and_p95(seconds: NDArray[np.float64]) -> tuple[float, float]:
    """Return median and 95th percentile; nan if there is nothing."""
    if seconds.size == 0:
        return float('nan'), float('nan')
    return float(np.median(seconds)), float(np.quantile(seconds, 0.95))


def shown(value: float, form: str) -> str:
    """Return a figure as text; a dash for nan, which says that there is nothing to measure."""
    return form.format(value) if np.isfinite(value) else '–'
