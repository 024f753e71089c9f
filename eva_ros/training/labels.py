"""Recorded joints that a training may learn from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from eva_ros.errors import NotFiniteError


def require_finite_labels(episodes: Sequence[Any], joint_names: Sequence[str] = ()) -> None:
    """Refuse episodes with a joint position that is not finite.

    Args:
        episodes: have joints [T, J] and a source.
        joint_names: [J]; without them a joint is named by its number.

    Raises:
        NotFiniteError: names the episode, the joint and the frame.
    """
    for number, episode in enumerate(episodes):
        joints = np.asarray(episode.joints)
        if np.isfinite(joints).all():
            continue
        frame, joint = np.argwhere(~np.isfinite(joints))[0]
        name = joint_names[joint] if joint_names else f'joint {joint}'
        raise NotFiniteError(
            f'{getattr(episode, "source", f"Episode {number}")}: the position of {name} in frame '
            f'{frame} is not finite',
            'leave this episode out, or delete the cache of episodes',
        )
