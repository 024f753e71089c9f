"""Candidates of one observation: ours against `WanImageToVideoPipeline` on the same folder.

    python benchmarks/world_models.py [--candidates 8] [--steps 4] [--repeats 3]

An embedded-size Wan 2.2 TI2V checkpoint with random weights is written to a temporary folder and
loaded twice. In turns it times our `sample_latents`, one call of the pipeline with
`num_videos_per_prompt`, and a call for each candidate, and prints the medians and their ratios.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
import statistics
import tempfile
import time

from diffusers import AutoencoderKLWan
from diffusers import UniPCMultistepScheduler
from diffusers import WanImageToVideoPipeline
from diffusers import WanTransformer3DModel
import numpy as np
from PIL import Image
from tokenizers import models
from tokenizers import pre_tokenizers
from tokenizers import Tokenizer
import torch
from transformers import PreTrainedTokenizerFast
from transformers import UMT5Config
from transformers import UMT5EncoderModel

from eva_ros.world_model.checkpoint import load_world_model

HEIGHT, WIDTH, FRAMES = 160, 128, 17
CHANNELS, SCALE = 16, 16
INSTRUCTION = 'lift the cube with the left arm'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--candidates', type=int, default=8)
    parser.add_argument('--steps', type=int, default=4)
    parser.add_argument('--repeats', type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pipeline = embedded_ti2v()
        pipeline.save_pretrained(folder)
        medians, apart = compare(pipeline, Path(folder), args.candidates, args.steps, args.repeats)
    print(f'{args.candidates} candidates, {args.steps} steps, {torch.get_num_threads()} threads')
    for name, seconds in medians.items():
        ratio = seconds / medians['ours']
        off = f'{apart[name]:.0e}'
        print(f'{name:12} {seconds:7.2f} s, {ratio:5.2f} times ours; latents {off} off')


def embedded_ti2v() -> WanImageToVideoPipeline:
    """Return a pipeline with the sizes of the embedded model and random weights."""
    torch.manual_seed(0)
    known = dict.fromkeys(['<pad>', '<unk>', *INSTRUCTION.split()])
    words = {word: i for i, word in enumerate(known)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token='<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    text = UMT5Config(
        vocab_size=len(words), d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4
    )
    pipeline = WanImageToVideoPipeline(
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token='<pad>', unk_token='<unk>'
        ),
        text_encoder=UMT5EncoderModel(text).eval(),
        vae=AutoencoderKLWan(
            base_dim=16,
            z_dim=CHANNELS,
            dim_mult=[1, 2, 4, 4],
            num_res_blocks=1,
            is_residual=True,
            patch_size=2,
            in_channels=12,
            out_channels=12,
            scale_factor_spatial=SCALE,
        ).eval(),
        scheduler=UniPCMultistepScheduler(
            prediction_type='flow_prediction', use_flow_sigmas=True, flow_shift=5.0
        ),
        transformer=WanTransformer3DModel(
            num_attention_heads=4,
            attention_head_dim=64,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            text_dim=128,
            freq_dim=128,
            ffn_dim=1024,
            num_layers=8,
            rope_max_seq_len=64,
        ),
        expand_timesteps=True,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def compare(
    pipeline: WanImageToVideoPipeline, folder: Path, candidates: int, steps: int, repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the median seconds of each way, and how far its latents are from ours."""
    model = load_world_model(folder)
    view = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    frames = torch.from_numpy(view).permute(2, 0, 1)[None].repeat(candidates, 1, 1, 1) / 255.0
    grid = (HEIGHT // SCALE, WIDTH // SCALE)
    noise = torch.randn(
        (candidates, CHANNELS, (FRAMES - 1) // 4 + 1, *grid),
        generator=torch.Generator().manual_seed(0),
    )

    def ours() -> torch.Tensor:
        words = [INSTRUCTION] * candidates
        return model.sample_latents(frames, words, noise, steps=steps, sampler='unipc')

    def call(start: torch.Tensor) -> torch.Tensor:
        return pipeline(
            image=Image.fromarray(view),
            prompt=INSTRUCTION,
            height=HEIGHT,
            width=WIDTH,
            num_frames=FRAMES,
            num_inference_steps=steps,
            guidance_scale=1.0,
            num_videos_per_prompt=len(start),
            latents=start,
            output_type='latent',
        ).frames

    ways: dict[str, Callable[[], torch.Tensor]] = {
        'ours': ours,
        'one call': lambda: call(noise),
        'a call each': lambda: torch.cat([call(one) for one in noise.split(1)]),
    }
    found = {name: way() for name, way in ways.items()}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            spent[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(times) for name, times in spent.items()}
    scale = float(found['ours'].max() - found['ours'].min())
    apart = {n: float((x - found['ours']).abs().max()) / scale for n, x in found.items()}
    return medians, apart


if __name__ == '__main__':
    main()
