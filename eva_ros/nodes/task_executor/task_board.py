"""What the task executor knows at this moment, and a way to wait until it changes."""

from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
import threading
import time
from typing import TypeVar

from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState

Found = TypeVar('Found')
# Looked at anew so often even if nothing is heard: time limits pass in silence.
_GLANCE_S = 0.2


@dataclass(frozen=True)
class Sighting:
    """An observation as far as the executor cares: when it was taken."""

    stamp_ns: int
    oldest_image_ns: int
    observation_id: int


@dataclass(frozen=True)
class Success:
    """Somebody judged a task done."""

    stamp_ns: int
    task: str


class Patience:
    """Runs out after so long in ROS time, or when that has stood still for as long.

    A simulated robot may be slower than real time, and its clock may stop.
    """

    def __init__(self, now_ns: Callable[[], int], timeout_s: float) -> None:
        self._now_ns = now_ns
        self._timeout_s = timeout_s
        self._last_ns = now_ns()
        self._end_ns = self._last_ns + round(timeout_s * 1e9)
        self._moved_s = time.monotonic()

    def is_over(self) -> bool:
        """Return whether it has run out."""
        now_ns, wall_s = self._now_ns(), time.monotonic()
        if now_ns != self._last_ns:
            self._last_ns, self._moved_s = now_ns, wall_s
        return now_ns >= self._end_ns or wall_s - self._moved_s >= self._timeout_s


class TaskBoard:
    """The newest of everything that is heard. Written by callbacks, read by the task's thread.

    Args:
        now_ns: the ROS time.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._changed = threading.Condition()
        self._rest_since_ns: int | None = None
        self._sighting: Sighting | None = None
        self._chunks: set[int] = set()
        self._reports: dict[int, ChunkReport] = {}
        self.safety: SafetyState | None = None
        self.success: Success | None = None
        # Of the nodes that a task needs: those not heard of yet, and what is wrong with others.
        self.unheard: set[str] = set()
        self._problems: dict[str, str] = {}
        self._lost = ''
        # When the scene was drawn anew; what was seen before is of another one.
        self.scene_ns = 0

    # Written by callbacks.

    def see(self, sighting: Sighting, *, at_rest: bool) -> None:
        """Take note of an observation."""
        with self._changed:
            before = self._sighting
            if before and sighting.stamp_ns < before.stamp_ns:
                self._rest_since_ns = None
            if not at_rest:
                self._rest_since_ns = None
            elif self._rest_since_ns is None:
                self._rest_since_ns = sighting.stamp_ns
            self._sighting = sighting
            self._changed.notify_all()

    def add_chunk(self, rollout_id: int) -> None:
        """Take note that a rollout was decoded."""
        with self._changed:
            self._chunks.add(rollout_id)
            self._changed.notify_all()

    def add_report(self, report: ChunkReport) -> None:
        """Take note of what became of a chunk; a later report replaces an earlier one."""
        with self._changed:
            self._reports[report.rollout_id] = report
            self._changed.notify_all()

    def set_safety(self, state: SafetyState) -> None:
        """Take note of the arm trajectory publisher's state."""
        with self._changed:
            self.safety = state
            self._changed.notify_all()

    def expect(self, nodes: Iterable[str]) -> None:
        """Wait to hear of the nodes that a task needs."""
        with self._changed:
            self.unheard = set(nodes)

    def set_node(self, name: str, problem: str) -> None:
        """Take note of a node that a task needs.

        Args:
            name: of the node.
            problem: what is wrong with it, one sentence; empty when it is active.
        """
        with self._changed:
            self.unheard.discard(name)
            self._problems.pop(name, None)
            if problem:
                self._problems[name] = problem
                self._lost = self._lost or problem
            self._changed.notify_all()

    def set_success(self, success: Success | None) -> None:
        """Take note that somebody judged a task done; None: it ended otherwise."""
        with self._changed:
            self.success = success
            self._changed.notify_all()

    def set_scene(self, stamp_ns: int) -> None:
        """Take note that a new attempt has begun: nobody has judged it yet."""
        with self._changed:
            self.scene_ns = stamp_ns
            self.success = None
            self._changed.notify_all()

    def wake(self) -> None:
        """Let the task's thread look again, e.g. because its goal was canceled."""
        with self._changed:
            self._changed.notify_all()

    # Read by the task's thread.

    def forget(self) -> None:
        """Forget chunks, reports and nodes that are back again: a new task begins."""
        with self._changed:
            self._lost = ''
            self._chunks.clear()
            self._reports.clear()

    def wait_for(
        self,
        find: Callable[[], Found | None],
        timeout_s: float,
        check: Callable[[], None] = lambda: None,
    ) -> Found | None:
        """Wait until `find` returns something true and return it.

        Args:
            find: called with every change, and a few times a second.
            timeout_s: Patience, after which None is returned.
            check: called as often; raises to end the wait.
        """
        patience = Patience(self._now_ns, timeout_s)
        with self._changed:
            while True:
                check()
                found = find()
                if found or patience.is_over():
                    return found
                self._changed.wait(min(timeout_s, _GLANCE_S))

    @property
    def lost(self) -> str:
        """Return what is wrong with a node that the task needs, or was meanwhile; else ''."""
        return self._lost or next(iter(self._problems.values()), '')

    def sighting_at_rest(self, not_before_ns: int) -> Sighting | None:
        """Return the newest observation if every image in it shows arms that rest.

        Args:
            not_before_ns: nor may an image be older than this.
        """
        sighting, since_ns = self._sighting, self._rest_since_ns
        if sighting is None or since_ns is None:
            return None
        return sighting if sighting.oldest_image_ns >= max(since_ns, not_before_ns) else None

    def sighting_since(self, not_before_ns: int) -> Sighting | None:
        """Return the newest observation, also of moving arms, if not from before an instant."""
        sighting = self._sighting
        return sighting if sighting and sighting.stamp_ns >= not_before_ns else None

    def has_chunk(self, rollout_id: int) -> bool:
        """Return whether a rollout was decoded."""
        return rollout_id in self._chunks

    def report_on(self, rollout_id: int) -> ChunkReport | None:
        """Return the latest report on a rollout's chunk."""
        return self._reports.get(rollout_id)
