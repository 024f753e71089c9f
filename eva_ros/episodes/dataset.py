"""Recorded bags as episodes for training: aligned, cached, split."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import as_completed
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
import hashlib
import multiprocessing
from pathlib import Path
import sys
import time
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from eva_ros.episodes.bag_reader import is_bag
from eva_ros.episodes.cache import Cache
from eva_ros.episodes.cache import default_cache
from eva_ros.episodes.summary import summary
from eva_ros.episodes.views import ViewSpec
from eva_ros.errors import UserError
from eva_ros.robot.spec import ARM_NAMES
from eva_ros.robot.spec import load_robot
from eva_ros.robot.spec import Robot

# A recording under construction ends in this.
_UNFINISHED = '.part'
# Fewer bags are not worth the start of processes.
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

    Raises:
        UserError: there is no bag, or no usable episode in any.
    """
    folders = [Path(path) for path in paths]
    bags = find_bags(folders)
    kept = Cache(Path(cache) if cache else default_cache(), robot, view)
    metas = {bag: kept.read(bag) for bag in bags}
    missing = [bag for bag, meta in metas.items() if meta is None]
    for bag, meta in _built(missing, kept, (Path(cache or default_cache()), robot, view), workers,
                            report):
        metas[bag] = meta
    episodes = [found for bag in bags for found in _episodes(bag, metas[bag], kept, robot)]
    if report:
        print(summary(metas, len(missing), 1 / view.rate_hz), file=report)
    if not episodes:
        problems = [text for meta in metas.values() for text in meta['problems']]
        reason = f' ({problems[0].rstrip(".")})' if problems else ''
        raise UserError(f'No bag in {_listed(folders)} holds a usable episode{reason}.')
    return episodes


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """Return the bags at or below paths, each once, in order; unfinished ones are left out.

    Raises:
        UserError: a path does not exist, or there is no bag.
    """
    bags: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f'There is no {path}: name bags, or folders that hold bags.')
        bags.update(dict.fromkeys(_bags_below(path)))
    if not bags:
        raise UserError(f'There is no bag in {_listed(paths)}.')
    return list(bags)


def _bags_below(path: Path) -> Iterator[Path]:
    if path.name.endswith(_UNFINISHED):
        return
    if is_bag(path):
        yield path
    elif path.is_dir():
        for entry in sorted(path.iterdir()):
            if entry.is_dir():
                yield from _bags_below(entry)


def _listed(paths: Sequence[Path]) -> str:
    return ', '.join(str(path) for path in paths)


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
    """Return the mean |dq/dt| of each arm's joints, grippers left out [T, 2], rad/s."""
    # Two ticks may show the same image: no time has passed then.
    stamps, first = np.unique(stamps_ns, return_index=True)
    if len(stamps) < 2:
        return np.zeros((len(joints), 2))
    seconds = (stamps - stamps[0]) * 1e-9
    rates = np.abs(np.gradient(joints[first], seconds, axis=0))
    own = [robot.arm_indices(arm) for arm in ARM_NAMES]
    speed = np.stack([rates[:, part][:, :-1].mean(axis=1) for part in own], axis=1)
    return speed[np.searchsorted(stamps, stamps_ns)]


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


def _rank(attempt: tuple[str, int], seed: int) -> str:
    bag, number = attempt
    name = f'{seed}/{Path(bag).name}/{number}/{bag}'
    return hashlib.sha256(name.encode()).hexdigest()


# Building, in parallel.

_worker_cache: Cache


def _begin(folder: Path, robot: Path, view: ViewSpec) -> None:
    global _worker_cache
    _worker_cache = Cache(folder, load_robot(robot), view)


def _build(bag: Path) -> dict:
    return _worker_cache.build(bag)


def _built(
    bags: Sequence[Path],
    cache: Cache,
    world: tuple[Path, Robot, ViewSpec],
    workers: int,
    report: TextIO | None,
) -> Iterator[tuple[Path, dict]]:
    """Yield bags and what was made of them, as they are ready."""
    progress = _Progress(len(bags), report)
    if workers < 2 or len(bags) <= _FEW:
        for bag in bags:
            yield bag, cache.build(bag)
            progress.step()
        return
    folder, robot, view = world
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context('spawn'),
        initializer=_begin,
        initargs=(folder, robot.path, view),
    ) as pool:
        jobs = {pool.submit(_build, bag): bag for bag in bags}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
                progress.step()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Progress:
    """Says every few seconds how many bags are read, how fast, and how long it will take."""

    def __init__(self, total: int, out: TextIO | None, every_s: float = 5.0) -> None:
        self._total, self._out, self._every_s = total, out, every_s
        self._done, self._began = 0, time.monotonic()
        self._said = self._began

    def step(self) -> None:
        self._done += 1
        now = time.monotonic()
        if not self._out or now - self._said < self._every_s:
            return
        self._said = now
        rate = self._done / (now - self._began)
        left_s = (self._total - self._done) / rate
        print(
            f'episodes: {self._done} of {self._total} bags, {rate:.1f} a second, '
            f'{left_s:.0f} s left',
            file=self._out,
            flush=True,
        )
