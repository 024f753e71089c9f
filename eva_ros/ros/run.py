"""Run nodes until SIGINT or SIGTERM, and stop them in order.

Each node has a single-threaded executor in a thread of its own, also where several share a
process: no callback waits for another node's, and it costs half of what one
MultiThreadedExecutor for all of them does. Nothing that takes long runs in a callback.
"""

from collections.abc import Callable
from collections.abc import Sequence
import re
import signal
import sys
import threading

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from rclpy.utilities import remove_ros_args

from eva_ros.ros.bringup import READY
from eva_ros.ros.lifecycle import EvaNode

DONE = 0
FAILED = 1
REFUSED = 2
_SUCCESS = TransitionCallbackReturn.SUCCESS


class NodeThread:
    """One node, its executor and the thread that spins it.

    Args:
        make: creates the node.
        on_change: called from the thread when the node is settled, which is as far as autostart
            takes it or has refused (then `refusal` is set), and when it fails.
    """

    def __init__(self, make: Callable[[], EvaNode], on_change: Callable[[], None]) -> None:
        self.refusal = ''
        self.failure: BaseException | None = None
        self.settled = False
        self._on_change = on_change
        self._stop: Future = Future()
        self.node = make()
        self._executor = SingleThreadedExecutor(context=self.node.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._run, name=self.node.get_name(), daemon=True)

    def start(self) -> None:
        """Configure and activate the node if it says so, then spin it."""
        self._thread.start()

    def stop(self, timeout_s: float = 20.0) -> None:
        """Shut the node down, its publishers live to the last, and destroy it."""
        self._stop.set_result(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._autostart()
            self.settled = True
            self._on_change()
            self._executor.spin_until_future_complete(self._stop)
        except BaseException as error:
            self.failure = error
            self.settled = True
            self._on_change()
        finally:
            self._end()

    def _autostart(self) -> None:
        if not self.node.param('autostart'):
            return
        done = self.node.trigger_configure() == _SUCCESS
        if not (done and self.node.trigger_activate() == _SUCCESS):
            self.refusal = self.node.refusal or 'a transition failed'

    def _end(self) -> None:
        try:
            self.node.shut_down()
        finally:
            self._executor.shutdown(timeout_sec=1.0)
            self.node.destroy_node()


class Host:
    """Nodes that live in one process."""

    def __init__(self, makers: Sequence[Callable[[], EvaNode]]) -> None:
        self._changed = threading.Condition()
        self.stopping = False
        self.threads = [NodeThread(make, self._notify) for make in makers]

    def start(self) -> None:
        """Start every node."""
        for thread in self.threads:
            thread.start()

    def wait_until_settled(self) -> list[str]:
        """Wait until every node is settled or one has refused; return the refusals."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.stopping or self._settled() or bool(self.refusals())
            )
        return self.refusals()

    def refusals(self) -> list[str]:
        """Return a sentence for each node that did not come up."""
        return [_sentence(thread) for thread in self.threads if thread.refusal or thread.failure]

    def wait(self) -> None:
        """Wait until `request_stop`, or until a node's thread fails."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopping or self._failed())

    def request_stop(self, *_signal: object) -> None:
        """Let `wait` return. Fit to be a signal handler."""
        self.stopping = True
        # Not from within the handler: the lock may be held by the very thread it interrupts.
        threading.Thread(target=self._notify, daemon=True).start()

    def stop(self) -> None:
        """Stop every node, the last one first."""
        for thread in reversed(self.threads):
            thread.stop()

    def _failed(self) -> bool:
        return any(thread.failure for thread in self.threads)

    def _settled(self) -> bool:
        return all(thread.settled for thread in self.threads)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _sentence(thread: NodeThread) -> str:
    name = thread.node.get_name()
    sentence = thread.refusal or f'{type(thread.failure).__name__}: {thread.failure}'
    return sentence if sentence.startswith(name) else f'{name}: {sentence}'


def run(
    makers: Sequence[Callable[[], EvaNode]],
    *,
    args: list[str] | None = None,
) -> int:
    """Run nodes in this process until SIGINT or SIGTERM.

    Args:
        makers: create the nodes.
        args: the command line with its --ros-args; sys.argv by default.

    When every node is up, one line on stdout says so.

    Returns:
        0 after a clean stop, 2 where ROS refused the command line, an argument is unknown or a
        node refused to come up (one sentence on stderr), 1 where one failed later.
    """
    try:
        unknown = remove_ros_args(sys.argv if args is None else args)[1:]
        if unknown:
            advice = 'parameters are given as --ros-args -p name:=value'
            print(f"A node does not know the argument '{unknown[0]}': {advice}.", file=sys.stderr)
            return REFUSED
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        print(f'ROS refuses the command line: {_without_places(error)}.', file=sys.stderr)
        return REFUSED
    try:
        host = Host(makers)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, host.request_stop)
        host.start()
        if not host.wait_until_settled() and not host.stopping:
            print(READY, *(thread.node.get_name() for thread in host.threads), flush=True)
            host.wait()
        refusals = host.refusals()
        host.stop()
    finally:
        rclpy.try_shutdown()
    for sentence in refusals:
        print(sentence, file=sys.stderr, flush=True)
    return _exit_code(host, refusals)


def _without_places(error: RuntimeError) -> str:
    """Return what rcl said, without its own lines of code."""
    said = ' '.join(re.sub(r',? at /\S+:\d+', '', str(error)).split())
    said = said.removeprefix('failed to initialize rcl: ').rstrip(' ,.')
    return f'unknown ROS arguments {said}' if said.startswith('[') else said


def _exit_code(host: Host, refusals: Sequence[str]) -> int:
    if any(thread.failure for thread in host.threads):
        return FAILED
    return REFUSED if refusals else DONE
