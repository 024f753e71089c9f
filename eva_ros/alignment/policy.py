"""The world model with a LoRA adapter: what is aligned, saved and switched off."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
import json
import os
from pathlib import Path
from typing import Any

from peft import get_peft_model_state_dict
from peft import LoraConfig
from safetensors.torch import save_file
import torch
from torch import Tensor

from eva_ros.alignment.judge import Judge
from eva_ros.alignment.judge import Judgement
from eva_ros.alignment.prompts import Prompt
from eva_ros.alignment.reward import Executability
from eva_ros.episodes.fingerprint import fingerprint
from eva_ros.training.finite import require_finite
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import write_manifest
from eva_ros.world_model.adapters import ADAPTER as KIND
from eva_ros.world_model.adapters import METADATA
from eva_ros.world_model.adapters import WEIGHTS
from eva_ros.world_model.condition import Condition
from eva_ros.world_model.pipeline import WorldModel
from eva_ros.world_model.train import draw_noise_levels
from eva_ros.world_model.train import flow_loss

ADAPTER = 'executability'
_BATCH = 16
TARGETS = ('to_q', 'to_k', 'to_v', 'to_out.0', 'ffn.net.0.proj', 'ffn.net.2')


class WorldModelPolicy:
    """A world model whose transformer carries a fresh LoRA adapter."""

    def __init__(self, model: WorldModel, rank: int, seed: int) -> None:
        """Freeze the model and add an adapter that changes nothing yet."""
        self.model = model.requires_grad_(requires_grad=False).eval()
        config = LoraConfig(
            r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=list(TARGETS)
        )
        torch.manual_seed(seed)
        model.transformer.add_adapter(config, adapter_name=ADAPTER)

    def parameters(self) -> dict[str, Tensor]:
        """Return the adapter's weights by name."""
        named = self.model.transformer.named_parameters()
        return {name: weight for name, weight in named if weight.requires_grad}

    def fingerprint(self) -> str:
        """Return a name for the unaligned model's weights."""
        named = self.model.transformer.named_parameters()
        return fingerprint(
            p.detach().float().cpu().numpy() for _, p in named if not p.requires_grad
        )

    def velocity(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        """Return the velocity of x [G, ...] in float32, in the precision inference has."""
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.model.velocity(x, sigma, condition).float()

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Switch the adapter off for a while."""
        self.model.transformer.disable_adapters()
        try:
            yield
        finally:
            self.model.transformer.enable_adapters()

    def condition(self, views: Tensor, instructions: list[str], repeat: int) -> Condition:
        """Return the condition of views [N, 3, H, W], each repeated so many times."""
        return self.model.condition(views, instructions).repeat(repeat)

    def data_loss(
        self, clips: Tensor, instructions: list[str], generator: torch.Generator
    ) -> Tensor:
        """Return the supervised loss on recorded clips [N, T, 3, H, W], 0 to 1."""
        shift = self.model.scheduler.config.shift
        sigma = draw_noise_levels(len(clips), shift, generator)
        noise = self.model.noise(len(clips), generator)
        return flow_loss(self.model, clips, instructions, sigma, noise)

    def save(
        self, folder: Path, training: dict[str, Any], weights: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write the adapter for `load_world_model(..., lora=folder)`, in diffusers' format.

        Args:
            folder: of the adapter; one that is there is replaced, whole or not at all.
            training: for its card.
            weights: the adapter's by name, where those in the model are sharded.

        Raises:
            NotFiniteError: a weight is not finite; nothing is written.
        """
        weights = self.parameters() if weights is None else weights
        require_finite(weights, f'The adapter {folder}', 'it is not written')
        transformer = self.model.transformer
        tensors = get_peft_model_state_dict(transformer, dict(weights), adapter_name=ADAPTER)
        config = transformer.peft_config[ADAPTER].to_dict()
        about = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
        metadata = {'format': 'pt', METADATA: json.dumps(about, indent=2, sort_keys=True)}
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f'{WEIGHTS}.part'
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(whole, draft, metadata=metadata)
        os.replace(draft, folder / WEIGHTS)
        settings = self.model.settings
        details = {'world_model': settings.name, 'base': self.model.base}
        write_manifest(folder, Manifest(KIND, settings.world, details, training))


def dream_and_judge(
    model: WorldModel, prompts: Sequence[Prompt], judge: Judge, seed: int, steps: int
) -> Judgement:
    """Dream once from each prompt, as inference does, and judge [N].

    Args:
        model: the world model, with or without an adapter.
        prompts: what from.
        judge: of the dreams.
        seed: of the initial noise: dream i of a seed always begins with the same.
        steps: denoising steps.
    """
    return dream_and_judge_by(model, prompts, [judge], seed, steps)[0]


@torch.no_grad()
def dream_and_judge_by(
    model: WorldModel, prompts: Sequence[Prompt], judges: Sequence[Judge], seed: int, steps: int
) -> list[Judgement]:
    """Return what each of several judges says of the same dreams; arguments as above."""
    parts: list[list[Judgement]] = [[] for _ in judges]
    for start in range(0, len(prompts), _BATCH):
        batch = prompts[start : start + _BATCH]
        noise = torch.cat(
            [
                model.noise(1, torch.Generator().manual_seed(seed * 1_000_003 + start + i))
                for i in range(len(batch))
            ]
        )
        views = torch.stack([prompt.first() for prompt in batch])
        condition = model.condition(views, [prompt.instruction for prompt in batch])
        frames = model.decode(model.sample(condition, noise, steps=steps), condition)
        for judge, part in zip(judges, parts, strict=True):
            needed = [p.demonstrated(judge.dt, judge.limits.grippers) for p in batch]
            part.append(judge(frames, torch.tensor(needed), batch))
    return [joined(part) for part in parts]


def joined(parts: Sequence[Judgement]) -> Judgement:
    """Return the judgements of several batches of dreams as one."""
    rewards, judged, travelled, positions, terms = zip(*parts, strict=True)
    executability = [torch.cat(values) for values in zip(*judged, strict=True)]
    return Judgement(
        torch.cat(rewards),
        Executability(*executability),
        torch.cat(travelled),
        torch.cat(positions),
        {name: torch.cat([part[name] for part in terms]) for name in terms[0]},
    )
