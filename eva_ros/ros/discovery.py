"""Processes find each other over DDS in a moment, or in some seconds where a message was lost.

Fast DDS repeats what it announces every 3 s. Until a publisher has found its subscription, what it
says is lost, however reliable both are.
"""

import socket
import time
from typing import Any

# Ports of the DDS standard (RTPS 2.5, section 9.6.2): 7400 + 250 domain + 10 + 2 participant.
_FIRST_PORT = 7400
_PORTS_A_DOMAIN = 250
_UNICAST = 10
# As many as rmw_fastrtps looks for on the local host.
_PARTICIPANTS = 32
_GLANCE_S = 0.02


def port_in_use(domain: int) -> int | None:
    """Return the UDP port of a participant of the domain on this machine; None: it is free."""
    first = _FIRST_PORT + _PORTS_A_DOMAIN * domain + _UNICAST
    for port in range(first, first + 2 * _PARTICIPANTS, 2):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', port))
            except OSError:
                return port
    return None


class FirstListener:
    """Lets the first message of a publisher wait until somebody can hear it.

    Args:
        publisher: of which the first message matters.
        timeout_s: then it is sent all the same, and none waits any more.
    """

    def __init__(self, publisher: Any, timeout_s: float = 10.0) -> None:
        self._publisher = publisher
        self._timeout_s = timeout_s
        self._settled = False

    def wait(self) -> None:
        """Return when there has been a listener, or the time was up once."""
        deadline = time.monotonic() + self._timeout_s
        while not self._settled:
            heard = self._publisher.get_subscription_count() > 0
            self._settled = heard or time.monotonic() >= deadline
            if not self._settled:
                time.sleep(_GLANCE_S)
