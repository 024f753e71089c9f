"""Wan's real architectures at full size with random weights on a GPU: dream, memory, LoRA step.

    python benchmarks/gpu.py [--family wan2.2-ti2v] [--steps 20] [--size 480 640 49]

Without a GPU it says so and ends. Sizes are those of the published checkpoints' config.json; the
text encoder is left out (an instruction is encoded once), its place is taken by random words.
`--tiny` runs the same with one narrow layer, on a CPU too: its figures say nothing.
"""

import argparse
from dataclasses import replace
import time

from diffusers import AutoencoderKLWan
from diffusers import UniPCMultistepScheduler
from diffusers import WanTransformer3DModel
from peft import LoraConfig
import torch

from eva_ros.world_model.condition import Condition
from eva_ros.world_model.folder import WAN_21
from eva_ros.world_model.folder import WAN_22_A14B
from eva_ros.world_model.folder import WAN_22_TI2V
from eva_ros.world_model.rollout import WorldSettings
from eva_ros.world_model.wan import WanWorldModel

_LARGE = {
    'num_attention_heads': 40,
    'ffn_dim': 13824,
    'num_layers': 40,
    'in_channels': 36,
    'out_channels': 16,
}
TRANSFORMERS = {
    WAN_21: {**_LARGE, 'image_dim': 1280, 'added_kv_proj_dim': 5120},
    WAN_22_TI2V: {
        'num_attention_heads': 24,
        'ffn_dim': 14336,
        'num_layers': 30,
        'in_channels': 48,
        'out_channels': 48,
    },
    WAN_22_A14B: _LARGE,
}
VAE_TI2V = {
    'base_dim': 160,
    'decoder_base_dim': 256,
    'z_dim': 48,
    'is_residual': True,
    'patch_size': 2,
    'in_channels': 12,
    'out_channels': 12,
    'scale_factor_spatial': 16,
    'latents_mean': [0.0] * 48,
    'latents_std': [1.0] * 48,
}
TINY = {'num_attention_heads': 2, 'ffn_dim': 32, 'num_layers': 1}
WORDS, PICTURE = 12, 257
_GIB = 1024**3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--family', choices=list(TRANSFORMERS), default=WAN_22_TI2V)
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--rank', type=int, default=16)
    parser.add_argument(
        '--size', type=int, nargs=3, default=[480, 640, 49], metavar=('H', 'W', 'FRAMES')
    )
    parser.add_argument('--tiny', action='store_true', help='try the script, on a CPU too')
    args = parser.parse_args()
    gpu = torch.cuda.is_available()
    if not gpu and not args.tiny:
        print('not run: this machine has no GPU')
        return
    print(torch.cuda.get_device_name() if gpu else 'CPU', args.family, *args.size)
    model, condition = build(args.family, *args.size, tiny=args.tiny)
    measure('weights', lambda: None)
    measure(f'dream, {args.steps} steps', lambda: dream(model, condition, args.steps))
    train = lora_step(model, condition, args.rank)
    train()
    measure(f'LoRA step, rank {args.rank}, one clip', train)


def build(
    family: str, height: int, width: int, frames: int, *, tiny: bool = False
) -> tuple[WanWorldModel, Condition]:
    """Return a model with random weights in bfloat16 on the GPU, and what a dream starts from."""
    settings = WorldSettings(family, '', '', height, width, 10.0, frames)
    names = ['transformer', 'transformer_2'] if family == WAN_22_A14B else ['transformer']
    parts: dict[str, torch.nn.Module] = {'text_encoder': torch.nn.Identity()}
    vae, transformer = dict(VAE_TI2V if family == WAN_22_TI2V else {}), TRANSFORMERS[family]
    if tiny:
        vae |= dict.fromkeys(vae.keys() & {'decoder_base_dim'} | {'base_dim'}, 8)
        transformer = {**transformer, **TINY}
        if 'added_kv_proj_dim' in transformer:
            transformer['added_kv_proj_dim'] = 128 * TINY['num_attention_heads']
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    with torch.device(device):
        parts['vae'] = AutoencoderKLWan(**vae)
        torch.set_default_dtype(torch.bfloat16)
        for name in names:
            parts[name] = WanTransformer3DModel(**transformer, cross_attn_norm=True)
        torch.set_default_dtype(torch.float32)
    scheduler = UniPCMultistepScheduler(
        prediction_type='flow_prediction', use_flow_sigmas=True, flow_shift=5.0
    )
    model = WanWorldModel(
        settings, family, parts, None, scheduler, boundary=0.9 if len(names) == 2 else None
    )
    model.vae.enable_tiling()
    model.to(device).eval().requires_grad_(requires_grad=False)
    view = torch.rand(1, 3, height, width, device=device)
    with torch.no_grad():
        first, _ = model._encode_observed(view[:, None], model.latent_shape[1])
    words = torch.randn(1, WORDS, 4096, device=device, dtype=torch.bfloat16)
    words[:, -1] = 0.0
    picture = None
    if family == WAN_21:
        picture = torch.randn(1, PICTURE, 1280, device=device, dtype=torch.bfloat16)
    tokens = torch.zeros(1, WORDS, dtype=torch.long, device=device)
    return model, Condition(first, tokens, view, words, picture)


@torch.no_grad()
def dream(model: WanWorldModel, condition: Condition, steps: int) -> None:
    latents = model.sample(condition, model.noise(1), steps=steps, sampler='unipc')
    model.decode(latents, condition)


def lora_step(model: WanWorldModel, condition: Condition, rank: int):
    """Return a function that takes one optimizer step on an adapter of the first transformer."""
    targets = ['to_q', 'to_k', 'to_v', 'to_out.0', 'ffn.net.0.proj', 'ffn.net.2']
    model.transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets))
    model.transformer.enable_gradient_checkpointing()
    model.train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-4)
    condition = replace(condition, first=condition.first.detach())

    def step() -> None:
        target, noise = model.noise(1), model.noise(1)
        sigma = torch.full((1,), 0.95, device=target.device)
        model.denoising_loss(target, sigma, noise, condition).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(name: str, work) -> None:
    """Print seconds and the most memory of a piece of work."""
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    memory = f'{torch.cuda.max_memory_allocated() / _GIB:6.1f} GiB' if gpu else ''
    print(f'{name:40} {seconds:8.2f} s  {memory}')


if __name__ == '__main__':
    main()
