"""Dreams of fixed clips beside the recordings, to look at while a world model is trained."""

import numpy as np

from eva_ros.errors import NotFiniteError
from eva_ros.training.videos import Video
from eva_ros.world_model.clips import ClipSampler
from eva_ros.world_model.pipeline import WorldModel
from eva_ros.world_model.rollout import rollout_seed

_CLIPS = 2


def sample_videos(model: WorldModel, sampler: ClipSampler, seed: int) -> dict[str, Video]:
    """Return videos of the same clips and noise each time, recording left and dream right.

    Args:
        model: World model, in evaluation mode.
        sampler: Sampler of the recorded clips.
        seed: Seed of the noise.
    """
    videos = {}
    for number, (frames, instruction) in enumerate(sampler.samples(_CLIPS)):
        try:
            dream = model.dream(frames[0], instruction, seed=rollout_seed(seed, number))
        except NotFiniteError:
            continue  # early in training; what is wrong with the weights is for the loop to say
        both = np.concatenate([frames, dream.frames], axis=2)
        videos[f'recorded, dreamed/{number}: {instruction}'] = Video(both, 1.0 / dream.dt)
    return videos
