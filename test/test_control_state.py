"""The arms move only when armed, and an e-stop is left by its reset alone."""

import re

from hypothesis import given
from hypothesis import strategies as st
import pytest

from eva_ros.control.state import arming_refusal
from eva_ros.control.state import ArmingFacts
from eva_ros.control.state import Event
from eva_ros.control.state import SafetyStateMachine
from eva_ros.control.state import State
from eva_ros.control.state import TRANSITIONS


def after(*events):
    machine = SafetyStateMachine()
    for event in events:
        machine = machine.on(event).machine
    return machine


def test_states_are_constants_of_safety_state(repository):
    text = (repository / 'eva_msgs' / 'msg' / 'SafetyState.msg').read_text()
    assert {state.value for state in State} <= set(re.findall(r'^uint8 (\w+)=', text, re.M))


def test_it_starts_disarmed():
    machine = SafetyStateMachine()
    assert machine.state is State.DISARMED
    refused = machine.on(Event.EXECUTE)
    assert not refused.accepted
    assert refused.machine is machine
    assert 'disarmed' in refused.detail


def test_armed_it_executes_and_comes_back():
    assert after(Event.ARM).on(Event.EXECUTE).accepted
    assert after(Event.ARM, Event.EXECUTE).state is State.EXECUTING
    assert after(Event.ARM, Event.EXECUTE, Event.FINISH).state is State.ARMED


def test_a_moving_arm_takes_no_second_chunk():
    moving = after(Event.ARM, Event.EXECUTE)
    assert not moving.on(Event.EXECUTE).accepted
    assert not moving.on(Event.ARM).accepted


@pytest.mark.parametrize('event', [Event.DISARM, Event.FAULT])
def test_disarming_and_faults_stop_what_moves(event):
    machine = after(Event.ARM, Event.EXECUTE, event)
    assert machine.state is State.DISARMED


@pytest.mark.parametrize('before', [[], [Event.ARM], [Event.ARM, Event.EXECUTE], [Event.ESTOP]])
def test_an_estop_latches_from_every_state(before):
    machine = after(*before, Event.ESTOP)
    assert machine.state is State.ESTOP
    assert not machine.on(Event.ARM).accepted
    assert not machine.on(Event.EXECUTE).accepted
    assert machine.on(Event.RESET).machine.state is State.DISARMED


@given(st.lists(st.sampled_from([event for event in Event if event is not Event.RESET])))
def test_nothing_but_a_reset_leaves_an_estop(events):
    assert after(Event.ESTOP, *events).state is State.ESTOP


@given(st.lists(st.sampled_from(list(Event))))
def test_execution_is_always_preceded_by_arming(events):
    machine, armed = SafetyStateMachine(), False
    for event in events:
        machine = machine.on(event).machine
        if event in (Event.DISARM, Event.FAULT, Event.ESTOP):
            armed = False
        if machine.state is State.ARMED:
            armed = True
        if machine.state is State.EXECUTING:
            assert armed


def test_a_state_remembers_why_it_was_entered():
    machine = after(Event.ARM).on(Event.FAULT, 'TRACKING', 'The left arm lags.').machine
    assert (machine.reason, machine.detail) == ('TRACKING', 'The left arm lags.')
    again = machine.on(Event.FAULT, 'CLOCK_JUMP', 'Later.').machine
    assert again.reason == 'TRACKING'


def test_every_state_is_left_and_every_event_is_used():
    assert {state for state, _ in TRANSITIONS} == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)


COLUMNS = {
    'arm': Event.ARM, 'disarm': Event.DISARM, 'reject': Event.REJECT, 'hold': Event.STOP,
    'end of motion': Event.FINISH, 'fault': Event.FAULT, 'e-stop': Event.ESTOP,
    'reset': Event.RESET,
}  # fmt: skip


def test_the_table_in_the_docs_is_the_table(repository):
    """Every transition there is, and none that is not."""
    page = (repository / 'docs' / 'safety.md').read_text().partition('## The states')[2]
    lines = [line for line in page.splitlines() if line.startswith('|')][: len(State) + 2]
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    said = {}
    for state, *cells in rows[2:]:
        for column, cell in zip(rows[0][1:], cells):
            if column in COLUMNS and cell:
                to = state if cell == '-' else cell
                said[State(state), COLUMNS[column]] = State(to)
    begins = (Event.PROPOSE, Event.EXECUTE, Event.JOIN)
    assert said == {key: to for key, to in TRANSITIONS.items() if key[1] not in begins}
    assert {key: to for key, to in TRANSITIONS.items() if key[1] in begins} == {
        (State.ARMED, Event.PROPOSE): State.AWAITING_APPROVAL,
        (State.ARMED, Event.EXECUTE): State.EXECUTING,
        (State.AWAITING_APPROVAL, Event.EXECUTE): State.EXECUTING,
        (State.EXECUTING, Event.JOIN): State.EXECUTING,
    }


GOOD = ArmingFacts(joint_state_age_s=0.01)


def refusal(facts, simulated=True):
    return arming_refusal(facts, simulated=simulated, max_joint_state_age_s=0.2,
                          max_clock_skew_s=0.1)  # fmt: skip


def test_arming_with_everything_in_order():
    assert refusal(GOOD) is None
    assert refusal(GOOD, simulated=False) is None
    assert refusal(ArmingFacts(0.01, use_sim_time=True)) is None


@pytest.mark.parametrize(
    ('facts', 'reason'),
    [
        (ArmingFacts(None), 'NO_JOINT_STATE'),
        (ArmingFacts(0.5), 'STALE_JOINT_STATE'),
        (ArmingFacts(float('nan')), 'STALE_JOINT_STATE'),
        (ArmingFacts(0.01, estop_pressed=True), 'ESTOP'),
        (ArmingFacts(0.01, other_publishers=['teleop']), 'SECOND_PUBLISHER'),
        (ArmingFacts(0.01, clock_jumped=True), 'CLOCK_JUMP'),
        (ArmingFacts(0.01, limits_changed=True), 'LIMITS_CHANGED'),
        (ArmingFacts(0.01, heartbeat_lost=True), 'ESTOP_HEARTBEAT_LOST'),
        (ArmingFacts(0.01, disabled_arms=['right']), 'NOT_ARMED'),
        (ArmingFacts(0.01, stopping_s=0.4), 'BUSY'),
        (ArmingFacts(0.01, use_sim_time=True), 'SIM_TIME'),
        (ArmingFacts(0.01, joint_state_ahead_s=0.2), 'STAMP_IN_FUTURE'),
        (ArmingFacts(0.01, at_measured_joints=['left']), 'CONTROLLER_REJECTED'),
    ],
)
def test_arming_is_refused_with_a_reason(facts, reason):
    found, detail = refusal(facts, simulated=False)
    assert found == reason
    assert detail.endswith('.')
