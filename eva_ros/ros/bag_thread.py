"""Writes a bag in a thread of its own, so that a slow disk does not hold up who listens."""

from collections import deque
from collections.abc import Mapping
import threading
import time

from eva_ros.episodes.recorded_bag import RecordedBag

# What may wait for the disk.
_WAITING = 1 << 28
_FLUSH_S = 1.0


class BagThread:
    """A bag, and the thread that writes it.

    Attributes:
        bag: what is written.
        failure: why nothing more is written, '' where all is well.
        overflown: messages that were left out because too many waited for the disk.
    """

    def __init__(self, bag: RecordedBag, most_waiting: int = _WAITING) -> None:
        self.bag, self.failure, self.overflown = bag, '', 0
        self._most = most_waiting
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, int, bytes]] = deque()
        self._bytes = 0
        self._over = False
        self._thread = threading.Thread(target=self._run, name='bag', daemon=True)
        self._thread.start()

    def put(self, topic: str, received_ns: int, data: bytes) -> None:
        """Leave a message to be written; it is counted where it cannot be."""
        with self._changed:
            if self.failure or self._over or self._bytes + len(data) > self._most:
                self.overflown += 1
                return
            self._waiting.append((topic, received_ns, data))
            self._bytes += len(data)
            self._changed.notify()

    def close(self, facts: Mapping[str, str]) -> None:
        """Write what waits and finish the bag; `failure` says where that was not possible."""
        self._end()
        try:
            self.bag.close(facts)
        except OSError as error:
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

    def _write(self, batch: list[tuple[str, int, bytes]], *, flush: bool) -> None:
        try:
            for topic, received_ns, data in batch:
                self.bag.write(topic, received_ns, data)
            if flush:
                self.bag.flush()
        except OSError as error:
            self.failure = _reason(error)


def _reason(error: OSError) -> str:
    return f'the bag cannot be written: {error.strerror or error}'
