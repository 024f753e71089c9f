"""The same function for many jobs, spread over processes."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import as_completed
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
from typing import Any
from typing import TextIO
from typing import TypeVar

from eva_ros.progress import Progress

Job = TypeVar('Job')
Result = TypeVar('Result')


def spread(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int,
    *,
    what: str,
    report: TextIO | None,
    initializer: Callable[[], Any] | None = None,
) -> Iterator[Result]:
    """Yield the results of a function in the order in which the jobs finish.

    Args:
        function: Function of one job, at the top level of its module.
        jobs: Arguments of the calls.
        workers: Number of processes; with 1, everything runs in this one.
        what: Name of the jobs in the progress, in the plural.
        report: Stream for the progress; None to stay silent.
        initializer: Function that each new process calls first.
    """
    if not jobs:
        return
    with Progress(what, len(jobs), report) as counter:
        for result in _results(function, jobs, min(workers, len(jobs)), initializer):
            counter.advance()
            yield result


def _results(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int,
    initializer: Callable[[], Any] | None,
) -> Iterator[Result]:
    if workers < 2:
        yield from map(function, jobs)
        return
    # A forked process would inherit the locks of threads of OpenGL, torch and OpenCV.
    spawn = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(workers, spawn, initializer) as pool:
        futures = [pool.submit(function, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
