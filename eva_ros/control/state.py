"""May the arms move? A state machine as a table; without ROS, clocks or side effects."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from enum import Enum

from eva_ros.control import reasons


class State(str, Enum):
    """States, named as the constants of eva_msgs/SafetyState."""

    DISARMED = 'DISARMED'
    ARMED = 'ARMED'
    EXECUTING = 'EXECUTING'
    AWAITING_APPROVAL = 'AWAITING_APPROVAL'
    STOPPING = 'STOPPING'
    ESTOP = 'ESTOP'


class Event(str, Enum):
    """What can happen: asked for, or found."""

    ARM = 'arm'
    DISARM = 'disarm'
    PROPOSE = 'propose'
    REJECT = 'reject'
    EXECUTE = 'execute'
    JOIN = 'join'
    STOP = 'stop'
    FINISH = 'finish'
    FAULT = 'fault'
    ESTOP = 'estop'
    RESET = 'reset'


# What is not in the table is refused. An e-stop is left by RESET alone, and to DISARMED.
TRANSITIONS = {
    (State.DISARMED, Event.ARM): State.ARMED,
    (State.DISARMED, Event.DISARM): State.DISARMED,
    (State.DISARMED, Event.FAULT): State.DISARMED,
    (State.DISARMED, Event.ESTOP): State.ESTOP,
    (State.ARMED, Event.ARM): State.ARMED,
    (State.ARMED, Event.DISARM): State.DISARMED,
    (State.ARMED, Event.EXECUTE): State.EXECUTING,
    (State.ARMED, Event.PROPOSE): State.AWAITING_APPROVAL,
    (State.ARMED, Event.STOP): State.ARMED,
    (State.ARMED, Event.FAULT): State.DISARMED,
    (State.ARMED, Event.ESTOP): State.ESTOP,
    (State.AWAITING_APPROVAL, Event.DISARM): State.DISARMED,
    (State.AWAITING_APPROVAL, Event.EXECUTE): State.EXECUTING,
    (State.AWAITING_APPROVAL, Event.REJECT): State.ARMED,
    (State.AWAITING_APPROVAL, Event.FAULT): State.DISARMED,
    (State.AWAITING_APPROVAL, Event.ESTOP): State.ESTOP,
    (State.EXECUTING, Event.JOIN): State.EXECUTING,
    (State.EXECUTING, Event.STOP): State.STOPPING,
    (State.EXECUTING, Event.DISARM): State.DISARMED,
    (State.EXECUTING, Event.FINISH): State.ARMED,
    (State.EXECUTING, Event.FAULT): State.DISARMED,
    (State.EXECUTING, Event.ESTOP): State.ESTOP,
    (State.STOPPING, Event.STOP): State.STOPPING,
    (State.STOPPING, Event.DISARM): State.DISARMED,
    (State.STOPPING, Event.FINISH): State.ARMED,
    (State.STOPPING, Event.FAULT): State.DISARMED,
    (State.STOPPING, Event.ESTOP): State.ESTOP,
    (State.ESTOP, Event.DISARM): State.ESTOP,
    (State.ESTOP, Event.FAULT): State.ESTOP,
    (State.ESTOP, Event.ESTOP): State.ESTOP,
    (State.ESTOP, Event.RESET): State.DISARMED,
}


@dataclass(frozen=True)
class SafetyStateMachine:
    """The state, and why it was entered. Starts disarmed.

    Attributes:
        state: where it is.
        reason: name of a reason in eva_msgs/ChunkReport.
        detail: a sentence for the person at the robot.
    """

    state: State = State.DISARMED
    reason: str = reasons.OK
    detail: str = 'Start-up: the arms are disarmed.'

    def refusal(self, event: Event) -> str:
        """Return the sentence with which this state refuses an event."""
        return _REFUSALS[self.state].format(event=event.value)

    def on(self, event: Event, reason: str = reasons.OPERATOR, detail: str = '') -> 'Transition':
        """Return what an event leads to.

        Args:
            event: what happened.
            reason: why, kept with the state that is entered.
            detail: likewise as a sentence.
        """
        target = TRANSITIONS.get((self.state, event))
        if target is None:
            return Transition(self, False, self.refusal(event))
        if target is self.state:
            return Transition(self, True, detail)
        return Transition(replace(self, state=target, reason=reason, detail=detail), True, detail)


@dataclass(frozen=True)
class Transition:
    """The machine after an event; the same one if the event was refused.

    Attributes:
        machine: after the event.
        accepted: whether the event was possible in that state.
        detail: the event's sentence, or why it was refused.
    """

    machine: SafetyStateMachine
    accepted: bool
    detail: str


_REFUSALS = {
    State.DISARMED: 'Cannot {event}: the arms are disarmed; arm them first.',
    State.ARMED: 'Cannot {event}: the arms are armed and at rest.',
    State.EXECUTING: 'Cannot {event}: the arms are moving.',
    State.AWAITING_APPROVAL: 'Cannot {event}: a chunk waits for approval.',
    State.STOPPING: 'Cannot {event}: the arms are braking.',
    State.ESTOP: 'Cannot {event}: the e-stop is latched; reset it first.',
}


@dataclass(frozen=True)
class ArmingFacts:
    """What arming depends on.

    Attributes:
        joint_state_age_s: age of the oldest joint; None if a joint was never measured.
        estop_pressed: the e-stop input is true now.
        other_publishers: names of other nodes that publish on a command topic.
        clock_jumped: time went back or leapt since start-up.
        use_sim_time: this process takes its time from /clock.
        stopping_s: for how long it will be watched yet whether a stop reached both arms.
        limits_changed: a file that the limits come from is not the one that was read.
        heartbeat_lost: the e-stop's publisher must be heard and is not.
        disabled_arms: arms whose driver has not said that it is enabled.
        joint_state_ahead_s: how far the newest joint state lies ahead of now.
        at_measured_joints: arms whose controller begins a trajectory at the measured joints.
        estop_publishers: names of the nodes that publish the e-stop.
        contradiction: the sentence on joint state publishers that contradict each other.
    """

    joint_state_age_s: float | None
    estop_pressed: bool = False
    other_publishers: Sequence[str] = ()
    clock_jumped: bool = False
    use_sim_time: bool = False
    stopping_s: float = 0.0
    limits_changed: bool = False
    heartbeat_lost: bool = False
    disabled_arms: Sequence[str] = ()
    joint_state_ahead_s: float = 0.0
    at_measured_joints: Sequence[str] = ()
    estop_publishers: Sequence[str] = ()
    contradiction: str = ''


def arming_refusal(
    facts: ArmingFacts, *, simulated: bool, max_joint_state_age_s: float, max_clock_skew_s: float
) -> tuple[str, str] | None:
    """Return why the arms must not be armed as reason and sentence, or None.

    Args:
        facts: what is known now.
        simulated: the robot YAML says that this is no real robot.
        max_joint_state_age_s: older joint states count as unknown.
        max_clock_skew_s: joint states farther ahead are of a clock that is not this one.
    """
    if facts.estop_pressed:
        return reasons.ESTOP, 'The e-stop is pressed: release it first.'
    if detail := several_estops(facts.estop_publishers):
        return reasons.ESTOP, detail
    if facts.heartbeat_lost:
        return reasons.ESTOP_HEARTBEAT_LOST, 'Nothing is heard from the e-stop: connect it.'
    if facts.use_sim_time and not simulated:
        return reasons.SIM_TIME, 'use_sim_time is set, but this robot is not a simulated one.'
    if facts.clock_jumped:
        return reasons.CLOCK_JUMP, 'The clock jumped: deactivate and activate this node.'
    if facts.limits_changed:
        detail = 'The robot or gate file has changed: configure this node anew.'
        return reasons.LIMITS_CHANGED, detail
    if facts.stopping_s > 0.0:
        detail = f'The arms were stopped just now: arm them again in {facts.stopping_s:.1f} s.'
        return reasons.BUSY, detail
    if facts.contradiction:
        return reasons.JOINT_STATES_CONTRADICT, facts.contradiction
    if facts.joint_state_age_s is None:
        return reasons.NO_JOINT_STATE, 'Not every joint was ever measured.'
    if not facts.joint_state_age_s <= max_joint_state_age_s:
        age = facts.joint_state_age_s
        return reasons.STALE_JOINT_STATE, f'The joint states are {age:.2f} s old.'
    if not facts.joint_state_ahead_s <= max_clock_skew_s:
        return reasons.STAMP_IN_FUTURE, joint_states_ahead(facts.joint_state_ahead_s)
    if facts.other_publishers:
        names = ', '.join(facts.other_publishers)
        return reasons.SECOND_PUBLISHER, f'{names} publishes to the arms too: stop it first.'
    if facts.at_measured_joints:
        return reasons.CONTROLLER_REJECTED, begins_at_measured(facts.at_measured_joints)
    if facts.disabled_arms:
        names = ' and '.join(facts.disabled_arms)
        return reasons.NOT_ARMED, f'The driver of the {names} arm is being enabled: arm again.'
    return None


def several_estops(names: Sequence[str]) -> str | None:
    """Return the sentence on an e-stop that several nodes publish; None where only one does."""
    if len(names) < 2:
        return None
    return (
        f'{" and ".join(names)} publish the e-stop: nobody could tell which of them releases it '
        'or falls silent. Let one node publish what any of them says.'
    )


def joint_states_ahead(ahead_s: float) -> str:
    """Return the sentence on joint states from the future."""
    return (
        f'The joint states lie {ahead_s:.2f} s ahead: synchronise the clocks, or give the arm '
        'stamp_source: receive.'
    )


def begins_at_measured(arms: Sequence[str]) -> str:
    """Return the sentence on controllers that begin a trajectory at the measured joints."""
    return (
        f'The controller of the {" and ".join(arms)} arm begins at the measured joints: set its '
        'interpolate_from_desired_state (Humble: open_loop_control) to true.'
    )
