"""What others do that the arms depend on: publishers, controllers, drivers, files."""

from collections.abc import Sequence

from eva_ros.control import reasons
from eva_ros.control.guard import ArmGuard
from eva_ros.control.state import begins_at_measured
from eva_ros.nodes.arm_controllers import ControllerStarts
from eva_ros.nodes.arm_enabling import ArmEnabling
from eva_ros.nodes.arm_watchers import FileWatch
from eva_ros.nodes.arm_watchers import other_publishers
from eva_ros.ros.lifecycle import EvaNode


class ArmSurroundings:
    """Looks at what is around the node.

    What controllers and drivers are like matters where they are sent something: in a dry run
    nothing is said against them.

    Args:
        node: from which it is looked.
        guard: says whether this is a dry run.
        command_topics: on which nobody else may speak.
        files: what the limits come from.

    Attributes:
        starts: where the controllers begin a trajectory.
    """

    def __init__(
        self,
        node: EvaNode,
        guard: ArmGuard,
        command_topics: Sequence[str],
        files: FileWatch,
    ) -> None:
        self._node = node
        self._guard = guard
        self._command_topics = command_topics
        self._files = files
        self._enabling = ArmEnabling(node, guard.robot)
        self.starts = ControllerStarts(node, guard.robot)

    def others(self) -> list[str]:
        """Return the other nodes that publish to the arms."""
        return other_publishers(self._node, self._command_topics)

    def at_measured_joints(self) -> list[str]:
        """Return the arms whose controller begins a trajectory at the measured joints."""
        return [] if self._guard.dry_run else self.starts.at_measured_joints()

    def disabled_arms(self) -> list[str]:
        """Return the arms whose driver has not said that it is enabled, having asked it."""
        return [] if self._guard.dry_run else self._enabling.missing()

    def changed_file(self) -> str | None:
        """Return the name of a file that is not the one that was read, or None."""
        return self._files.changed()

    def fault(self) -> tuple[str, str] | None:
        """Return what armed arms must not go on with, as reason and sentence; None if nothing."""
        others = self.others()
        if others:
            detail = f'{", ".join(others)} publishes to the arms too.'
            return reasons.SECOND_PUBLISHER, detail
        self.starts.ask_the_unknown()
        arms = self.at_measured_joints()
        if arms:
            return reasons.CONTROLLER_REJECTED, begins_at_measured(arms)
        changed = self.changed_file()
        if changed is not None:
            return reasons.LIMITS_CHANGED, f'{changed} has changed: configure this node anew.'
        return None
