"""Tasks in mode overlap by number, and what must be true at every instant of them.

The gate entry is driven as the node and the task executor drive it. Dreams begin while the arms
move and come in time, too late or not at all; their chunks join the motion under way, are refused
or miss the switch; meanwhile somebody cancels, disarms or presses the e-stop. Two simulated
controllers execute what is sent.
"""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import gate_cases
from gate_cases import ROBOT
import numpy as np

from eva_ros.control import reasons
from eva_ros.control.chunk import Chunk
from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.state import ArmingFacts
from eva_ros.control.state import Event
from eva_ros.control.state import State
from eva_ros.control.turn_pacing import TurnPacing
from eva_ros.nodes.rollout_generator.recent import RecentObservations
from eva_ros.sim.controller import TrajectoryCommand
from eva_ros.sim.controller import TrajectoryController

PERIOD_NS = 100_000_000
HISTORY = 4
# How long dreams and checks take, and how often.
THINK_S = {0.05: 0.3, 0.2: 0.5, 0.6: 0.15, 2.0: 0.05}
CHECK_S = {0.0: 0.5, 0.01: 0.3, 0.05: 0.15, 0.2: 0.05}
LEAVING = {'DISARMED': Event.DISARM, 'FAULT': Event.FAULT, 'ESTOP': Event.ESTOP}


def run(number: int) -> str:
    """Run one task and return how it ended; AssertionError if something unsafe happened."""
    return Task(number).run()


class Task:
    """One task of a few turns, and what has happened in it.

    Attributes:
        happened: how often each outcome of a turn occurred.
    """

    def __init__(self, number: int):
        self.rng = rng = np.random.default_rng(number)
        settings = gate_cases.drawn_settings(rng)
        self.now_ns = 1_000_000_000
        self.gate = CommandSupervisor(ROBOT, settings, dry_run=False, now_ns=self.now_ns)
        assert self.gate.arm(ArmingFacts(0.0), self.now_ns)[0]
        low, high = ROBOT.limits.min_position, ROBOT.limits.max_position
        place = low + rng.random(14) * (high - low) if rng.random() < 0.5 else ROBOT.home
        self.path = gate_cases.standing(place, 1.0)
        self.begun_ns = -(10**9)
        splice = bool(rng.random() < 0.5)
        self.controllers = {
            arm: TrajectoryController(*ROBOT.arm_command(arm, place), splice=splice)
            for arm in ROBOT.arms
        }
        self.joined = False
        self.pacing = TurnPacing(float(rng.choice([0.25, 0.5, 0.75])))
        self.happened = Counter()

    def run(self) -> str:
        for number in range(1, int(self.rng.integers(3, 9))):
            outcome = self.turn(number)
            self.happened[outcome] += 1
            if not self.gate.is_armed:
                self.assert_chunks_are_refused(number)
                break
        self.rest()
        return outcome

    def turn(self, number: int) -> str:
        """Look, dream and send; return what became of it."""
        look_ns = self.look_ns()
        if look_ns is None:
            self.rest()
            look_ns = self.now_ns
        self.advance(look_ns)
        motion = self.gate.motion
        if motion is not None and not self.history_is_whole(look_ns):
            self.rest()
            return 'NO_HISTORY'
        seen, think_s = self.state(), self.drawn(THINK_S) * self.rng.uniform(0.5, 1.5)
        ready_ns = look_ns + round(think_s * 1e9)
        if self.rng.random() < 0.15:
            self.advance(look_ns + round(self.rng.random() * think_s * 1e9))
            return self.interrupted()
        self.advance(ready_ns)
        self.pacing.took(think_s)
        return self.sent(self.dreamed(seen[0], look_ns), number, motion)

    def drawn(self, weights: dict[float, float]) -> float:
        return float(self.rng.choice(list(weights), p=list(weights.values())))

    def dreamed(self, place, look_ns: int):
        """Return a chunk dreamed of arms at a place [J]; a quarter may have any fault."""
        chunk = gate_cases.drawn_chunk(self.rng, place)
        if self.rng.random() < 0.75:
            positions = gate_cases.drawn_steps(self.rng, place, 17)
            chunk = Chunk(0, 1, ROBOT.joint_names, gate_cases.DT, positions, place)
        return replace(chunk, observation_stamp_ns=look_ns)

    def look_ns(self):
        motion = self.gate.motion
        if motion is None:
            return None
        return self.pacing.look_ns(motion.start_ns, motion.path.duration, self.now_ns)

    def history_is_whole(self, look_ns: int) -> bool:
        """Return whether what was observed before is there; it must not be of another time."""
        recent, first = RecentObservations(HISTORY * PERIOD_NS), int(self.rng.integers(1, 12))
        paused = range(first, first + int(self.rng.choice([0, 1, 8], p=[0.8, 0.1, 0.1])))
        for back in range(12, 0, -1):
            jitter_ns = int(self.rng.uniform(-0.4, 0.4) * PERIOD_NS)
            seen = SimpleNamespace(stamp_ns=look_ns - back * PERIOD_NS + jitter_ns)
            if back not in paused:
                recent.add(SimpleNamespace(stamp_ns=seen.stamp_ns, observation=seen))
        found = recent.before(look_ns, HISTORY, PERIOD_NS)
        if len(found) < HISTORY:
            assert paused
            return False
        due_ns = look_ns - PERIOD_NS * np.arange(HISTORY, 0, -1)
        off_ns = np.abs(np.array([seen.stamp_ns for seen in found]) - due_ns)
        assert (off_ns <= PERIOD_NS // 2).all(), 'a stale observation was taken for history'
        return True

    def sent(self, chunk, number: int, joins) -> str:
        """Judge a chunk and send it, as the node does; return what became of it.

        Args:
            chunk: is for now.
            number: of the rollout.
            joins: the motion that was under way when it was dreamed; None for arms at rest.
        """
        before, now_ns = self.gate.motion, self.now_ns
        if refusal := self.gate.refusal(now_ns):
            assert refusal[0] == reasons.BUSY
            return 'BUSY'
        verdict = self.gate.judge(chunk, self.state()[0], now_ns, now_ns)
        late_s = self.drawn(CHECK_S)
        missed = before is not None and self.gate.missed_switch(
            now_ns, now_ns + round(late_s * 1e9)
        )
        if joins is not None and before is None:
            assert not verdict.accepted, 'a chunk that came too late was accepted'
            return 'LATE'
        if missed or not verdict.accepted:
            assert self.gate.motion is before, 'a refused chunk changed the motion under way'
            assert self.gate.rollout_id == (before.rollout_id if before else 0)
            self.rest()
            return 'MISSED_SWITCH' if verdict.accepted else verdict.reason
        if before is None:
            # A motion from rest begins when it is sent.
            self.advance(now_ns + round(late_s * 1e9))
            now_ns, late_s = self.now_ns, 0.0
        order = self.gate.execute(verdict, number, self.state()[0], now_ns)
        self.send(order, late_s)
        assert self.gate.rollout_id == number and self.gate.machine.state is State.EXECUTING
        self.joined = before is not None
        return 'JOINED' if self.joined else 'STARTED'

    def interrupted(self) -> str:
        """Cancel, disarm, find a fault or press the e-stop; return which."""
        what = str(self.rng.choice(['CANCELED', *LEAVING]))
        place, moves = self.state()[0], self.gate.motion is not None
        if what == 'CANCELED':
            order = self.gate.stop(place, self.now_ns)
            assert self.gate.machine.state is (State.STOPPING if moves else State.ARMED)
        else:
            went, _, order = self.gate.leave(
                LEAVING[what], reasons.OPERATOR, '', place, self.now_ns
            )
            assert went and not self.gate.is_armed
        self.send(order, urgent=what == 'ESTOP')
        return f'{what}_OF_A_JOINED_MOTION' if moves and self.joined else what

    def assert_chunks_are_refused(self, number: int) -> None:
        """Assert that no chunk moves arms that are off, during their stop or after it."""
        for later in range(1, 4):
            self.advance(self.now_ns + int(self.rng.uniform(0.0, 0.5) * 1e9))
            place = self.state()[0]
            chunk = self.dreamed(place, self.now_ns)
            assert self.gate.refusal(self.now_ns), 'a chunk may move arms that are off'
            verdict = self.gate.judge(chunk, place, self.now_ns, self.now_ns)
            order = self.gate.execute(verdict, number + later, place, self.now_ns)
            assert order is None, 'a chunk moved arms that are off'

    # --- the arms --------------------------------------------------------------------------------

    def state(self):
        """Return position, velocity and acceleration [J] of what was sent last, now."""
        elapsed_s = (self.now_ns - self.begun_ns) * 1e-9
        if elapsed_s >= self.path.duration:
            return self.path.positions[-1], np.zeros(14), np.zeros(14)
        return self.path.sample(self.path.times[0] + elapsed_s)

    def send(self, order, late_s: float = 0.0, *, urgent: bool = False) -> None:
        """Let both controllers get an order, its check and its way having taken a while."""
        state, settings = self.state(), self.gate.settings
        for wanted, begun in zip(state, order.path.sample(order.path.times[0])):
            np.testing.assert_allclose(begun, wanted, atol=1e-6, err_msg='jump at the join')
        moves = np.abs(state[1]).max() > 0.0
        slack = gate_cases.STOP_SLACK if moves else gate_cases.SLACK
        faster = settings.estop_deceleration if urgent else 1.0
        gate_cases.assert_command(
            order.command, state, slack, acceleration=faster, jerk=not urgent
        )
        stamp_ns = self.now_ns
        late_s += self.rng.uniform(0.0, 0.95) * settings.control_period_s
        self.advance(stamp_ns + round(late_s * 1e9))
        for arm, control in self.controllers.items():
            before = control.sample(self.now_ns)
            message = TrajectoryCommand(stamp_ns, **vars(order.command[arm]))
            assert control.accept(message, self.now_ns) is None
            jump = float(np.abs(control.sample(self.now_ns) - before).max())
            assert jump < gate_cases.EXECUTED, f'{arm}: jumps by {jump:.4f} on receipt'
        self.path, self.begun_ns = order.path, stamp_ns

    def advance(self, until_ns: int) -> None:
        """Let time pass; both arms do what was sent."""
        for at_ns in np.linspace(self.now_ns, max(self.now_ns, until_ns), 12)[1:].astype(int):
            self.now_ns = int(at_ns)
            if self.gate.finish(self.now_ns):
                assert self.gate.machine.state is State.ARMED and self.gate.rollout_id == 0
            for arm, control in self.controllers.items():
                wanted = ROBOT.arm_command(arm, self.state()[0])[1]
                away = float(np.abs(control.sample(self.now_ns) - wanted).max())
                assert away < gate_cases.EXECUTED, f'{arm}: {away:.4f} away from what was sent'

    def rest(self) -> None:
        """Let nothing follow: the arms come to rest where they were to, and stay there."""
        end = self.path.positions[-1]
        left_s = self.path.duration - (self.now_ns - self.begun_ns) * 1e-9
        self.advance(self.now_ns + round((max(0.0, left_s) + 0.1) * 1e9))
        assert self.gate.motion is None, 'the motion does not end'
        np.testing.assert_array_equal(self.state()[0], end)
        for control in self.controllers.values():
            first = control.sample(self.now_ns)
            np.testing.assert_allclose(control.sample(self.now_ns + 10**9), first, atol=1e-9)
        self.now_ns += 10**9
