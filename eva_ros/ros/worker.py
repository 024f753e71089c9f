"""A thread that does long work beside the executor, one job at a time, the newest first."""

from collections.abc import Callable
import threading
from typing import Generic
from typing import TypeVar

Job = TypeVar('Job')


class NewestWins(Generic[Job]):
    """A slot for one waiting job: a newer one takes the place of the older."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._job: Job | None = None
        self._closed = False

    def put(self, job: Job) -> Job | None:
        """Leave a job and return the one it pushed out (itself, once closed), or None."""
        with self._changed:
            if self._closed:
                return job
            pushed_out, self._job = self._job, job
            self._changed.notify()
            return pushed_out

    def take(self) -> Job | None:
        """Wait for a job and return it; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._job is not None)
            job, self._job = self._job, None
            return None if self._closed else job

    def close(self) -> Job | None:
        """Let `take` return None from now on; return the job that was still waiting."""
        with self._changed:
            self._closed = True
            left, self._job = self._job, None
            self._changed.notify_all()
            return left


class Worker(Generic[Job]):
    """Run `work(job)` in a thread of its own.

    Args:
        name: of the thread.
        work: what to do with a job. It must not raise: what goes wrong is its own to report.
    """

    def __init__(self, name: str, work: Callable[[Job], None]) -> None:
        self._slot: NewestWins[Job] = NewestWins()
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Job | None:
        """Leave a job and return the waiting one it pushed out, or None."""
        return self._slot.put(job)

    def close(self, timeout_s: float = 5.0) -> Job | None:
        """Finish the running job, start no other, and return the one that was waiting."""
        left = self._slot.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return left

    def _run(self) -> None:
        while (job := self._slot.take()) is not None:
            self._work(job)
