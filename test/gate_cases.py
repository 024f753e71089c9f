"""Adversarial cases for the command gate by number, and what must be true of every command.

The rules are stated anew here, from the messages alone: those of joint_trajectory_controller's
validation, and the robot's limits between the points.
"""

from dataclasses import replace
from math import comb

import numpy as np
from scipy.interpolate import BPoly

from eva_ros.control.chunk import Chunk
from eva_ros.control.gate import check_chunk
from eva_ros.control.running_motion import Motion
from eva_ros.control.settings import GateSettings
from eva_ros.control.stop import brake
from eva_ros.control.stop import hold
from eva_ros.control.stop import standing
from eva_ros.control.stop_monitor import StopMonitor
from eva_ros.control.trajectory import to_command
from eva_ros.robot.motion import minimum_jerk_fraction
from eva_ros.robot.spec import load_robot
from eva_ros.sim.controller import TrajectoryCommand
from eva_ros.sim.controller import TrajectoryController

ROBOT = load_robot('aloha_sim')


def _touching_zero(robot, ends):
    """Return the robot with limits that end at zero: at the low (-1) or high (1) end of a joint.

    Its home is where it was: perhaps outside.
    """
    limits = robot.limits
    low = np.where(ends < 0, 0.0, limits.min_position)
    high = np.where(ends > 0, 0.0, limits.max_position)
    return replace(robot, limits=replace(limits, min_position=low, max_position=high))


_ARM = np.where(ROBOT.gripper_mask, 0, 1)
_ALTERNATING = _ARM * (-1) ** np.arange(14)
# What can be at zero from above, from below, each joint another way, and every other one.
TOUCHING = [_touching_zero(ROBOT, ends)
            for ends in (-_ARM, _ARM, _ALTERNATING, np.maximum(_ALTERNATING, 0))]  # fmt: skip
DT = 0.1
ODD = [0.0, -0.0, 5e-324, 1e-308, 1e308, -1e308, 3.14158, 7.0, np.nan, np.inf, -np.inf]
OPEN = GateSettings(
    mode='overlap', max_start_blend=10.0, max_start_blend_gripper=2.0, max_time_stretch=100.0,
    allowed_start_tolerance=10.0, allowed_start_tolerance_gripper=2.0, check_collisions=False,
    max_tracking_error=10.0,
)  # fmt: skip
SLACK = 1e-4
STOP_SLACK = 1.5e-2
EPSILON = 1e-6
# Finite differences of a quintic in floating point, at 1 kHz.
FINITE_SLACK = 2e-2


# Between what was sent and what the controllers do, rad.
EXECUTED = 1e-3


def run(number: int) -> str:
    """Run one case and return what became of it; AssertionError if something unsafe left.

    A chunk for arms at rest, within their limits or outside; what is accepted is held, joined to
    by another chunk, braked or e-stopped, once or several times one upon the other. One case in a
    hundred is looked at with finite differences too, and executed by simulated controllers that
    get the messages late.
    """
    rng = np.random.default_rng(number)
    settings = drawn_settings(rng)
    robot = ROBOT if rng.random() < 0.7 else TOUCHING[rng.integers(len(TOUCHING))]
    now = _start(rng, robot)
    verdict = check_chunk(drawn_chunk(rng, now), now, robot, settings, 0)
    assert_verdict(verdict, now, robot)
    if not verdict.accepted:
        return verdict.reason
    if rng.random() < 0.05:
        place = now + rng.normal(size=14) * rng.choice([0.0, 0.1, 10.0])
        return _held(place, settings, robot)
    path, kind, sent = verdict.path, 'OK', [(0.0, verdict.command, verdict.path)]
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.5, 0.3, 0.15, 0.05]))):
        elapsed_s = float(rng.uniform(-0.1, 1.1) * path.duration)
        if path.velocities[0].any():
            elapsed_s = max(0.0, elapsed_s)
        # Arms that brake take no chunk.
        if kind in ('OK', 'SEAM') and rng.random() < 0.5:
            kind, command, path = _joined(rng, path, elapsed_s, settings, robot)
        else:
            kind, command, path = _braked(rng, path, elapsed_s, settings, robot)
        if path is None:
            break
        sent.append((max(0.0, elapsed_s), command, path))
        if kind == 'ESTOP':
            break
    if path is not None and kind in ('OK', 'SEAM') and rng.random() < 0.2:
        kind = _missed(rng, path, settings, robot)
    if number % 100 == 0:
        assert_finite_differences(verdict.command, now, robot)
        assert_executed(sent, rng, settings.control_period_s, robot)
    return kind


def drawn_settings(rng):
    """Return settings of the gate in mode overlap that let most chunks pass."""
    settings = OPEN.model_copy(update={
        'execute_steps': int(rng.integers(1, 24)),
        'stop_steps': float(rng.choice([1.0, 2.0, 4.0])),
        'check_collisions': bool(rng.random() < 0.03),
        'path_tolerance': float(rng.choice([0.0, 0.02, 0.05])),
        'velocity_scaling_factor': float(rng.choice([1.0, 1.0, 0.25])),
    })  # fmt: skip
    if rng.random() < 0.3:
        settings = settings.model_copy(update={'max_start_blend': 0.1, 'max_time_stretch': 3.0})
    return settings


def _start(rng, robot):
    low, high = robot.limits.min_position, robot.limits.max_position
    if rng.random() < 0.3:
        return robot.home.copy()
    part = rng.random(14)
    if rng.random() < 0.3:
        # At the very limits.
        part = np.round(part)
    start = low + part * (high - low)
    if rng.random() < 0.2:
        # Some joints outside, by a hair or far.
        beyond = 10.0 ** rng.uniform(-7.0, 0.0) * (rng.random(14) < 0.3)
        start = np.where(beyond, np.where(part < 0.5, low - beyond, high + beyond), start)
    return start


def drawn_steps(rng, begin, steps, pace=1.0):
    t = np.arange(steps) * DT
    move = minimum_jerk_fraction((t - rng.uniform(0.0, 0.5)) / rng.uniform(0.6, 1.5))[:, None]
    goal = rng.uniform(-1.0, 1.0, 14) * rng.choice([0.0, 0.1, 0.6, 3.0]) * pace
    q = begin + move * goal * rng.choice([0.0, 1.0], 14, p=[0.3, 0.7])
    return q + rng.choice([0.0, 0.01, 0.02, 0.3]) * rng.normal(size=q.shape)


def drawn_chunk(rng, now):
    steps = int(rng.choice([0, 1, 2, 3, 5, 17, 17, 17, 17, 25, 49]))
    positions = drawn_steps(rng, now, steps)
    names, observed, dt = list(ROBOT.joint_names), now, DT
    spoil = rng.random()
    if spoil < 0.1 and steps:
        for _ in range(rng.integers(1, 4)):
            positions[rng.integers(steps), rng.integers(14)] = rng.choice(ODD)
    elif spoil < 0.15 and steps:
        positions[rng.integers(steps) :] += rng.normal(size=14) * 10.0 ** rng.uniform(-2, 6)
    elif spoil < 0.2:
        order = rng.permutation(14)
        names = [names[i] for i in order]
        positions, observed = positions[:, order], observed[order]
    elif spoil < 0.23:
        names[rng.integers(14)] = names[rng.integers(14)]
    elif spoil < 0.26:
        keep = int(rng.integers(2, 14))
        names, positions = names[:keep], positions[:, :keep]
    elif spoil < 0.3:
        dt = float(rng.choice([0.0, -0.1, np.nan, 1e-320, 1e-3, 0.02, 1.0, 10.0]))
    elif spoil < 0.33:
        positions = positions[::-1]
    return Chunk(0, 1, tuple(names), dt, positions, observed)


def _joined(rng, path, elapsed_s, settings, robot):
    begun_ns = -max(0, round(elapsed_s * 1e9))
    elapsed_s = -begun_ns * 1e-9
    now = path.sample(path.times[0] + elapsed_s)
    age_s = rng.uniform(0.0, 0.6)
    begin = path.sample(path.times[0] + max(0.0, elapsed_s - age_s))[0]
    chunk = replace(drawn_chunk(rng, begin), observation_stamp_ns=-round(age_s * 1e9))
    joined = check_chunk(chunk, now[0], robot, settings, 0, running=Motion(path, begun_ns))
    if not joined.accepted:
        assert joined.command == {}
        return 'SEAM_' + joined.reason, {}, None
    moving = elapsed_s < path.duration
    begin = now if moving else (now[0], np.zeros(14), np.zeros(14))
    assert_command(joined.command, begin, STOP_SLACK, robot)
    for a, b in zip(joined.path.sample(joined.path.times[0]), begin):
        np.testing.assert_allclose(a, b, atol=1e-6)
    return 'SEAM', joined.command, joined.path


def _braked(rng, path, elapsed_s, settings, robot):
    urgent = bool(rng.random() < 0.5)
    stop = brake(robot, settings, path, elapsed_s, urgent=urgent)
    begin = path.sample(path.times[0] + elapsed_s)
    slack = settings.estop_deceleration if urgent else 1.0
    assert_command(stop.command, begin, STOP_SLACK, robot, acceleration=slack, jerk=not urgent)
    return 'ESTOP' if urgent else 'BRAKE', stop.command, stop.path


def _held(place, settings, robot):
    limits = robot.limits
    held = hold(robot, settings, place)
    outside = np.maximum(limits.min_position - place, place - limits.max_position).max()
    if held is None:
        assert outside > 0.0
        return 'NO_HOLD'
    # Controllers come to it from where they are.
    assert_command(held.command, (place, np.zeros(14), np.zeros(14)), SLACK, robot)
    assert outside < 0.3
    return 'HOLD'


def _missed(rng, path, settings, robot):
    """One arm misses a stop and goes on; a second stop brings both to rest from where they are."""
    settings = settings.model_copy(update={'max_tracking_error': 0.02})
    first_ns, later_ns = (int(part * path.duration * 1e9) for part in rng.uniform(0.0, 0.9, 2))
    arm = str(rng.choice(['left', 'right']))
    stops, running = StopMonitor(robot), Motion(path, 0, 1)
    at = path.sample(path.times[0] + first_ns * 1e-9)[0]
    stop = stops.begin(running, settings, at, first_ns, urgent=bool(rng.random() < 0.5)).path
    then_ns = first_ns + later_ns
    states = np.stack(stop.sample(stop.times[0] + later_ns * 1e-9))
    part = robot.arm_indices(arm)
    states[:, part] = np.stack(path.sample(path.times[0] + then_ns * 1e-9))[:, part]
    fault = stops.fault(arm, states[0, part], then_ns, settings)
    if fault is None or running.is_over(then_ns):
        return 'NOT_MISSED'
    assert fault[0] == 'ARM_NOT_FOLLOWING' and arm in fault[1]
    assert stops.unreached == (arm,)
    urgent = bool(rng.random() < 0.5)
    again = stops.begin(stops.motion, settings, states[0], then_ns, urgent=urgent)
    # What was an e-stop goes on as one.
    assert_command(
        again.command,
        states,
        STOP_SLACK,
        robot,
        acceleration=settings.estop_deceleration,
        jerk=False,
    )
    return 'MISSED'


def assert_executed(sent, rng, period_s, robot=ROBOT):
    """Assert that controllers do what was sent, however late within a period they get it.

    Args:
        sent: for each message how long after the one before it was sent [s], the command and
            the motion of all joints that it stands for.
        rng: for how late.
        period_s: the control period.
        robot: whose arms.
    """
    low, high = robot.limits.min_position, robot.limits.max_position
    late_s = rng.uniform(0.0, 0.95 * period_s, len(sent))
    sent, waits_s = list(sent), 0.0
    for i, (after_s, command, path) in enumerate(sent):
        after_s, waits_s = after_s + waits_s, 0.0
        start = path.positions[0]
        if not i and ((start < low) | (start > high)).any():
            # Sent as it is: it is in time for its first point or is not.
            late_s[0] = 0.0
        elif not i or after_s >= sent[i - 1][2].duration:
            # As the node sends it to arms at rest: the rest that is committed comes first.
            path = standing(start, period_s).then(path)
            command, waits_s = to_command(ROBOT, path), period_s
        sent[i] = after_s, command, path
    for splice in (False, True):
        for arm in ROBOT.arms:
            names, place = ROBOT.arm_command(arm, sent[0][2].positions[0])
            control = TrajectoryController(names, place, splice=splice)
            begun_s, control_ns = 1.0, 1_000_000_000
            for i, (after_s, command, path) in enumerate(sent):
                begun_s += after_s
                got_s = begun_s + late_s[i]
                before = control.sample(round(got_s * 1e9))
                message = TrajectoryCommand(round(begun_s * 1e9), **vars(command[arm]))
                assert control.accept(message, round(got_s * 1e9)) is None
                leap = float(np.abs(control.sample(round(got_s * 1e9)) - before).max())
                assert leap < EXECUTED, f'{arm}: leaps by {leap:.4f} at message {i}'
                until_s = path.duration + 0.1
                if i + 1 < len(sent):
                    until_s = sent[i + 1][0] + late_s[i + 1]
                for t in np.linspace(late_s[i], until_s, 40):
                    if (at_ns := round((begun_s + t) * 1e9)) < max(control_ns, round(got_s * 1e9)):
                        continue
                    control_ns = at_ns
                    done = control.sample(at_ns)
                    wanted = ROBOT.arm_command(arm, path.sample(path.times[0] + t)[0])[1]
                    if i + 1 < len(sent) and t > sent[i + 1][0]:
                        break
                    away = float(np.abs(done - wanted).max())
                    assert away < EXECUTED, f'{arm}: {away:.4f} away from message {i}'


# --- what is true of everything that leaves ------------------------------------------------------


def assert_verdict(verdict, now, robot=ROBOT):
    """Assert that a verdict on a chunk for resting arms is safe."""
    if not verdict.accepted:
        assert verdict.command == {} and verdict.path is None and verdict.reason != 'OK'
        assert verdict.detail.endswith('.')
        return
    assert_command(verdict.command, (now, np.zeros(14), np.zeros(14)), SLACK, robot)
    for arm, trajectory in verdict.command.items():
        # Wherever it begins, it leads inside with its first point.
        limits = robot.limits.min_position, robot.limits.max_position
        low, high = (robot.arm_command(arm, limit)[1] for limit in limits)
        points = trajectory.positions
        assert (points >= low - EPSILON).all() and (points <= high + EPSILON).all(), arm


def assert_command(command, begin, slack, robot=ROBOT, *, acceleration=1.0, jerk=True):
    """Assert that both arms' messages are valid and keep the limits from a state on."""
    assert set(command) == {'left', 'right'}
    ends = set()
    for arm, trajectory in command.items():
        problem = controller_rejection(arm, trajectory)
        assert problem is None, problem
        ends.add(tuple(trajectory.time_from_start))
    assert len(ends) == 1
    _assert_splines(command, begin, slack, robot.limits, acceleration, jerk)


def controller_rejection(arm, trajectory):
    """What joint_trajectory_controller checks (ros2_controllers, validate_trajectory_msg)."""
    joints = ROBOT.arms[arm].controller.joints
    times, names = trajectory.time_from_start, trajectory.joint_names
    if len(names) != len(joints) or set(names) != set(joints):
        return 'joints'
    if len(times) == 0:
        return 'empty'
    if any(abs(v) > np.finfo(np.float32).eps for v in trajectory.velocities[-1]):
        return 'it moves at its end'
    whole = [round(float(t) * 1e9) for t in times]
    if whole[0] <= 0 or (np.diff(whole) <= 0).any():
        return 'times do not increase'
    for rows in (trajectory.positions, trajectory.velocities, trajectory.accelerations):
        if any(len(row) != len(joints) for row in rows) or len(rows) != len(times):
            return 'lengths'
        if not np.isfinite(rows).all():
            return 'not finite'
    return None


def _spline(arm, trajectory, begin):
    """Knots [K+1] and rows [K+1, 3, 7] of an arm's message from a state on, in its units."""
    state = [ROBOT.arm_command(arm, begin[0])[1],
             *(ROBOT.arm_command_rates(arm, rate) for rate in begin[1:])]  # fmt: skip
    knots = np.concatenate([[0.0], trajectory.time_from_start])
    rows = (trajectory.positions, trajectory.velocities, trajectory.accelerations)
    return knots, np.stack([np.vstack([s, r]) for s, r in zip(state, rows)], axis=1)


def _assert_splines(command, begin, slack, limits, acceleration, jerk):
    """Both arms at once: they share their times."""
    splines = [_spline(arm, trajectory, begin) for arm, trajectory in command.items()]
    knots, rows = splines[0][0], np.concatenate([rows for _, rows in splines], axis=2)
    pieces, T = quintics(knots, rows), np.diff(knots)[:, None]
    arms = list(command)

    def sent(values):
        return np.concatenate([ROBOT.arm_command(arm, values)[1] for arm in arms])

    def rates(values):
        return np.abs(np.concatenate([ROBOT.arm_command_rates(arm, values) for arm in arms]))

    ends = np.stack([sent(np.minimum(limits.min_position, begin[0])),
                     sent(np.maximum(limits.max_position, begin[0]))])  # fmt: skip
    _assert_within(pieces, T, ends[0] - EPSILON, ends[1] + EPSILON, arms, 'position')
    slowing = np.maximum(limits.max_acceleration, limits.max_deceleration * acceleration)
    allowed = [limits.max_velocity, slowing, *([limits.max_jerk] if jerk else [])]
    for order, bound in enumerate(allowed, start=1):
        bound = rates(bound) * (1.0 + slack) + EPSILON
        _assert_within(derivative(pieces, order), T, -bound, bound, arms, f'derivative {order}')


def _assert_within(c, T, low, high, arms, what):
    """Assert that polynomials [n+1, K, J] stay within bounds [J] on [0, T].

    Most are proved to by a bound on their terms; the extremes of the others are looked for.
    """
    n = len(c) - 1
    scaled = c * T ** np.arange(n + 1)[:, None, None]
    centred = _AROUND_HALF[n] @ scaled.reshape(n + 1, -1)
    centred = centred.reshape(scaled.shape)
    most = (np.abs(centred[1:]) * 0.5 ** np.arange(1, n + 1)[:, None, None]).sum(axis=0)
    sure = (centred[0] - most >= low) & (centred[0] + most <= high)
    if sure.all():
        return
    k, j = np.nonzero(~sure)
    lowest, highest = extremes(
        c[:, k, j][:, :, None], np.broadcast_to(T, sure.shape)[k, j][:, None]
    )
    lowest, highest = lowest[:, 0], highest[:, 0]
    broken = ~((lowest >= low[j]) & (highest <= high[j]))
    if broken.any():
        i = int(np.argmax(broken))
        part = len(low) // len(arms)
        raise AssertionError(
            f'{arms[j[i] // part]}: {what} of joint {j[i] % part} goes from {lowest[i]:.6g} to '
            f'{highest[i]:.6g}; allowed is {low[j[i]]:.6g} to {high[j[i]]:.6g}'
        )


# From rising powers of s to those of s - 1/2, by degree.
_AROUND_HALF = {
    n: np.array([[comb(k, i) * 0.5 ** (k - i) if k >= i else 0.0 for k in range(n + 1)]
                 for i in range(n + 1)])
    for n in range(6)
}  # fmt: skip


def quintics(knots, rows):
    """Coefficients [6, K, J] of rising powers, solved for from the states at both ends."""
    T = np.diff(knots)[:, None, None]
    powers = np.arange(6)
    # In units of each piece, so that the system is as good as it can be.
    system = np.zeros((6, 6))
    system[0, 0], system[1, 1], system[2, 2] = 1.0, 1.0, 2.0
    system[3], system[4], system[5] = 1.0, powers, powers * (powers - 1)
    scale = T ** np.arange(3)[:, None]
    right = np.concatenate([rows[:-1] * scale, rows[1:] * scale], axis=1)
    solved = np.linalg.solve(system, right.transpose(1, 0, 2).reshape(6, -1))
    return solved.reshape(6, len(T), -1) / T[:, 0] ** powers[:, None, None]


def derivative(c, order):
    for _ in range(order):
        c = c[1:] * np.arange(1, len(c))[:, None, None]
    return c


def extremes(c, T):
    """Lowest and highest value of each polynomial [n+1, K, J] on [0, T]: ends and roots."""
    n = len(c) - 1
    scaled = c * T ** np.arange(n + 1)[:, None, None]
    slope = derivative(scaled, 1)
    ends = np.stack([scaled[0], scaled.sum(axis=0)])
    values = [ends[0], ends[1]]
    for root in _roots(slope):
        inside = np.clip(np.nan_to_num(root, nan=0.0, posinf=0.0, neginf=0.0), 0.0, 1.0)
        value = np.zeros_like(inside)
        for coefficient in scaled[::-1]:
            value = value * inside + coefficient
        values.append(value)
    return np.min(values, axis=0), np.max(values, axis=0)


def _roots(c):
    """Real parts of the roots of polynomials [m+1, K, J], [m, K, J]: companion matrices."""
    m = len(c) - 1
    if m < 1:
        return np.zeros((0, *c.shape[1:]))
    lead = c[-1]
    tiny = np.abs(lead) < 1e-9 * (np.abs(c).max(axis=0) + 1e-300)
    safe = np.where(tiny, 1.0, lead)
    companion = np.zeros((*c.shape[1:], m, m))
    companion[..., np.arange(1, m), np.arange(m - 1)] = 1.0
    companion[..., :, -1] = -np.moveaxis(c[:-1] / safe, 0, -1)
    found = np.moveaxis(np.linalg.eigvals(companion).real, -1, 0)
    if not tiny.any():
        return found
    lower = _roots(c[:-1])
    filled = np.concatenate([lower, np.zeros((1, *c.shape[1:]))])
    return np.where(tiny, filled, found)


def assert_finite_differences(command, now, robot=ROBOT):
    """Cross-check at 1 kHz, or 20000 points of a longer motion."""
    limits = robot.limits
    for arm, trajectory in command.items():
        knots, rows = _spline(arm, trajectory, (now, np.zeros(14), np.zeros(14)))
        dt = max(1e-3, knots[-1] / 20_000)
        q = BPoly.from_derivatives(knots, rows)(np.arange(0.0, knots[-1], dt))
        for order, bound in enumerate(
            (limits.max_velocity, limits.max_acceleration, limits.max_jerk), start=1
        ):
            q = np.diff(q, axis=0) / dt
            allowed = np.abs(ROBOT.arm_command_rates(arm, bound)) * (1.0 + FINITE_SLACK)
            if len(q):
                assert (np.abs(q) <= allowed + 10.0 ** (3 * order - 12)).all(), (arm, order)
