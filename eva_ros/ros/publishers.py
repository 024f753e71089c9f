"""Who publishes on a topic, and whether the time comes from more than one of them."""

from collections.abc import Iterable

from rclpy.node import Node

from eva_ros.ros import topics
from eva_ros.ros.diagnostics import Health


def publisher_names(node: Node, topic: str) -> list[str]:
    """Return the nodes that publish on a topic, by full name, each as often as it does."""
    return sorted(
        f'{info.node_namespace.rstrip("/")}/{info.node_name}'
        for info in node.get_publishers_info_by_topic(topic)
    )


def other_publishers(node: Node, command_topics: Iterable[str]) -> list[str]:
    """Return the nodes that publish on a node's command topics, by full name.

    The node's own name counts where it comes twice: another process has it too.
    """
    me = node.get_fully_qualified_name()
    found = set()
    for topic in command_topics:
        speakers = publisher_names(node, topic)
        if me in speakers:
            speakers.remove(me)
        found.update(speakers)
    return sorted(found)


def several_clocks(node: Node) -> str:
    """Return a sentence where several nodes publish the simulated time, or else ''."""
    return _several(publisher_names(node, topics.CLOCK))


def _several(names: list[str]) -> str:
    if len(names) < 2:
        return ''
    return (
        f'{" and ".join(names)} publish {topics.CLOCK}: the time jumps between them. Stop all but '
        'one, or start further simulated robots with publish_clock:=false.'
    )


def clock_health(node: Node) -> Health:
    """Return whether the simulated time comes from one node."""
    names = publisher_names(node, topics.CLOCK)
    if not names:
        return Health(
            'warn', f'Nothing publishes {topics.CLOCK}: the time of this node stands still.'
        )
    sentence = _several(names)
    return Health('error', sentence) if sentence else Health('ok', f'{names[0]} gives the time.')
