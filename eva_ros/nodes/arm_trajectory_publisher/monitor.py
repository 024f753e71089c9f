"""The monitor: what must hold before the arms are armed, and for as long as they are."""

from collections.abc import Sequence

from eva_ros.control import reasons
from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.command_supervisor import Fault
from eva_ros.control.state import ArmingFacts
from eva_ros.control.state import begins_at_measured
from eva_ros.control.state import Event
from eva_ros.control.state import joint_states_ahead
from eva_ros.control.state import several_estops
from eva_ros.control.watchers import FileWatch
from eva_ros.nodes.arm_trajectory_publisher.drivers import ArmEnabling
from eva_ros.nodes.arm_trajectory_publisher.drivers import ControllerStarts
from eva_ros.nodes.arm_trajectory_publisher.interrupts import ClockJumps
from eva_ros.nodes.arm_trajectory_publisher.interrupts import EstopTopic
from eva_ros.nodes.arm_trajectory_publisher.measured_joints import MeasuredJoints
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.publishers import other_publishers

# Looking at who else publishes costs a walk through the graph.
_LOOKS_PER_WALK = 25
# A lost joint state is one that is still lost after the executor had time to take newer ones.
_LOOKS_LOST = 5


class ArmMonitor:
    """Collects the facts on which arming depends, and looks for faults while armed.

    Controllers and drivers matter where they are sent something: in a dry run they are not
    complained about.

    Args:
        node: Node from which the graph is looked at.
        supervisor: Supervisor, which knows where the arms should be.
        joints: Measured joints.
        estop: E-stop topic.
        jumps: Watch on the node's clock.
        command_topics: Topics on which no other node may publish.
        files: Watch on the files that the limits come from.

    Attributes:
        starts: Where the controllers begin a trajectory.
    """

    def __init__(
        self,
        node: EvaNode,
        supervisor: CommandSupervisor,
        joints: MeasuredJoints,
        estop: EstopTopic,
        jumps: ClockJumps,
        command_topics: Sequence[str],
        files: FileWatch,
    ) -> None:
        self._node = node
        self._supervisor = supervisor
        self._joints = joints
        self._estop = estop
        self._jumps = jumps
        self._command_topics = command_topics
        self._files = files
        self._enabling = ArmEnabling(node, supervisor.robot)
        self.starts = ControllerStarts(node, supervisor.robot)
        self._looks = self._looks_lost = 0

    def facts(self, now_ns: int) -> ArmingFacts:
        """Return what arming depends on, having asked whoever has not answered yet."""
        # For the next look: a controller may have been started anew.
        self.starts.ask()
        return ArmingFacts(
            joint_state_age_s=self._joints.age_s(now_ns),
            estop_pressed=self._estop.is_pressed,
            other_publishers=other_publishers(self._node, self._command_topics),
            clock_jumped=self._jumps.happened,
            use_sim_time=self._jumps.is_simulated,
            stopping_s=self._supervisor.watched_s(now_ns),
            limits_changed=self._files.changed() is not None,
            heartbeat_lost=self._estop.is_lost,
            estop_publishers=self._estop.publishers,
            joint_state_ahead_s=self._joints.ahead_s(now_ns),
            at_measured_joints=self._at_measured_joints(),
            disabled_arms=[] if self._supervisor.dry_run else self._enabling.missing(),
            contradiction=self._joints.contradiction(),
        )

    def on_armed(self) -> None:
        """Start counting anew for how long the joints have been lost."""
        self._looks_lost = 0

    def look(self, now_ns: int) -> tuple[Event, str, str] | None:
        """Return what must stop armed arms, as event, reason and sentence; None if nothing.

        To be called once a tick: what takes a while to tell or to look at is counted in looks.
        """
        try:
            fault = self._fault(now_ns)
        except Exception as error:
            # Arms that nobody looks at do not go on.
            fault = reasons.ERROR, f'The watch failed: {type(error).__name__}: {error}'
        if fault is not None:
            return Event.FAULT, *fault
        if self._estop.is_lost:
            detail = 'The e-stop was not heard for too long.'
            return Event.ESTOP, reasons.ESTOP_HEARTBEAT_LOST, detail
        return None

    def astray(self, now_ns: int) -> tuple[str, Fault] | None:
        """Return an arm that does not do what it was sent, and its fault; None if none."""
        return self._supervisor.astray(self._joints.by_arm(), now_ns)

    def _fault(self, now_ns: int) -> Fault | None:
        self._looks += 1
        if contradiction := self._joints.contradiction():
            return reasons.JOINT_STATES_CONTRADICT, contradiction
        fault = self._lost(now_ns)
        if fault is None and (found := self.astray(now_ns)):
            fault = found[1]
        if fault is None and self._looks % _LOOKS_PER_WALK == 0:
            fault = self._surroundings()
        return fault

    def _lost(self, now_ns: int) -> Fault | None:
        settings = self._supervisor.settings
        age_s = self._joints.age_s(now_ns)
        fresh = age_s is not None and age_s <= settings.max_joint_state_age_s
        ahead_s = self._joints.ahead_s(now_ns)
        ahead = ahead_s > settings.max_clock_skew_s
        self._looks_lost = self._looks_lost + 1 if ahead or not fresh else 0
        if self._looks_lost < _LOOKS_LOST:
            return None
        if ahead:
            return reasons.STAMP_IN_FUTURE, joint_states_ahead(ahead_s)
        return reasons.STALE_JOINT_STATE, f'The joint states are {age_s:.2f} s old.'

    def _surroundings(self) -> Fault | None:
        if others := other_publishers(self._node, self._command_topics):
            return reasons.SECOND_PUBLISHER, f'{", ".join(others)} publishes to the arms too.'
        self.starts.ask_the_unknown()
        if arms := self._at_measured_joints():
            return reasons.CONTROLLER_REJECTED, begins_at_measured(arms)
        if (changed := self._files.changed()) is not None:
            return reasons.LIMITS_CHANGED, f'{changed} has changed: configure this node anew.'
        names = self._estop.publishers if self._estop.must_be_heard else []
        detail = several_estops(names)
        return (reasons.ESTOP, detail) if detail else None

    def _at_measured_joints(self) -> list[str]:
        return [] if self._supervisor.dry_run else self.starts.at_measured_joints()
