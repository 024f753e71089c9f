"""A robot YAML made from a URDF and recordings: what is known is filled in, the rest is asked."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
import math

from eva_ros.errors import UserError
from eva_ros.robot.joint_naming import divide
from eva_ros.robot.joint_naming import gripper_of
from eva_ros.robot.joint_naming import is_hand
from eva_ros.robot.joint_naming import side_of
from eva_ros.robot.joint_naming import without_side
from eva_ros.robot.joint_naming import words
from eva_ros.robot.schema import MOST_JOINTS
from eva_ros.robot.seen import Seen
from eva_ros.robot.sides import SIDES
from eva_ros.robot.urdf_facts import UrdfFacts
from eva_ros.robot.urdf_facts import UrdfJoint

# Recorded values beyond this are not rad.
_MOST_RAD = 2.0 * math.pi


@dataclass(frozen=True)
class DraftArm:
    """An arm as far as it is known.

    Attributes:
        joints: names inside, and in joint states.
        gripper: likewise of its gripper; None where there is none.
        topic: of its joint states.
        command: topic of its recorded joint trajectories, and the joints in them.
        urdf: what a URDF says of the joints and the gripper, by name inside.
        frames: base and end effector; None without a URDF.
        gripper_spread: least and greatest recorded value of the gripper.
        hand: joints of a hand whose opening none of them tells.
    """

    joints: tuple[tuple[str, str], ...]
    gripper: tuple[str, str] | None
    topic: str
    command: tuple[str, tuple[str, ...]] | None = None
    urdf: Mapping[str, UrdfJoint] = field(default_factory=dict)
    frames: tuple[str, str] | None = None
    gripper_spread: tuple[float, float] | None = None
    hand: tuple[str, ...] = ()


@dataclass(frozen=True)
class Draft:
    """A robot as far as it is known.

    Attributes:
        name: of the robot.
        arms: by side.
        seen: what recordings show; None where there are none.
        urdf: what the URDF says; None without one.
        not_in_urdf: joints that the URDF lacks under the robot's names; none without a URDF.
        left_out: names of joints that belong to no arm.
        guess: a question about what was guessed of the arms.
    """

    name: str
    arms: Mapping[str, DraftArm]
    seen: Seen | None
    urdf: UrdfFacts | None
    not_in_urdf: tuple[str, ...]
    left_out: tuple[str, ...]
    guess: str

    @property
    def whole_urdf(self) -> bool:
        """Return whether the URDF has all joints under the robot's names."""
        return self.urdf is not None and not self.not_in_urdf

    @property
    def spread(self) -> tuple[float, float] | None:
        """Return the least and the greatest recorded value of the arms' joints."""
        if self.seen is None:
            return None
        known, arms = self.seen.spread, self.arms.values()
        values = [known[arm.topic, name] for arm in arms for _, name in arm.joints
                  if (arm.topic, name) in known]  # fmt: skip
        return (min(v[0] for v in values), max(v[1] for v in values)) if values else None

    @property
    def not_rad(self) -> bool:
        """Return whether the recorded values cannot be rad."""
        return self.spread is not None and max(map(abs, self.spread)) > _MOST_RAD


def draft(name: str, urdf: UrdfFacts | None, seen: Seen | None) -> Draft:
    """Return what a URDF and recordings say of a robot.

    Raises:
        UserError: no joint looks like an arm's, or too many do, or the URDF has none of them.
    """
    states = seen.states if seen else {'joint_states': tuple(urdf.joints) if urdf else ()}
    owned, others, guess = _owned(states)
    arms = {side: _arm(side, owned[side], seen, urdf, len(owned)) for side in SIDES
            if side in owned}  # fmt: skip
    if not arms:
        raise UserError(f'None of the joints looks like that of an arm: {", ".join(others)}.')
    for side, arm in arms.items():
        if not 1 <= len(arm.joints) <= MOST_JOINTS:
            raise UserError(
                f'{len(arm.joints)} joints look like those of the {side} arm, and an arm has 1 '
                f'to {MOST_JOINTS}: say which with --joints REGEX '
                f'({", ".join(state for _, state in arm.joints)}).'
            )
    every = [names for arm in arms.values()
             for names in (*arm.joints, *([arm.gripper] if arm.gripper else []))]  # fmt: skip
    if urdf and seen and not any(arm.urdf for arm in arms.values()):
        raise UserError(
            f'{urdf.path} has none of the joints of {seen.source}: it has '
            f'{", ".join(urdf.joints)}, and not {", ".join(state for _, state in every)}. Give '
            'the URDF of that robot, or leave --urdf out.'
        )
    lacking = [n for n, state in every if urdf and urdf.joints.keys().isdisjoint((n, state))]
    used = {state for _, state in every} | {name for arm in arms.values() for name in arm.hand}
    left_out = dict.fromkeys(n for own in states.values() for n in own if n not in used)
    return Draft(name, arms, seen, urdf, tuple(lacking), tuple(left_out), guess)


def _owned(
    states: Mapping[str, Sequence[str]],
) -> tuple[dict[str, tuple[str, list[str]]], list[str], str]:
    """Return topic and joints of each side, the joints of no arm, and what was guessed."""
    division = divide(name for names in states.values() for name in dict.fromkeys(names))
    sides = {side_of(topic): topic for topic in states}
    if len(states) == 2 and set(sides) == set(SIDES):
        parts = {side: divide(states[topic]) for side, topic in sides.items()}
        owned = {
            side: (sides[side], [n for own in part.arms.values() for n in own])
            for side, part in parts.items()
        }
        return owned, [name for part in parts.values() for name in part.others], ''
    topic_of = {name: topic for topic, names in states.items() for name in names}
    owned = {side: (topic_of[own[0]], own) for side, own in division.arms.items()}
    return owned, division.others, division.guess


def _arm(
    side: str, owned: tuple[str, list[str]], seen: Seen | None, urdf: UrdfFacts | None, arms: int
) -> DraftArm:
    topic, names = owned
    known = {name: found for name in names if urdf and (found := _in_urdf(name, side, urdf))}
    if urdf:
        order = list(urdf.joints)
        names = sorted(names, key=lambda n: order.index(known[n].name) if n in known else -1)
    gripper = gripper_of([name for name in names if is_hand(name)])
    joints = [name for name in names if not is_hand(name)
              and (name not in known or known[name].kind != 'prismatic')]  # fmt: skip
    inside = {name: name if side_of(name) == side or arms == 1 else f'{side}_{name}'
              for name in names}  # fmt: skip
    if gripper and 'gripper' not in words(gripper):
        inside[gripper] = 'gripper' if arms == 1 else f'{side}_gripper'
    chain = [known[name].name for name in joints if name in known]
    made = DraftArm(
        joints=tuple((inside[name], name) for name in joints),
        gripper=None if gripper is None else (inside[gripper], gripper),
        topic=topic,
        urdf={inside[name]: found for name, found in known.items()},
        frames=urdf.frames(chain) if urdf and set(joints) == set(chain) else None,
        hand=tuple(n for n in names if is_hand(n) and n != gripper) if gripper is None else (),
    )
    if seen is None:
        return made
    sent = [(t, c) for t, c in seen.commands.items() if set(joints) <= set(c)
            and (arms == 1 or side_of(t) in ('', side))]  # fmt: skip
    return replace(
        made,
        gripper_spread=seen.spread.get((topic, gripper)) if gripper else None,
        command=sent[0] if sent else None,
    )


def _in_urdf(name: str, side: str, urdf: UrdfFacts) -> UrdfJoint | None:
    """Return a joint of the URDF by its name, or that of a URDF of one arm without its side."""
    if name in urdf.joints:
        return urdf.joints[name]
    bare = without_side(name)
    found = [j for own, j in urdf.joints.items() if without_side(own) == bare
             and side_of(own) in ('', side)]  # fmt: skip
    return found[0] if len(found) == 1 else None
