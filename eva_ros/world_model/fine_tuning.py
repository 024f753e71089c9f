"""Fine-tuning a Wan checkpoint on one's own recordings: a LoRA on its transformers."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
import json
import math
from pathlib import Path
from typing import Any

from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
import torch
from torch import Tensor

from eva_ros.episodes.fingerprint import fingerprint
from eva_ros.errors import UserError
from eva_ros.training.finite import require_finite
from eva_ros.training.labels import require_finite_labels
from eva_ros.training.launch import share_of
from eva_ros.training.launch import training_device
from eva_ros.training.loop import Budget
from eva_ros.training.loop import Task
from eva_ros.training.loop import TrainingLoop
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import World
from eva_ros.training.manifest import write_manifest
from eva_ros.training.videos import Video
from eva_ros.world_model.adapters import ADAPTER
from eva_ros.world_model.adapters import METADATA
from eva_ros.world_model.adapters import WEIGHTS
from eva_ros.world_model.adapters import WEIGHTS_2
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.checkpoint import settings_of
from eva_ros.world_model.clips import ClipSampler
from eva_ros.world_model.folder import read_folder
from eva_ros.world_model.folder import SMALL
from eva_ros.world_model.memory import available_bytes
from eva_ros.world_model.memory import dream_size
from eva_ros.world_model.memory import needed_bytes
from eva_ros.world_model.memory import Placement
from eva_ros.world_model.sample_videos import sample_videos
from eva_ros.world_model.train import flow_loss
from eva_ros.world_model.train import warm_and_fall
from eva_ros.world_model.training_run import clip_sampler
from eva_ros.world_model.training_run import told
from eva_ros.world_model.wan import WanWorldModel
from eva_ros.world_model.wan_checkpoint import require_view

_NAME = 'fine_tuning'
# What publications and the training scripts of the community adapt.
TARGETS = ('to_q', 'to_k', 'to_v', 'to_out.0', 'ffn.net.0.proj', 'ffn.net.2')
_GIB = 1024**3


@dataclass(frozen=True)
class FineTuneSettings:
    """Settings of a fine-tuning.

    Attributes:
        steps: Optimizer steps of the whole run.
        rank: Rank of the adapter.
        batch: Clips of a step.
        learning_rate: Of AdamW, after the warm-up.
        warmup: Steps until the full rate.
        dropout: Share of the clips that are learnt without their instruction, so that guidance
            keeps working.
        history: Observed frames before the first that dreams of moving arms start from; None takes
            as many as the checkpoint does, which is none without eva.json.
        history_dropout: Share of the steps that are learnt without history, as dreams from rest
            start.
        average: Decay of the averaged weights that are saved.
        seed: Seed of the adapter, the data order and the noise.
        mirror: Whether mirrored clips are drawn too.
    """

    steps: int
    rank: int
    batch: int = 1
    learning_rate: float = 1e-4
    warmup: int = 50
    dropout: float = 0.1
    history: int | None = None
    history_dropout: float = 0.5
    average: float = 0.99
    seed: int = 0
    mirror: bool = False


def logit_normal_levels(count: int, shift: float, generator: torch.Generator) -> Tensor:
    """Return noise levels [count], logit-normal before the schedule's shift (arXiv 2403.03206)."""
    u = torch.randn(count, generator=generator, device=generator.device).sigmoid()
    return shift * u / (1 + (shift - 1) * u)


class FineTuning(Task):
    """Learning an adapter by flow matching, block by block checkpointed.

    Args:
        model: Frozen Wan model; fresh adapters are added to it.
        sampler: Sampler of the recorded clips.
        settings: How to train.
        identity: What else must be the same for a resumed run to be the same run.
    """

    label = 'world-model'

    def __init__(
        self,
        model: WanWorldModel,
        sampler: ClipSampler,
        settings: FineTuneSettings,
        identity: Mapping[str, Any],
    ) -> None:
        self.settings, self._sampler, self._identity = settings, sampler, identity
        self.average = settings.average
        self._device = training_device()
        self._share = share_of(settings.batch, 'clips')
        for text in sampler.instructions:
            model.check_instruction(text)
        self.model: WanWorldModel = model.to(self._device).requires_grad_(requires_grad=False)
        rank = settings.rank
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS))
        torch.manual_seed(settings.seed)
        for transformer in model.transformers:
            transformer.add_adapter(config, adapter_name=_NAME)
            transformer.enable_gradient_checkpointing()
            transformer.train()
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        self._trained = trained
        for weight in trained:
            weight.data = weight.data.float()  # bfloat16 would swallow small updates
        self.optimizers = [
            torch.optim.AdamW(
                trained, settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
            )
        ]
        config = model.scheduler.config
        self._shift = config.get('shift', config.get('flow_shift', 1.0))

    def step(self, loop: TrainingLoop, number: int) -> Mapping[str, float]:
        """Take one optimizer step on a batch of clips."""
        return loop.update(lambda: self._loss(number))

    def _loss(self, number: int) -> tuple[Tensor, dict[str, float]]:
        settings, share = self.settings, self._share
        frames, instructions = self._sampler.batch(number, settings.batch, share)
        generator = torch.Generator(self._device)
        generator.manual_seed(settings.seed * 1_000_003 + number)
        sigma = logit_normal_levels(settings.batch, self._shift, generator)
        noise = self.model.noise(settings.batch, generator)
        dropped = torch.rand(settings.batch, generator=generator, device=self._device)
        silent = (dropped < settings.dropout)[share].tolist()
        forgotten = torch.rand(1, generator=generator, device=self._device)
        if float(forgotten) < settings.history_dropout:
            frames = frames[:, self.model.settings.history :]
        words = ['' if without else text for without, text in zip(silent, instructions)]
        loss = flow_loss(self.model, frames, words, sigma[share], noise[share])
        if self.model.transformer_2 is not None:
            # Where all levels are on one side of the boundary, processes still expect a gradient
            # of every adapter.
            loss = loss + 0.0 * sum(weight.sum() for weight in self._trained)
        return loss, {'loss': loss.item()}

    def videos(self) -> Mapping[str, Video]:
        """Return dreams of fixed clips beside the recordings."""
        return sample_videos(self.model, self._sampler, self.settings.seed)

    def rate(self, step: int, share: float) -> float:
        """Return `warm_and_fall` with the settings' warm-up."""
        return warm_and_fall(step, share, self.settings.warmup)

    def identity(self) -> Mapping[str, Any]:
        """Return what must be the same for a resumed run to be the same run."""
        chosen = {key: value for key, value in asdict(self.settings).items() if key != 'steps'}
        return {'settings': chosen, 'base': self.model.base, **self._identity}


def check(base: Path, episodes: Sequence, view, settings: FineTuneSettings) -> None:
    """Refuse what cannot be fine-tuned, before anything is loaded.

    Raises:
        UserError: The checkpoint is not a Wan model or damaged, no episode has an instruction, or
            the memory does not suffice.
    """
    folder = read_folder(Path(base))
    if folder.family == SMALL:
        raise UserError(f'{base} is a small model, which is trained whole: leave out --lora.')
    if not told(episodes):
        raise UserError('No episode says what the robot was told: there is nothing to learn from.')
    require_finite_labels(told(episodes))
    world = settings_of(folder, view)
    if settings.history is not None:
        world = replace(world, history=settings.history)
    require_view(folder, world)
    frames, height, width = dream_size(folder, world)
    needed = needed_bytes(folder, frames, height, width, Placement(tiling=True))
    free = available_bytes()
    if needed['lora'] > free:
        raise UserError(
            f'Fine-tuning {base} on clips of {frames} frames of {height}x{width} '
            f'needs {needed["lora"] / _GIB:.1f} GiB of memory, and {free / _GIB:.1f} GiB are '
            'free: use a machine with more memory or a smaller view.'
        )


def fine_tune(
    base: Path,
    episodes: Sequence,
    robot,
    view,
    out: Path,
    settings: FineTuneSettings,
    *,
    max_seconds: float = math.inf,
) -> bool:
    """Train an adapter in `out`/run and write it into `out`; continue a run that is there.

    Args:
        base: Folder of the Wan checkpoint.
        episodes: To learn from; those without an instruction are left out.
        robot: Robot that was recorded.
        view: ViewSpec of the frames.
        out: Folder of the adapter.
        settings: How to train.
        max_seconds: Stop with an adapter after so long.

    Returns:
        Whether the last step was reached.

    Raises:
        UserError: As `check` does, or the training diverges.
    """
    check(base, episodes, view, settings)
    episodes = told(episodes)
    parts = (part for e in episodes for part in (e.instruction, e.joints))
    model = load_world_model(base, view, robot=robot, placement=Placement(tiling=True))
    assert isinstance(model, WanWorldModel)
    if settings.history is not None:
        model.take_history(settings.history)
    sampler = clip_sampler(
        episodes,
        view,
        seed=settings.seed,
        mirror=settings.mirror,
        history=model.settings.history,
    )
    task = FineTuning(model, sampler, settings, {'bags': fingerprint(parts)})
    loop = TrainingLoop(task, out / 'run', Budget(settings.steps))
    loop.resume()
    loop.run(max_seconds)
    loop.finish()
    if loop.is_main:
        facts = {'settings': asdict(settings), 'steps_done': loop.step}
        facts |= {'seconds': round(loop.spent_s), 'episodes': len(episodes)}
        save_adapter(model, out, World.of(robot, view), facts)
    return loop.step >= settings.steps


def save_adapter(
    model: WanWorldModel, folder: Path, world: World, training: Mapping[str, Any]
) -> None:
    """Write the adapters of a model for `load_world_model(..., lora=folder)`.

    Raises:
        NotFiniteError: A weight is not finite; nothing is written.
    """
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    require_finite(trained, f'The adapter {folder}', 'it is not written')
    folder.mkdir(parents=True, exist_ok=True)
    config = model.transformer.peft_config[_NAME]
    chosen = {'r': config.r, 'lora_alpha': config.lora_alpha, 'target_modules': list(TARGETS)}
    about = {'format': 'pt', METADATA: json.dumps(chosen)}
    for transformer, name in zip(model.transformers, (WEIGHTS, WEIGHTS_2)):
        weights = get_peft_model_state_dict(transformer, adapter_name=_NAME)
        save_file({n: w.cpu().contiguous() for n, w in weights.items()}, folder / name, about)
    details: dict[str, Any] = {'world_model': model.settings.name, 'base': model.base}
    if model.settings.history:
        details['history'] = model.settings.history
    write_manifest(folder, Manifest(ADAPTER, world, details, training))
