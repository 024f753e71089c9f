"""What must hold before the arms are armed, and for as long as they are."""

from eva_ros.control import reasons
from eva_ros.control.guard import ArmGuard
from eva_ros.control.state import ArmingFacts
from eva_ros.control.state import joint_states_ahead
from eva_ros.control.state import several_estops
from eva_ros.nodes.arm_clock import ClockJumps
from eva_ros.nodes.arm_estop import EstopTopic
from eva_ros.nodes.arm_surroundings import ArmSurroundings
from eva_ros.nodes.measured_joints import MeasuredJoints

# Looking at who else publishes costs a walk through the graph.
_LOOKS_PER_WALK = 25
# A lost joint state is one that is still lost after the executor had time to take newer ones.
_LOOKS_LOST = 5


class ArmConditions:
    """Collects the facts on which arming depends, and looks for faults while armed.

    Args:
        guard: knows where the arms should be.
        joints: where they are.
        estop: the e-stop topic.
        jumps: of the clock.
        surroundings: what others do.
    """

    def __init__(
        self,
        guard: ArmGuard,
        joints: MeasuredJoints,
        estop: EstopTopic,
        jumps: ClockJumps,
        surroundings: ArmSurroundings,
    ) -> None:
        self._guard = guard
        self._joints = joints
        self._estop = estop
        self._jumps = jumps
        self._surroundings = surroundings
        self._looks = self._looks_lost = 0

    def facts(self, now_ns: int) -> ArmingFacts:
        """Return what arming depends on, having asked whoever has not answered yet."""
        # For the next look: a controller may have been started anew.
        self._surroundings.starts.ask()
        return ArmingFacts(
            joint_state_age_s=self._joints.age_s(now_ns),
            estop_pressed=self._estop.is_pressed,
            other_publishers=self._surroundings.others(),
            clock_jumped=self._jumps.happened,
            use_sim_time=self._jumps.is_simulated,
            stopping_s=self._guard.watched_s(now_ns),
            limits_changed=self._surroundings.changed_file() is not None,
            heartbeat_lost=self._estop.is_lost,
            estop_publishers=self._estop.publishers,
            joint_state_ahead_s=self._joints.ahead_s(now_ns),
            at_measured_joints=self._surroundings.at_measured_joints(),
            disabled_arms=self._surroundings.disabled_arms(),
            contradiction=self._joints.contradiction(),
        )

    def on_armed(self) -> None:
        """Begin anew to count for how long the joints have been lost."""
        self._looks_lost = 0

    def fault(self, now_ns: int) -> tuple[str, str] | None:
        """Return what is found at one look at armed arms, as reason and sentence; None if nothing.

        To be called once a tick: what takes a while to tell or to look at is counted in looks.
        """
        self._looks += 1
        if contradiction := self._joints.contradiction():
            return reasons.JOINT_STATES_CONTRADICT, contradiction
        fault = self._lost(now_ns)
        if fault is None and (found := self.astray(now_ns)):
            fault = found[1]
        if fault is None and self._looks % _LOOKS_PER_WALK == 0:
            fault = self._surroundings.fault() or self._several_estops()
        return fault

    def _several_estops(self) -> tuple[str, str] | None:
        names = self._estop.publishers if self._estop.must_be_heard else []
        detail = several_estops(names)
        return (reasons.ESTOP, detail) if detail else None

    def _lost(self, now_ns: int) -> tuple[str, str] | None:
        age_s = self._joints.age_s(now_ns)
        fresh = age_s is not None and age_s <= self._guard.settings.max_joint_state_age_s
        ahead_s = self._joints.ahead_s(now_ns)
        ahead = ahead_s > self._guard.settings.max_clock_skew_s
        self._looks_lost = self._looks_lost + 1 if ahead or not fresh else 0
        if self._looks_lost < _LOOKS_LOST:
            return None
        if ahead:
            return reasons.STAMP_IN_FUTURE, joint_states_ahead(ahead_s)
        return reasons.STALE_JOINT_STATE, f'The joint states are {age_s:.2f} s old.'

    def astray(self, now_ns: int) -> tuple[str, tuple[str, str]] | None:
        """Return an arm that does not do what it was sent, and what is wrong with it.

        Joints that are stamped ahead of now are not compared with what is only to come.
        """
        latest_ns = now_ns + self._guard.settings.max_clock_skew_s * 1e9
        for arm in self._guard.robot.arms:
            measured = self._joints.of(arm)
            if measured is None or measured[1] > latest_ns:
                continue
            if fault := self._guard.watch(arm, *measured):
                return arm, fault
        return None
