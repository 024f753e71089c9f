"""What rclpy calls or does differently in the ROS distributions this package runs on."""

from collections.abc import Callable
from typing import Any

from rclpy.subscription import Subscription

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

__all__ = ['SubscriptionEventCallbacks', 'with_message_info']


def with_message_info(callback: Callable[[Any, dict[str, Any]], None]) -> Callable[..., None]:
    """Return the callback in the form that a subscription of this rclpy calls.

    Args:
        callback: takes a message and what the middleware says about it, e.g. its
            'source_timestamp'. Humble passes the message alone: the callback gets an empty dict.
    """
    if hasattr(Subscription, 'CallbackType'):
        return callback
    return lambda message: callback(message, {})
