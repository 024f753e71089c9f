"""A pytest plugin that makes the installed rclpy look like Humble's (`-p humble_rclpy`).

There, `rclpy.event_handler` is called `rclpy.qos_event`, and a subscription calls back with the
message alone, whatever its callback could take.
"""

import sys
from types import ModuleType
from typing import Any

# All of rclpy that the nodes use comes first: it is not meant to notice.
from rclpy import action  # noqa: F401
from rclpy import event_handler
from rclpy import lifecycle  # noqa: F401
from rclpy import subscription


def _callback_of_one_argument() -> property:
    only_the_message = subscription.Subscription.CallbackType.MessageOnly

    def give(self: Any, callback: Any) -> None:
        self._callback, self._callback_type = callback, only_the_message

    return property(lambda self: self._callback, give)


qos_event = ModuleType('rclpy.qos_event')
vars(qos_event).update(SubscriptionEventCallbacks=event_handler.SubscriptionEventCallbacks)
sys.modules['rclpy.qos_event'] = qos_event
# What is None here cannot be imported.
sys.modules['rclpy.event_handler'] = None  # type: ignore[assignment]
subscription.Subscription.callback = _callback_of_one_argument()
# The executor has a reference to the class, and needs what Humble's does without.
humble_subscription = ModuleType('rclpy.subscription')
vars(humble_subscription).update(Subscription=type('Subscription', (), {}))
sys.modules['rclpy.subscription'] = humble_subscription
