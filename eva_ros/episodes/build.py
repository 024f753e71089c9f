"""Read bags into the cache, in several processes; what is interrupted goes on where it was."""

from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import as_completed
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
from pathlib import Path
import time
from typing import Any
from typing import TextIO

from eva_ros.episodes.cache import Cache
from eva_ros.episodes.settings import AlignSettings
from eva_ros.episodes.views import ViewSpec
from eva_ros.robot.spec import load_robot

# Fewer bags are not worth the start of processes.
_FEW = 4

_cache: Cache


def build_all(
    bags: Sequence[Path], cache: Cache, workers: int, report: TextIO | None
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each bag and what was made of it, as they are ready.

    Args:
        bags: to be read.
        cache: keeps the episodes.
        workers: number of processes.
        report: progress goes here.
    """
    progress = _Progress(len(bags), report)
    if workers < 2 or len(bags) <= _FEW:
        for bag in bags:
            yield bag, cache.build(bag)
            progress.step()
        return
    with ProcessPoolExecutor(
        workers,
        # A forked process would inherit the locks of torch's and OpenCV's threads.
        mp_context=multiprocessing.get_context('spawn'),
        initializer=_begin,
        initargs=(cache.root, cache.robot.path, cache.view, cache.settings),
    ) as pool:
        jobs = {pool.submit(_build, bag): bag for bag in bags}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
                progress.step()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(root: Path, robot: Path, view: ViewSpec, settings: AlignSettings) -> None:
    """Prepare a process."""
    global _cache
    _cache = Cache(root, load_robot(robot), view, settings)


def _build(bag: Path) -> dict[str, Any]:
    return _cache.build(bag)


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
