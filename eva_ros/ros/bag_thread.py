"""Writes a bag in a thread of its own, so that a slow disk does not hold up who listens."""

from collections import deque
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from functools import partial
import threading
import time
from typing import Any

from eva_ros.recordings.recorded_bag import RecordedBag

# What may wait for the disk.
_WAITING = 1 << 28
_FLUSH_S = 1.0


class BagThread:
    """A bag, and the thread that writes it.

    Attributes:
        bag: what is written.
        failure: why nothing more is written, '' where all is well.
        overflown: messages that were left out because too many waited for the disk.
        topics: those that were named.
    """

    def __init__(self, bag: RecordedBag, most_waiting: int = _WAITING) -> None:
        self.bag, self.failure, self.overflown = bag, '', 0
        self.topics: set[str] = set()
        self._most = most_waiting
        self._changed = threading.Condition()
        self._waiting: deque[Callable[[], None]] = deque()
        self._bytes = 0
        self._over = False
        self._thread = threading.Thread(target=self._run, name='bag', daemon=True)
        self._thread.start()

    def add_topic(self, name: str, kind: str, offered: Sequence[Mapping[str, Any]]) -> None:
        """Name a topic, before the messages that are put after this."""
        self.topics.add(name)
        with self._changed:
            self._waiting.append(partial(self.bag.add_topic, name, kind, offered))

    def put(
        self, topic: str, received_ns: int, data: bytes, published_ns: int | None = None
    ) -> None:
        """Leave a message to be written; it is counted where it cannot be."""
        with self._changed:
            if self.failure or self._over or self._bytes + len(data) > self._most:
                self.overflown += 1
                return
            self._waiting.append(partial(self.bag.write, topic, received_ns, data, published_ns))
            self._bytes += len(data)
            self._changed.notify()

    def close(self, facts: Mapping[str, str]) -> None:
        """Write what waits and finish the bag; `failure` says where that was not possible."""
        self._end()
        try:
            self.bag.close(facts)
        except Exception as error:
            self.failure = self.failure or _reason(error)

    def discard(self) -> None:
        """Remove the bag."""
        with self._changed:
            self._waiting.clear()
        self._end()
        self.bag.discard()

    def _end(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        # What a bag begins with, its first marker, is worth more than the rest of a second.
        flushed_s = -_FLUSH_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._over, _FLUSH_S)
                batch = list(self._waiting)
                self._waiting.clear()
                self._bytes = 0
                over = self._over
            due = time.monotonic() - flushed_s >= _FLUSH_S
            if not self.failure:
                self._write(batch, flush=due)
            if due and batch:
                flushed_s = time.monotonic()
            if over and not batch:
                return

    def _write(self, batch: list[Callable[[], None]], *, flush: bool) -> None:
        try:
            for job in batch:
                job()
            if flush:
                self.bag.flush()
        except Exception as error:  # whatever it is, the rest of the bag is missing
            self.failure = _reason(error)


def _reason(error: Exception) -> str:
    words = getattr(error, 'strerror', None) or f'{type(error).__name__}: {error}'
    return f'the bag cannot be written: {words}'
