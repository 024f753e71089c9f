"""`collision` of a robot YAML: the bodies that must not touch, inline or in a file of its own."""

from pydantic import Field
from pydantic import model_validator

from eva_ros.robot.limits import Number
from eva_ros.robot.strict_yaml import StrictModel

Point = tuple[Number, Number, Number]


class CapsuleEntry(StrictModel):
    """A capsule: the points within a radius of a line, m in the body's frame."""

    begin: Point = Field(alias='from')
    end: Point = Field(alias='to')
    radius: Number = Field(gt=0.0)


class BoxEntry(StrictModel):
    """A box along the axes of the body's frame, m."""

    center: Point
    size: Point


class BodyEntry(StrictModel):
    """A body that must not touch another: a capsule or a box fixed to a frame of the URDF."""

    name: str
    frame: str
    capsule: CapsuleEntry | None = None
    box: BoxEntry | None = None

    @model_validator(mode='after')
    def _check(self) -> 'BodyEntry':
        if (self.capsule is None) == (self.box is None):
            raise ValueError('give either capsule or box')
        if self.box is not None and min(self.box.size) <= 0.0:
            raise ValueError('a box needs a size above 0')
        return self


class CollisionEntry(StrictModel):
    """`collision`: the bodies, and the pairs of them that may touch.

    A name in a pair is a body's, or that of all bodies with a number behind it: `left_base` for
    `left_base_1` and `left_base_2`.
    """

    bodies: tuple[BodyEntry, ...] = Field(min_length=2)
    allowed: tuple[tuple[str, str], ...] = ()

    @model_validator(mode='after')
    def _check(self) -> 'CollisionEntry':
        names = [body.name for body in self.bodies]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f'bodies name {", ".join(twice)} twice')
        wanted = {name for pair in self.allowed for name in pair}
        unknown = sorted(name for name in wanted if not self.bodies_of(name))
        if unknown:
            raise ValueError(f'allowed names {", ".join(unknown)}, which are no bodies')
        return self

    def bodies_of(self, name: str) -> list[str]:
        """Return the names of the bodies that a name in a pair stands for."""
        parts = [body.name.rpartition('_') for body in self.bodies]
        numbered = [f'{stem}_{number}' for stem, _, number in parts
                    if stem == name and number.isdecimal()]  # fmt: skip
        return [body.name for body in self.bodies if body.name == name] + numbered
