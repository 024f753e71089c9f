"""Recordings of a square and a tiny Wan model, on which fine-tuning is tested."""

from types import SimpleNamespace

import numpy as np
import torch
from wan_folders import INSTRUCTION
from wan_folders import wan_pipeline

from eva_ros.world_model.clips import ClipSampler
from eva_ros.world_model.clips import ClipSettings
from eva_ros.world_model.clips import find_clips
from eva_ros.world_model.fine_tuning import FineTuneSettings
from eva_ros.world_model.train import flow_loss

ROBOT = SimpleNamespace(name='any', joint_names=())
SETTINGS = FineTuneSettings(steps=3, rank=2, batch=2, learning_rate=1e-2, warmup=1)
FAMILIES = ['wan2.2-ti2v', 'wan2.2-a14b']


def view(frames):
    return SimpleNamespace(
        name='tiny', height=32, width=32, rate_hz=10.0, frames=frames, cameras=[]
    )


def moving_square(row, *, backwards=False):
    """Return an episode in which a square moves to the right, or to the left."""
    video = np.full((20, 32, 32, 3), 40, np.uint8)
    joints = np.zeros((20, 14))
    for t in range(20):
        x = int(np.clip(2 * (t - 4), 0, 20))
        at = 20 - x if backwards else x
        video[t, row : row + 6, at : at + 8] = 220
        joints[t] = 0.05 * x
    return SimpleNamespace(frames=video, joints=joints, instruction=INSTRUCTION, success=None)


def wan_folder(family, tmp_path_factory):
    folder = tmp_path_factory.mktemp('fine') / family
    wan_pipeline(family).save_pretrained(folder)
    return folder


def sampler(episodes, frames, history=0):
    clips = find_clips([e.joints for e in episodes], 0.1, ClipSettings(frames))
    return ClipSampler(episodes, clips, seed=0, history=history)


def error(model, episodes, history=0):
    """Return the loss on fixed clips, noise and levels, with `history` frames before each."""
    frames, words = sampler(episodes, model.settings.frames, history).batch(99, 8)
    levels = torch.linspace(0.2, 1.0, 8)
    noise = model.noise(8, torch.Generator().manual_seed(0))
    with torch.no_grad():
        return float(flow_loss(model, frames, words, levels, noise))
