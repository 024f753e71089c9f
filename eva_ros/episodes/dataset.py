"""Recorded bags as episodes for training: aligned, cached, split."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
import hashlib
from pathlib import Path
import sys
from typing import Any
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from eva_ros.episodes.cache import Cache
from eva_ros.episodes.cache import default_cache
from eva_ros.episodes.settings import ResamplingSettings
from eva_ros.episodes.summary import summary
from eva_ros.errors import UserError
from eva_ros.observations.mirror import mirror_fault
from eva_ros.observations.views import ViewSpec
from eva_ros.recordings.bag_search import find_bags
from eva_ros.robot.spec import Robot
from eva_ros.workers import spread

# No more bags than this are read without starting processes: that takes longer.
_FEW = 4


@dataclass(frozen=True, eq=False)
class Episode:
    """One recorded attempt at one task, or a gapless piece of it, at the view's rate.

    Attributes:
        frames: views [T, H, W, 3], uint8, mapped from the cache.
        stamps_ns: when the first camera's image in each view was taken [T].
        joints: joints [T, J] at exactly these instants, interpolated: labels.
        instruction: what was asked.
        task: its short name; both are '' where the recording does not say.
        success: None where nobody judged.
        source: the bag.
        number: of the attempt within the bag.
        ticks_ns: the instants of which the views are the newest [T].
        image_stamps_ns: stamps of all cameras' images, in the view's order [T, C].
        observed_joints: newest joints not after the tick [T, J]: what is known online.
        speed: mean |dq/dt| of each arm's joints without the gripper [T, 2], rad/s.
    """

    frames: NDArray[np.uint8]
    stamps_ns: NDArray[np.int64]
    joints: NDArray[np.float64]
    instruction: str
    task: str
    success: bool | None
    source: str
    number: int
    ticks_ns: NDArray[np.int64]
    image_stamps_ns: NDArray[np.int64]
    observed_joints: NDArray[np.float64]
    speed: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.stamps_ns)


def load_episodes(
    paths: Iterable[str | Path],
    robot: Robot,
    view: ViewSpec,
    cache: str | Path | None = None,
    workers: int = 2,
    report: TextIO | None = sys.stderr,
    settings: ResamplingSettings | None = None,
) -> list[Episode]:
    """Return the episodes in recorded bags, failed attempts included.

    Bags that are new or have changed are read first, in parallel; this can be interrupted and
    goes on where it was.

    Args:
        paths: bags, or folders that hold bags at any depth.
        robot: whose joints and cameras.
        view: how the cameras are tiled, and the rate.
        cache: folder for aligned episodes; ~/.cache/eva_ros/episodes where None.
        workers: processes that read.
        report: progress and a table of what was found and left out go here.
        settings: clocks, tolerances and attempts, where the defaults do not fit.

    Raises:
        UserError: there is no bag, or no usable episode in any.
    """
    folders = [Path(path) for path in paths]
    guesses: list[str] = []
    bags = find_bags(folders, lambda _, sentence: guesses.append(sentence))
    kept = Cache(Path(cache) if cache else default_cache(), robot, view, settings)
    found = {bag: kept.read(bag) for bag in bags}
    missing = [bag for bag, meta in found.items() if meta is None]
    readers = workers if len(missing) > _FEW else 1
    built = dict(spread(partial(_build, kept), missing, readers, what='bags', report=report))
    metas = {bag: meta or built[bag] for bag, meta in found.items()}
    episodes = [episode for bag in bags for episode in _episodes(bag, metas[bag], kept, robot)]
    if report:
        told = [summary(metas, len(missing), 1 / view.rate_hz), *guesses]
        print('\n'.join(told), file=report)
    if not episodes:
        problems = [text for meta in metas.values() for text in meta['problems']]
        reason = f' ({problems[0].rstrip(".")})' if problems else ''
        raise UserError(
            f'No bag in {", ".join(map(str, folders))} holds a usable episode{reason}.'
        )
    return episodes


def _build(cache: Cache, bag: Path) -> tuple[Path, dict[str, Any]]:
    return bag, cache.build(bag)


def _episodes(bag: Path, meta: dict, cache: Cache, robot: Robot) -> Iterator[Episode]:
    if not meta['episodes']:
        return
    arrays = cache.arrays(bag)
    for about in meta['episodes']:
        part = slice(*about['ticks'])
        joints, stamps = arrays['joints'][part], arrays['image_stamps'][part]
        yield Episode(
            frames=arrays['frames'][part],
            stamps_ns=stamps[:, 0],
            joints=joints,
            instruction=about['instruction'],
            task=about['task'],
            success=about['success'],
            source=str(bag),
            number=about['number'],
            ticks_ns=arrays['stamps'][part],
            image_stamps_ns=stamps,
            observed_joints=arrays['observed_joints'][part],
            speed=arm_speed(joints, stamps[:, 0], robot),
        )


def arm_speed(joints: NDArray, stamps_ns: NDArray, robot: Robot) -> NDArray[np.float64]:
    """Return the mean |dq/dt| of each arm's joints, grippers left out [T, arms], rad/s."""
    # Two ticks may show the same image: no time has passed then.
    stamps, first = np.unique(stamps_ns, return_index=True)
    if len(stamps) < 2:
        return np.zeros((len(joints), len(robot.arms)))
    seconds = (stamps - stamps[0]) * 1e-9
    rates = np.abs(np.gradient(joints[first], seconds, axis=0))
    speed = np.stack(
        [
            rates[:, robot.arm_indices(arm)][:, robot.arm_joints_mask(arm)].mean(axis=1)
            for arm in robot.arms
        ],
        axis=1,
    )
    return speed[np.searchsorted(stamps, stamps_ns)]


def mirrored_episodes(episodes: Sequence[Episode], robot: Robot, view: ViewSpec) -> list[Episode]:
    """Return episodes as a mirror would show them: frames and joints, but not the words.

    Args:
        episodes: Recorded episodes.
        robot: Robot with mirror_signs.
        view: Layout of the cameras; must have both sides alike.

    Raises:
        UserError: The robot YAML states no mirror_signs, or the view is not symmetric.
    """
    fault = mirror_fault(robot, view)
    if fault:
        raise UserError(f'Recordings cannot be mirrored: {fault}.')
    return [
        replace(
            episode,
            frames=episode.frames[:, :, ::-1],
            joints=robot.mirrored(episode.joints),
            observed_joints=robot.mirrored(episode.observed_joints),
            speed=episode.speed[:, ::-1],
            instruction='',
        )
        for episode in episodes
    ]


def split_episodes(
    episodes: Sequence[Episode], held_out: float = 0.1, seed: int = 0
) -> tuple[list[Episode], list[Episode]]:
    """Return episodes for training and episodes held out, by attempt and evenly over tasks.

    An attempt that was cut into pieces stays together. Which attempts are held out follows from
    their bags' names, so that a few more bags change it little.

    Args:
        episodes: all of them.
        held_out: share of each task's attempts, at least one where there are two.
        seed: another one holds out others.
    """
    chosen: set[tuple[str, int]] = set()
    for task in sorted({episode.task for episode in episodes}):
        attempts = {(e.source, e.number) for e in episodes if e.task == task}
        ranked = sorted(attempts, key=lambda attempt: _rank(attempt, seed))
        count = round(held_out * len(ranked))
        if held_out > 0 and len(ranked) > 1:
            count = min(max(count, 1), len(ranked) - 1)
        chosen.update(ranked[:count])
    training = [e for e in episodes if (e.source, e.number) not in chosen]
    return training, [e for e in episodes if (e.source, e.number) in chosen]


def _rank(attempt: tuple[str, int], seed: int) -> tuple[str, str]:
    """Return where an attempt stands in the lottery: the folder above the bag does not matter."""
    bag, number = attempt
    name = f'{seed}/{Path(bag).name}/{number}'
    return hashlib.sha256(name.encode()).hexdigest(), bag
