"""Whether the nodes that a task needs are there and active, or have died."""

from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
from typing import Any

from lifecycle_msgs.msg import State

from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.compat import SubscriptionEventCallbacks
from eva_ros.ros.lifecycle import EvaNode


class NodeWatch:
    """Hears the lifecycle state of other nodes, and notices when their liveliness lease runs out.

    Args:
        node: on which the subscriptions are made.
        names: of the nodes.
        on_change: is called with a node's name and what is wrong with it, one sentence; empty
            when it is active.
    """

    def __init__(
        self, node: EvaNode, names: Sequence[str], on_change: Callable[[str, str], None]
    ) -> None:
        self._on_change = on_change
        # What follows from the state that a node told last.
        self._said: dict[str, str] = {}
        for name in names:
            subscription = node.create_subscription(
                State,
                topics.of(name, topics.STATE),
                partial(self._on_state, name),
                qos.LEASED,
                event_callbacks=self.lease_of(name),
            )
            node.own(partial(node.destroy_subscription, subscription))

    def lease_of(self, name: str) -> SubscriptionEventCallbacks:
        """Return what a subscription to a node's topic needs to notice that the node has died."""
        return SubscriptionEventCallbacks(liveliness=partial(self._on_liveliness, name))

    def _on_state(self, name: str, message: State) -> None:
        active = message.id == State.PRIMARY_STATE_ACTIVE
        sentence = f'{name} is {message.label}, not active: see what it says on /diagnostics.'
        self._said[name] = '' if active else sentence
        self._on_change(name, self._said[name])

    def _on_liveliness(self, name: str, event: Any) -> None:
        said = self._said.get(name)
        if event.alive_count_change < 0:
            # One that is being configured asserts nothing: it stays what it said it was.
            dead = f'{name} has died, or cannot be reached any more: start it again.'
            self._on_change(name, said or dead)
        if event.alive_count and said is not None:
            # It was started again before anybody missed it, or it was held up.
            self._on_change(name, said)
