"""What recordings show of a robot, as far as its description needs it."""

from dataclasses import dataclass
from dataclasses import field


@dataclass(frozen=True)
class SeenCamera:
    """A camera: name, topic, size of its pictures (None where unknown), pictures a second."""

    name: str
    topic: str
    size: tuple[int, int] | None
    rate_hz: float = 0.0


@dataclass(frozen=True)
class Seen:
    """A bag or a data set.

    Attributes:
        source: what was looked at.
        states: names of the joints in joint states, by topic.
        rate_hz: joint states a second; 0 where unknown.
        spread: least and greatest value of each joint, by topic and name.
        cameras: those that there are.
        commands: topics of joint trajectories, and the joints in them.
        in_rad: whether joint states are rad unless they cannot be: ROS says so, data sets say
            nothing.
        robot: name of the robot that the recording says; '' where it says none.
        by_lerobot: whether LeRobot's own recorder made it: grippers go from 0 to 100 then.
        left_out: what is there and not used, a sentence each.
    """

    source: str
    states: dict[str, tuple[str, ...]]
    rate_hz: float = 0.0
    spread: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    cameras: tuple[SeenCamera, ...] = ()
    commands: dict[str, tuple[str, ...]] = field(default_factory=dict)
    in_rad: bool = True
    robot: str = ''
    by_lerobot: bool = False
    left_out: tuple[str, ...] = ()
