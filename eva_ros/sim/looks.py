"""Looks of randomised scenes: light, colours, distractor objects and camera poses.

What is varied follows RoboTwin's domain randomisation (arXiv 2506.18088). The cube or bar stays
some shade of red, since the instructions call it red.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Half sizes in m of the distractors, none of them higher than a hand above the cube passes.
DISTRACTORS = (
    ('box', (0.020, 0.020, 0.020)),
    ('cylinder', (0.020, 0.022, 0.0)),
    ('box', (0.014, 0.040, 0.010)),
    ('cylinder', (0.032, 0.008, 0.0)),
    ('sphere', (0.018, 0.0, 0.0)),
    ('box', (0.028, 0.012, 0.016)),
)
# The part of the table that the top camera sees.
_TABLE_LOW, _TABLE_HIGH = (-0.40, 0.25), (0.40, 0.90)
_CLEARANCE_M = 0.14
_APART_M = 0.08
# Where the hands and forearms start, and how far they are from the middle.
_ARMS_X, _ARMS_Y = 0.14, (0.37, 0.63)


@dataclass(frozen=True, eq=False)
class Look:
    """How a scene looks, relative to the clean one.

    Attributes:
        light: Factor of each light's colour [4, 3]: ambient light, then the three lamps.
        lamp_turns: Change of the direction of each lamp [3, 3].
        table: Colour of the table [3], 0 to 1.
        target: Colour of the cube or bar [3], 0 to 1.
        camera_offsets: Shift of each camera [3, 3], m.
        top_turn: Turn of the top camera about its axes [3], rad.
        camera_zooms: Change of each camera's vertical field of view [3], degrees.
        places: Centre (x, y) and angle of each distractor [6, 3]; nan where there is none.
        colours: Colour of each distractor [6, 3].
    """

    light: Array
    lamp_turns: Array
    table: Array
    target: Array
    camera_offsets: Array
    top_turn: Array
    camera_zooms: Array
    places: Array
    colours: Array


def draw_look(rng: np.random.Generator, level: float, centre: Array, half_length: float) -> Look:
    """Sample a look.

    Args:
        rng: Random generator.
        level: Strength, 0 to 1.
        centre: Centre of the cube or bar [3], from which distractors keep away.
        half_length: Half its length along x, m.
    """
    brightness = 1 + level * rng.uniform(-0.5, 0.5, (4, 1))
    tint = 1 + level * rng.uniform(-0.15, 0.15, (4, 3))
    grey = np.full(3, 0.2)
    hue = level * rng.uniform(-0.02, 0.02)
    red = (hue % 1.0, 1 - level * rng.uniform(0, 0.2), 1 - level * rng.uniform(0, 0.4))
    return Look(
        light=brightness * tint,
        lamp_turns=level * rng.uniform(-0.5, 0.5, (3, 3)),
        table=grey + level * (rng.uniform(0.05, 0.65, 3) - grey),
        target=np.array(colorsys.hsv_to_rgb(*red)),
        camera_offsets=level * rng.uniform(-1, 1, (3, 3)) * [[0.02], [0.006], [0.006]],
        top_turn=level * rng.uniform(-0.035, 0.035, 3),
        camera_zooms=level * rng.uniform(-2, 2, 3) * [1.0, 0.5, 0.5],
        places=_draw_places(rng, level, centre, half_length),
        colours=np.array([_draw_colour(rng) for _ in DISTRACTORS]),
    )


def _draw_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """Return a colour that nobody calls red."""
    return colorsys.hsv_to_rgb(rng.uniform(0.12, 0.8), rng.uniform(0.3, 1), rng.uniform(0.3, 1))


def _draw_places(
    rng: np.random.Generator, level: float, centre: Array, half_length: float
) -> Array:
    """Return places on the table away from the target, from the arms' starts and each other."""
    places = np.full((len(DISTRACTORS), 3), np.nan)
    wanted = rng.permutation(len(DISTRACTORS))[: int(np.ceil(level * rng.integers(2, 7)))]
    for i in wanted:
        for _ in range(50):
            place = rng.uniform(_TABLE_LOW, _TABLE_HIGH)
            if _is_free(place, places, centre, half_length):
                places[i] = [*place, rng.uniform(-np.pi, np.pi)]
                break
    return places


def _is_free(place: Array, others: Array, centre: Array, half_length: float) -> bool:
    nearest = np.clip(place[0], centre[0] - half_length, centre[0] + half_length)
    aside = np.hypot(place[0] - nearest, place[1] - centre[1]) > _CLEARANCE_M
    apart = not (np.linalg.norm(others[:, :2] - place, axis=1) < _APART_M).any()
    below_arms = abs(place[0]) > _ARMS_X and _ARMS_Y[0] < place[1] < _ARMS_Y[1]
    return bool(aside and apart and not below_arms)
