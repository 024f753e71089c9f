"""A ROS graph of a test's own: no other test and no robot on the network can hear it."""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import gc
import os
from pathlib import Path
import tempfile
import threading
import time
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from eva_ros.ros.run import NodeThread

# Generous: what a test waits for comes at once, unless the machine is very busy.
TIMEOUT_S = 240.0
_DOMAINS = range(20, 100)
_LOCKS: list[Any] = []


def own_domain() -> int:
    """Return a domain id that no other process on this machine uses, as long as this one lives."""
    for domain in _DOMAINS:
        path = Path(tempfile.gettempdir()) / f'eva_ros_test_domain_{domain}.lock'
        try:
            lock = path.open('w')
        except OSError:  # another user's
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        _LOCKS.append(lock)
        return domain
    raise RuntimeError('every ROS domain for tests is taken')


if not _LOCKS:
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_DOMAIN_ID'] = str(own_domain())


def wait(future: Any) -> Any:
    """Wait for a future that an executor's thread completes, and return its result."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    assert done.wait(TIMEOUT_S), 'waited in vain for an answer'
    return future.result()


class Graph:
    """A probe that listens and speaks, and the nodes under test, in one context."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context, args=[])
        self.probe = Node('probe', context=self.context)
        self._changed = threading.Condition()
        self._count = 0
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.probe)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()
        self.running: list[NodeThread] = []
        self._clients: dict[str, Any] = {}
        self._others: list[Node] = []

    def start(self, kind: Callable[..., Any], **parameters: Any) -> NodeThread:
        """Start a node and wait until it is active or has refused."""
        return self.start_with(kind, {}, **parameters)

    def start_with(
        self, kind: Callable[..., Any], options: dict[str, Any], **parameters: Any
    ) -> NodeThread:
        """Start a node that takes further arguments."""
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        settled = threading.Event()
        thread = NodeThread(
            lambda: kind(context=self.context, parameter_overrides=overrides, **options),
            settled.set,
        )
        self.running.append(thread)
        thread.start()
        assert settled.wait(TIMEOUT_S)
        return thread

    def add(self, node: Node) -> None:
        """Let a node of the test's own answer, as long as the graph lives."""
        self._executor.add_node(node)
        self._others.append(node)

    def collect(self, kind: type, topic: str, qos: Any = 10) -> list[Any]:
        """Return a list that grows with every message heard on a topic."""
        heard: list[Any] = []

        def hear(message: Any) -> None:
            with self._changed:
                heard.append(message)
                self._count += 1
                self._changed.notify_all()

        self.probe.create_subscription(kind, topic, hear, qos)
        return heard

    def wait_for(self, condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
        """Wait until a condition on what was heard holds, and return it.

        Looked at anew with every message, and now and then for what no message announces.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            with self._changed:
                seen = self._count
            # Without the lock: the condition may call a service.
            if value := condition():
                return value
            assert time.monotonic() < deadline, 'waited in vain'
            with self._changed:
                self._changed.wait_for(lambda last=seen: self._count != last, 0.05)

    def publisher(self, kind: type, topic: str, qos: Any = 10, *, listeners: int = 1) -> Any:
        """Return a publisher that has been found by its listeners."""
        publisher = self.probe.create_publisher(kind, topic, qos)
        self.wait_for(lambda: publisher.get_subscription_count() >= listeners)
        return publisher

    def client(self, kind: type, name: str) -> Any:
        """Return the client of a service, always the same one.

        A server drops its answer to a client that it has not discovered yet, so the clients of
        another process's services are best made before that process starts.
        """
        if name not in self._clients:
            self._clients[name] = self.probe.create_client(kind, name)
        return self._clients[name]

    def call(self, kind: type, name: str, request: Any = None) -> Any:
        """Call a service and return its response."""
        client = self.client(kind, name)
        assert client.wait_for_service(TIMEOUT_S), f'no service {name}'
        return wait(client.call_async(request or kind.Request()))

    def close(self) -> None:
        """Stop every node, then the probe."""
        for thread in reversed(self.running):
            thread.stop()
        self._executor.shutdown(timeout_sec=1.0)
        self._thread.join(5.0)
        for node in (*self._others, self.probe):
            node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@contextmanager
def ros_graph() -> Iterator[Graph]:
    """Give a graph for the time of a test."""
    # A node in a cycle of references keeps its participant; too many of them on a machine and
    # those of other processes are not discovered any more.
    gc.collect()
    graph = Graph()
    try:
        yield graph
    finally:
        graph.close()
