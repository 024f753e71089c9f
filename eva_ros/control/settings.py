"""What the gate lets through: config/gate.yaml."""

from pathlib import Path
from typing import Any
from typing import get_args
from typing import Literal

from pydantic import ConfigDict
from pydantic import Field
from pydantic import model_validator

from eva_ros.robot.paths import config_dir
from eva_ros.robot.strict_yaml import parse
from eva_ros.robot.strict_yaml import read_yaml
from eva_ros.robot.strict_yaml import StrictModel

Mode = Literal['look_dream_move', 'overlap']
MODES: tuple[Mode, ...] = get_args(Mode)


class GateSettings(StrictModel):
    """Settings of the gate. Gripper values are in 0 (closed) to 1 (open), others in rad.

    Attributes:
        mode: 'look_dream_move': chunks begin at rest where they were dreamed; 'overlap': a chunk
            may come while the arms move, its steps that they are past are dropped.
        max_observation_age_s: a chunk from an older observation is stale.
        max_joint_state_age_s: joints measured earlier than this are unknown.
        max_clock_skew_s: a stamp may lie so far ahead of now.
        min_confidence: refuse chunks whose decoder is less sure; 0 takes all, also unsaid.
        min_executability: refuse chunks whose executability score is lower; 0 takes all.
        allowed_start_tolerance: how far a joint may have moved since the observation.
        allowed_start_tolerance_gripper: likewise for a gripper.
        max_start_blend: how far the first decoded step may lie from the joints now; the
            difference is subtracted and faded out.
        max_start_blend_gripper: likewise for a gripper.
        start_blend_steps: over so many steps it fades out.
        max_tracking_error: how far a measured joint may lie from where it was sent; the robot's
            YAML may say otherwise for a joint. Above the robot's own lag.
        start_timeout_s: both arms must have begun to move so long after they were to.
        frozen_joint_state_s: a joint state that stays the same for so long while the arms move
            is lost.
        joint_limit_margin: steps are clamped so far inside the limits of an arm joint.
        execute_steps: so many steps are executed, then the arms stop.
        stop_steps: the step that stops is drawn out to so many, to brake gently.
        path_tolerance: how far the smooth path may pass from a decoded step.
        path_tolerance_gripper: likewise for a gripper.
        max_time_stretch: a chunk that needs more is refused.
        velocity_scaling_factor: part of the velocity limits that is used, as in MoveIt.
        acceleration_scaling_factor: part of the acceleration and jerk limits that is used.
        check_collisions: look for collisions of the bodies that the robot's YAML describes.
        collision_margin: bodies must stay so far apart at every instant looked at, in m; between
            two of them no point of an arm moves farther than that.
        control_period_s: nothing that was sent is changed earlier than so long after now.
        switch_lead_s: in mode overlap new steps begin so long after a chunk arrived.
        hold_s: a command to stay where the arms are is due after this.
        estop_deceleration: an e-stop brakes with so many times each joint's max_deceleration
            and without regard for jerk; a stop keeps both.
        estop_heartbeat_s: an e-stop publisher that is silent for longer stops the arms; 0: it may
            be silent.
        estop_reset_cooldown_s: an e-stop is reset so long after it was latched, not earlier.
        approve: an accepted chunk waits until somebody approves it.
        approve_timeout_s: and expires after so long.
        stream_rate_hz: targets a second for arms that take JointState.
    """

    # A quoted number is a text, and true is no 1.
    model_config = ConfigDict(strict=True)

    mode: Mode = 'look_dream_move'
    max_observation_age_s: float = Field(default=30.0, gt=0.0)
    max_joint_state_age_s: float = Field(default=0.2, gt=0.0)
    max_clock_skew_s: float = Field(default=0.1, ge=0.0)
    min_confidence: float = Field(default=0.0, ge=0.0, le=1.0)
    min_executability: float = Field(default=0.0, ge=0.0, le=10.0)
    allowed_start_tolerance: float = Field(default=0.03, gt=0.0)
    allowed_start_tolerance_gripper: float = Field(default=0.1, gt=0.0)
    max_start_blend: float = Field(default=0.10, gt=0.0)
    max_start_blend_gripper: float = Field(default=0.5, gt=0.0)
    start_blend_steps: int = Field(default=4, ge=1)
    max_tracking_error: float = Field(default=0.15, gt=0.0)
    start_timeout_s: float = Field(default=0.2, gt=0.0)
    frozen_joint_state_s: float = Field(default=0.5, gt=0.0)
    joint_limit_margin: float = Field(default=0.01, ge=0.0)
    execute_steps: int = Field(default=16, ge=1, le=64)
    stop_steps: float = Field(default=2.0, ge=1.0, le=10.0)
    path_tolerance: float = Field(default=0.05, ge=0.0)
    path_tolerance_gripper: float = Field(default=0.15, ge=0.0)
    max_time_stretch: float = Field(default=3.0, ge=1.0)
    velocity_scaling_factor: float = Field(default=1.0, gt=0.0, le=1.0)
    acceleration_scaling_factor: float = Field(default=1.0, gt=0.0, le=1.0)
    check_collisions: bool = True
    collision_margin: float = Field(default=0.01, gt=0.0, le=0.1)
    control_period_s: float = Field(default=0.02, gt=0.0, le=0.1)
    switch_lead_s: float = Field(default=0.1, gt=0.0, le=1.0)
    hold_s: float = Field(default=0.2, gt=0.0)
    estop_deceleration: float = Field(default=1.5, ge=1.0, le=10.0)
    estop_heartbeat_s: float = Field(default=0.0, ge=0.0)
    estop_reset_cooldown_s: float = Field(default=0.5, ge=0.0)
    approve: bool = True
    approve_timeout_s: float = Field(default=20.0, gt=0.0)
    stream_rate_hz: float = Field(default=200.0, ge=10.0, le=1000.0)

    @model_validator(mode='after')
    def _check(self) -> 'GateSettings':
        if self.switch_lead_s <= self.control_period_s:
            raise ValueError('switch_lead_s must be above control_period_s')
        return self


class _GateFile(StrictModel):
    """The file: settings for every robot, and what differs for some."""

    gate: dict[str, Any]
    robots: dict[str, dict[str, Any]] = Field(default_factory=dict)


# What a file that says nothing of them means, as for every robot that is not a simulated one.
_GENTLE = {'velocity_scaling_factor': 0.25, 'acceleration_scaling_factor': 0.25}


def load_gate_settings(
    robot_name: str, path: Path | None = None, *, simulated: bool = True
) -> GateSettings:
    """Return the gate's settings for a robot.

    Args:
        robot_name: its own entry under `robots`, if there is one, comes on top of `gate`.
        path: the file; config/gate.yaml of the package if None.
        simulated: of the robot. What the package's file says of its simulated robots is not for
            a real one that was described in a copy of their YAML and kept the name.

    Raises:
        UserError: an unknown key or a value out of range; names file and key.
    """
    packaged = config_dir() / 'gate.yaml'
    path = packaged if path is None else path
    file = parse(_GateFile, read_yaml(path), path)
    for overrides in ({}, *file.robots.values()):
        parse(GateSettings, {**_GENTLE, **file.gate, **overrides}, path)
    applies = simulated or path.resolve() != packaged.resolve()
    overrides = file.robots.get(robot_name, {}) if applies else {}
    return parse(GateSettings, {**_GENTLE, **file.gate, **overrides}, path)
