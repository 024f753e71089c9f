"""One episode while it is recorded."""

from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
import struct
import threading

from rclpy.serialization import serialize_message

from eva_msgs.msg import Episode
from eva_ros.ros.bag_thread import BagThread
from eva_ros.ros.stamps import to_time

EPISODE_TOPIC = '/episode'
EPISODE_KIND = 'eva_msgs/msg/Episode'
_WORDS = {Episode.UNKNOWN: '', Episode.SUCCESS: 'true', Episode.FAILURE: 'false'}


@dataclass
class Recording:
    """An episode: its bag, what was asked, and how it went.

    Attributes:
        thread: writes the bag.
        robot: its name.
        index: number of the episode since the node was configured.
        task: short name; may be empty.
        instruction: what the robot is told.
        start_ns: ROS time of the beginning.
        success: as somebody judged it on `episode`; Episode.UNKNOWN where nobody did.
        over: is set when the bag is finished or gone.
        kept: whether there is a bag.
        ahead_s: how far the first message of a topic was stamped ahead of the ROS time, by topic.
        sentence: how it ended.
    """

    thread: BagThread
    robot: str
    index: int
    task: str
    instruction: str
    start_ns: int
    success: int = Episode.UNKNOWN
    over: threading.Event = field(default_factory=threading.Event)
    kept: bool = False
    ahead_s: dict[str, float] = field(default_factory=dict)
    sentence: str = ''

    def put(self, topic: str, now_ns: int, data: bytes) -> None:
        """Write a serialized message, whose type begins with a header, as it was heard."""
        if topic not in self.ahead_s:
            self.ahead_s[topic] = (_stamp_ns(data) - now_ns) * 1e-9
        self.thread.put(topic, now_ns, data)

    def other_clocks(self, topics: Iterable[str], most_s: float) -> list[str]:
        """Return a phrase for each topic whose stamps are not of the ROS time; 0 says nothing."""
        return [
            f"'{topic}' is stamped {abs(self.ahead_s[topic]):.0f} s "
            f'{"after" if self.ahead_s[topic] > 0 else "before"} the time of this node: '
            'use_sim_time:=true for a simulated robot, else set the clocks'
            for topic in topics
            if abs(self.ahead_s.get(topic, 0.0)) > most_s
        ]

    def mark(self, now_ns: int, phase: int) -> None:
        """Write a marker."""
        marker = Episode(
            phase=phase,
            index=self.index,
            task=self.task,
            instruction=self.instruction,
            success=self.success if phase == Episode.END else Episode.UNKNOWN,
            robot=self.robot,
        )
        marker.header.stamp = to_time(now_ns)
        self.thread.put(EPISODE_TOPIC, now_ns, serialize_message(marker))

    def finish(self, now_ns: int) -> None:
        """Write the last marker and put the bag in order."""
        self.mark(now_ns, Episode.END)
        judged = _WORDS[self.success]
        self.thread.close({'eva.success': judged} if judged else {})
        self.kept = True


def _stamp_ns(data: bytes) -> int:
    """Return the stamp of a CDR message that begins with a std_msgs/Header."""
    order = '<' if data[1] & 1 else '>'
    seconds, rest = struct.unpack_from(f'{order}iI', data, 4)
    return seconds * 10**9 + rest
