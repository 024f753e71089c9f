"""How recordings are aligned, where the defaults do not fit a robot's recorder."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from eva_ros.robot.spec import Robot
from eva_ros.robot.strict_yaml import load
from eva_ros.robot.strict_yaml import StrictModel


class ResamplingSettings(StrictModel):
    """Times, tolerances and attempts; a stream is a camera's name or a joint-state topic.

    Attributes:
        clock: `receive` for streams whose header stamps cannot be used; `header` otherwise.
            Streams on different clocks are only as well aligned as these clocks.
        max_age_s: how old a stream's newest sample may be at a tick; 1.5 ticks where not stated.
        task_topic: a topic of std_msgs/String that says what the robot is told; each new text
            begins an attempt, an empty one ends it. Texts have no stamp: an attempt holds what
            was received between two of them, whatever clock the images have. Episode markers
            come first where there are some.
        gap_s: where no marker or text says so, another attempt begins behind a gap this long.
    """

    clock: dict[str, Literal['header', 'receive']] = {}
    max_age_s: dict[str, float] = {}
    task_topic: str | None = None
    gap_s: float | None = Field(default=None, gt=0)


def by_reception(settings: ResamplingSettings, robot: Robot) -> set[str]:
    """Return the streams whose samples are as old as their reception says.

    Those of the settings' clock, and where that says nothing, joint-state topics of arms whose
    stamp_source is `receive` in the robot YAML.
    """
    found = {name for name, clock in settings.clock.items() if clock == 'receive'}
    topics = {arm.state_topic for arm in robot.arms.values() if arm.stamp_source == 'receive'}
    return found | {topic for topic in topics if topic not in settings.clock}


def load_settings(path: str | Path) -> ResamplingSettings:
    """Return the settings in a YAML file.

    Raises:
        UserError: no such file, an unknown key or a wrong value; names the file.
    """
    return load(ResamplingSettings, Path(path))
