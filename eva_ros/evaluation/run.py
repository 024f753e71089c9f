"""A recorded run of the whole system, and its summary figures."""

from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from eva_ros.evaluation.metrics import standing_share
from eva_ros.observations.views import ViewSpec
from eva_ros.robot.spec import Robot

# The stages of a turn, in their order.
STAGES = ('look', 'dream', 'decode', 'check', 'move')

# Speed below which a joint stands still, in rad/s; above the noise of joint states.
REST_VELOCITY = 0.02


@dataclass(frozen=True)
class Turn:
    """One turn of look, dream, move.

    Attributes:
        rollout_id: Number of the dream.
        cameras: Camera images before the dream, uint8 RGB, by camera name.
        frames: Dreamed views [T, H, W, 3], uint8; frame 0 is the observation.
        dt: Time between two frames, in s.
        positions: Joints decoded from the frames [T, J].
        score: Executability, 10 is best; nan if not scored.
        accepted: Whether the gate accepted the chunk.
        reason: Reason of the gate, as in ChunkReport.
        detail: Sentence of the gate.
        clamped_steps: Number of (step, joint) pairs clamped to position limits.
        violations_before: Number of pairs that break a limit as decoded.
        violations_after: Number of pairs that break a limit as sent.
        stretch: How much slower than dreamed the motion was.
        started_ns: When the arms started to follow; None if they did not.
        joined_s: How far into the dream the arms started to follow, in s: 0 from rest; in mode
            overlap the age of the observation.
        think_s: Time from the observation to the gate's verdict, in s of ROS time, or nan.
        command_times_s: Time of each point sent, from the start [K].
        command: Joints sent [K, J]; K is 0 if nothing was sent.
        seen: Camera views while each step was executed [T, H, W, 3]; None if not executed.
        seconds: Wall time of each stage.
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
    joined_s: float
    think_s: float
    command_times_s: NDArray[np.float64]
    command: NDArray[np.float64]
    seen: NDArray[np.uint8] | None
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempted:
    """One attempt at a task.

    Attributes:
        success: Whether the task's judge reported success.
        message: Final message of the task executor.
        start_ns: Start in ROS time.
        end_ns: End in ROS time.
        stamps_ns: Stamps of the measured joints [N].
        joints: Measured joints [N, J].
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

    def decoded_s(self, turn: 'Turn') -> NDArray[np.float64]:
        """Return the time of each decoded step of a turn since the start of the attempt [T]."""
        assert turn.started_ns is not None
        begin_s = (turn.started_ns - self.start_ns) * 1e-9 - turn.joined_s
        return begin_s + np.arange(len(turn.positions)) * turn.dt * turn.stretch

    @property
    def elapsed_s(self) -> float:
        """Return the duration in s of ROS time."""
        return (self.end_ns - self.start_ns) * 1e-9

    @property
    def standing(self) -> float:
        """Return the share of time during which all joints stood still."""
        return standing_share(self.joints, self.stamps_ns, REST_VELOCITY)

    @property
    def score(self) -> float:
        """Return the mean executability of the decoded chunks; nan if none was scored."""
        return mean_known(turn.score for turn in self.turns)

    @property
    def accepted(self) -> int:
        """Return the number of chunks that the gate accepted."""
        return sum(turn.accepted for turn in self.turns)

    @property
    def joined(self) -> int:
        """Return the number of chunks that joined a motion under way."""
        return sum(turn.joined_s > 0.0 for turn in self.turns)

    def violations(self) -> tuple[int, int]:
        """Return the limit violations of all chunks, as decoded and as sent."""
        before = sum(turn.violations_before for turn in self.turns)
        return before, sum(turn.violations_after for turn in self.turns)


@dataclass(frozen=True)
class Alignment:
    """The same scene dreamed before and after alignment, each dream with the same seed.

    Attributes:
        instruction: Instruction of both dreams.
        dt: Time between two frames, in s.
        before: Dream of the unaligned model.
        after: Dream of the aligned model.
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
        title: Title of the report.
        started: Date and time, as text.
        checkpoints: Checkpoint of each model, by its role.
        facts: Further lines for the report, by name.
    """

    title: str
    started: str
    robot: Robot
    view: ViewSpec
    attempts: tuple[Attempted, ...]
    checkpoints: dict[str, str]
    facts: dict[str, str]
    alignment: Alignment | None = None

    @property
    def mode(self) -> str:
        """Return the mode that the run was asked for; look_dream_move where it was not said."""
        return self.facts.get('mode', 'look_dream_move')

    @property
    def think_times_s(self) -> NDArray[np.float64]:
        """Return the think time of each turn that the gate has judged, in s of ROS time."""
        found = np.array([turn.think_s for a in self.attempts for turn in a.turns])
        return found[np.isfinite(found)]

    def stage_seconds(self, stage: str) -> NDArray[np.float64]:
        """Return the wall time of a stage in each turn that has it."""
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
    """Return a figure as text; a dash for nan (nothing was measured)."""
    return form.format(value) if np.isfinite(value) else '–'
