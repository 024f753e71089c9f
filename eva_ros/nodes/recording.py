"""One episode while it is recorded."""

from dataclasses import dataclass
from dataclasses import field
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
    sentence: str = ''

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
