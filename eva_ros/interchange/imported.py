"""Episodes of other data sets as they are read: numbers as they stand there, pictures decoded."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eva_ros.interchange.episode_faults import episodes as listed_episodes
from eva_ros.interchange.episode_faults import Fault
from eva_ros.interchange.episode_faults import grouped
from eva_ros.interchange.episode_faults import kind
from eva_ros.observations.picture_check import PictureCheck
from eva_ros.observations.reasons import listed

Frames = Callable[[], Iterator[NDArray[np.uint8] | None]]

# Joints that stay within this share of the largest value do not move.
_STILL = 1e-6
# How far ahead of the state an action is looked for, frames.
_LEAD = 15
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, eq=False)
class ImportedEpisode:
    """One episode of a data set.

    Attributes:
        index: its number in the data set.
        instruction: what was asked first.
        stamps_s: from its beginning [T].
        states: measured joints [T, N], in the data set's own units.
        actions: commanded joints [T, N], or None.
        frames: gives each camera's pictures [H, W, 3], RGB, one for each stamp, in order; None
            where there is no picture of that instant.
        changes: what is asked from a row on, where it changes; another attempt begins there.
    """

    index: int
    instruction: str
    stamps_s: NDArray[np.float64]
    states: NDArray[np.float64]
    actions: NDArray[np.float64] | None
    frames: dict[str, Frames]
    changes: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.stamps_s)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set, opened.

    Attributes:
        path: where it lies.
        kind: 'LeRobot v2.1', 'LeRobot v3.0' or 'RoboTwin'.
        rate_hz: frames a second as it declares; 0 where it does not.
        joint_names: of states and actions, in order [N].
        episodes: those that can be read.
        findings: what is missing or deviates, a sentence each.
    """

    path: Path
    kind: str
    rate_hz: float
    joint_names: tuple[str, ...]
    episodes: list[ImportedEpisode]
    findings: list[str] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Return how many frames the episodes have together."""
        return sum(len(episode) for episode in self.episodes)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Return the cameras that any episode has."""
        return tuple(dict.fromkeys(name for e in self.episodes for name in e.frames))


def look_at_numbers(data: DataSet) -> list[str]:
    """Return what is wrong with the joints and stamps, or looks so, a sentence each."""
    if not data.episodes:
        return ['The data set holds no episode that can be read.']
    still = _motionless(data)
    rests = [] if still and still[0].startswith('No joint') else _rests(data)
    return [*still, *_motionless_episodes(data), *rests, *_clock(data)]


def remarks(data: DataSet) -> list[str]:
    """Return what is worth knowing about the joints and stamps and is no fault."""
    return [*_lead(data), *_counted(data)]


def _motionless(data: DataSet) -> list[str]:
    still = _still(data.episodes)
    names = [name for name, is_still in zip(data.joint_names, still) if is_still]
    if len(names) == len(data.joint_names):
        return [f'No joint moves: all {len(names)} keep one value in all {data.frames} frames.']
    return [f'Joints that never move: {", ".join(names)}.'] if names else []


def _still(episodes: Sequence[ImportedEpisode]) -> NDArray[np.bool_]:
    """Return which joints keep one value [N]."""
    states = np.concatenate([episode.states for episode in episodes])
    spread = states.max(axis=0) - states.min(axis=0)
    return spread <= _STILL * max(1.0, float(np.abs(states).max(initial=0.0)))


def _motionless_episodes(data: DataSet) -> list[str]:
    """Say which joints move in other episodes alone, in one line."""
    always = _still(data.episodes)
    found: dict[tuple[str, ...], list[int]] = {}
    for episode in data.episodes:
        still = _still([episode]) & ~always
        names = tuple(name for name, is_still in zip(data.joint_names, still) if is_still)
        if names and len(episode) > 1:
            found.setdefault(names, []).append(episode.index)
    count = len(data.joint_names) - int(always.sum())
    said = [
        f'{"all joints" if len(names) == count else ", ".join(names)} in {listed_episodes(where)}'
        for names, where in found.items()
    ]
    return [f'Joints that do not move in single episodes: {"; ".join(said)}.'] if said else []


def copied_actions(data: DataSet) -> list[str]:
    """Say in which episodes the actions are the states, and were not commanded."""
    found: dict[str, list[int]] = {}
    for episode in data.episodes:
        whose = _copied(episode.states, episode.actions)
        if whose:
            found.setdefault(whose, []).append(episode.index)
    return [
        f'The action is a copy of {whose} state in {listed_episodes(where)}: it was not commanded.'
        for whose, where in found.items()
    ]


def _copied(states: NDArray[np.float64], actions: NDArray[np.float64] | None) -> str:
    """Return which row's state the actions repeat, '' where none or nothing moves."""
    if actions is None or actions.shape != states.shape or not np.ptp(states, axis=0).any():
        return ''
    if np.array_equal(actions, states):
        return "the same row's"
    return 'the next' if np.array_equal(actions[:-1], states[1:]) else ''


def _rests(data: DataSet) -> list[str]:
    """Say how long all joints repeat their values exactly."""
    longest = 0
    for episode in data.episodes:
        same = np.all(np.diff(episode.states, axis=0) == 0, axis=1)
        ends = np.flatnonzero(np.diff(np.concatenate([[0], same, [0]])))
        longest = max([longest, *(ends[1::2] - ends[::2]).tolist()])
    if longest < max(5, data.rate_hz / 3):
        return []
    return [
        f'All joints repeat their values exactly for up to {longest + 1} frames in a row: a rest, '
        'or frozen encoders.'
    ]


def _lead(data: DataSet) -> list[str]:
    """Say by how many frames the actions are ahead of the states that follow them."""
    pairs = [(e.states, e.actions) for e in data.episodes if e.actions is not None]
    pairs = [(s, a) for s, a in pairs if len(s) > 3 * _LEAD and s.shape == a.shape]
    if not pairs or all(np.ptp(states, axis=0).max() == 0 for states, _ in pairs):
        return []
    costs = [
        np.mean([np.abs(a[: len(a) - _LEAD] - s[k : len(s) - _LEAD + k]).mean() for s, a in pairs])
        for k in range(_LEAD + 1)
    ]
    lead = int(np.argmin(costs))
    if not lead:
        return []
    seconds = f' ({lead / data.rate_hz:.2f} s)' if data.rate_hz else ''
    return [f'The action leads the state by {lead} frames{seconds}.']


def _clock(data: DataSet) -> list[str]:
    backward = [e.index for e in data.episodes if len(e) > 1 and np.diff(e.stamps_s).min() <= 0]
    if backward:
        return [f'The time stamps of {listed_episodes(backward)} do not increase.']
    if not data.rate_hz or _is_counted(data):
        return []
    rate = np.median([1 / np.median(np.diff(e.stamps_s)) for e in data.episodes if len(e) > 1])
    if abs(rate / data.rate_hz - 1) > 0.02:
        return [
            f'The data set declares {data.rate_hz:g} frames a second; its stamps show {rate:.2f}.'
        ]
    return []


def _counted(data: DataSet) -> list[str]:
    if not _is_counted(data):
        return []
    return [
        f'The time stamps are exact multiples of 1/{data.rate_hz:g} s: they were counted, not '
        'measured.'
    ]


def _is_counted(data: DataSet) -> bool:
    """Return whether all stamps are what counting gives, as LeRobot's own recorder does it."""
    if not data.rate_hz or not data.episodes:
        return False
    return all(
        np.abs(e.stamps_s - np.arange(len(e)) / data.rate_hz).max(initial=0) < 1e-4
        for e in data.episodes
    )


class PictureWatch:
    """Looks at a data set's pictures as they pass, now and then: all, and those of an episode."""

    def __init__(self, rate_hz: float) -> None:
        self._every = max(1, round(_LOOK_EVERY_S * rate_hz))
        self._checks: dict[str, PictureCheck] = {}
        self._episode: int | None = None
        self._single: dict[str, PictureCheck] = {}
        self._faults: list[tuple[str, Fault]] = []

    def add(self, episode: int, camera: str, index: int, picture: NDArray[np.uint8]) -> None:
        """Take in the picture of a camera at a frame; episodes come one by one."""
        if episode != self._episode:
            self._close()
            self._episode = episode
        if index % self._every == 0:
            for checks in (self._checks, self._single):
                checks.setdefault(camera, PictureCheck()).add(picture)

    def _close(self) -> None:
        """Keep what is wrong with the episode that is over."""
        self._faults += [
            (camera, (self._episode or 0, fault))
            for camera, check in self._single.items()
            for fault in check.faults()
        ]
        self._single = {}

    def findings(self) -> list[str]:
        """Return what is wrong with the cameras, in all or in single episodes."""
        self._close()
        said = {camera: check.faults() for camera, check in self._checks.items()}
        single = [
            (index, f"Episode {index}: camera '{camera}': {fault}")
            for camera, (index, fault) in self._faults
            if not any(kind(fault) == kind(whole) for whole in said[camera])
        ]
        whole = [f"Camera '{camera}': {fault}" for camera in said for fault in said[camera]]
        return [*whole, *grouped(single)]


def deviating(found: Sequence[str], usual: Sequence[str], what: str) -> list[str]:
    """Return which keys of a data set are missing or unusual, a sentence each."""
    missing = [key for key in usual if key not in found]
    other = [key for key in found if key not in usual]
    said = [f'{what} lacks {listed(missing)}.'] if missing else []
    return [*said, *([f'{what} has unusual keys: {listed(other)}.'] if other else [])]
