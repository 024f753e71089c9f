"""Finding each other: a domain in use is seen at once, and first messages wait for listeners."""

import os
import time

from std_msgs.msg import String

from eva_ros.ros.discovery import FirstListener
from eva_ros.ros.discovery import port_in_use


def test_a_domain_is_in_use_while_somebody_takes_part(graph):
    domain = int(os.environ['ROS_DOMAIN_ID'])
    port = port_in_use(domain)
    assert port is not None
    assert 7400 + 250 * domain < port < 7400 + 250 * (domain + 1)


def test_a_domain_nobody_takes_part_in_is_free():
    assert port_in_use(13) is None


def test_the_first_message_waits_until_somebody_can_hear_it(graph):
    publisher = graph.probe.create_publisher(String, 'first', 1)
    listener = FirstListener(publisher)
    heard = graph.collect(String, 'first', 1)
    listener.wait()
    publisher.publish(String(data='once'))
    assert graph.wait_for(lambda: heard)[0].data == 'once'


def test_nobody_listening_holds_up_the_first_message_only(graph):
    publisher = graph.probe.create_publisher(String, 'unheard', 1)
    listener = FirstListener(publisher, timeout_s=0.3)
    began = time.monotonic()
    listener.wait()
    assert time.monotonic() - began >= 0.3
    publisher.get_subscription_count = None  # is not asked again
    listener.wait()
