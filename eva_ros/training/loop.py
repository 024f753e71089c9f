"""The one training loop: steps, gradients of all processes, averages, state, progress, figures.

What is learnt is a `Task`; the loop does the rest, the same for the inverse dynamics model, the
world model and alignment. Processes share the gradients through accelerate: two on this machine's
CPU (`training.launch`), or several GPUs and machines with the same command under
`accelerate launch`.
"""

from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import nullcontext
from dataclasses import dataclass
import math
from pathlib import Path
import signal
import sys
import time
from typing import Any
from typing import ClassVar
from typing import TypeVar

from accelerate import Accelerator
from accelerate import DistributedDataParallelKwargs
from accelerate.utils import broadcast
from diffusers.training_utils import EMAModel
import torch
from torch import nn
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR

from eva_ros.episodes.fingerprint import refuse_another
from eva_ros.progress import Progress
from eva_ros.training import run_state
from eva_ros.training.divergence import DivergenceGuard
from eva_ros.training.folder_lock import held
from eva_ros.training.interrupts import Interrupts
from eva_ros.training.run_state import STATE
from eva_ros.training.videos import Video
from eva_ros.training.videos import video_summary

SAVE_EVERY_S = 60.0
# Videos come so often, or less often where they would take more than this share of the time.
SHOW_EVERY_S = 300.0
_SHOW_SHARE = 0.05
_DATA_PARALLEL = DistributedDataParallelKwargs(gradient_as_bucket_view=True)

T = TypeVar('T')
# A loss to add, and figures beside it. Those called a loss are compared with their medians, the
# others must be finite alone.
Loss = Callable[[], tuple[Tensor, Mapping[str, float]]]


@dataclass(frozen=True)
class Budget:
    """How much training there shall be.

    Attributes:
        steps: Number of steps; or
        minutes: Wall time, that before a kill included.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError('give either steps or minutes')

    def share(self, step: int, spent_s: float) -> float:
        """Return how much is done after so many steps and seconds, 0 to 1."""
        if self.steps is not None:
            return min(1.0, step / max(1, self.steps))
        return min(1.0, spent_s / (60 * (self.minutes or 1e-9)))


class Task(ABC):
    """What is learnt.

    Attributes:
        label: Name of the training in what is said.
        unit: What a step is called.
        average: Largest decay of the moving average of the weights; None keeps none.
        gradient_norm: Largest norm of the gradient.
        model: Holds the weights; those that require a gradient are trained.
        optimizers: Of these weights, at the full learning rate.
    """

    label: ClassVar[str]
    unit: ClassVar[str] = 'step'
    average: float | None = None
    gradient_norm: float = 1.0
    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]

    @abstractmethod
    def step(self, loop: 'TrainingLoop', number: int) -> Mapping[str, float]:
        """Take step `number` (from 0) by `loop.update`, and return what to watch."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Return what must be the same, as JSON, for a resumed training to be the same one."""

    def rate(self, step: int, share: float) -> float:
        """Return the factor on the learning rate, after so many steps and this share of them."""
        return 1.0

    def facts(self) -> Mapping[str, Any]:
        """Return what else belongs to the state, as JSON."""
        return {}

    def restore(self, facts: Mapping[str, Any]) -> None:  # noqa: B027, not every task has any
        """Take back what `facts` returned."""

    def stopped(self) -> str:
        """Return why the training ends before its budget is used up; '' while it goes on."""
        return ''

    def conclude(self, loop: 'TrainingLoop') -> None:  # noqa: B027, not every task does
        """Do what belongs to the end of the budget, before the state is saved."""

    def videos(self) -> Mapping[str, Video]:
        """Return by name what shows how well the model, in evaluation mode, has learnt."""
        return {}


class _Objective(nn.Module):
    """A model whose forward pass is what is asked for: so that accelerate sees every pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[], T]) -> T:
        return function()


class TrainingLoop:
    """One training in a folder; the state after a step depends on the task's seed alone.

    Args:
        task: What is learnt.
        folder: Where the state is kept.
        budget: How much training there shall be.

    Attributes:
        step: Steps done.
        spent_s: Seconds of training so far, those before a kill included.
        weights: What is trained, by name.
        guard: Watches for divergence.
    """

    def __init__(self, task: Task, folder: Path, budget: Budget) -> None:
        self.task, self.folder, self.budget = task, folder, budget
        self.step, self.spent_s = 0, 0.0
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            log_with='tensorboard',
            project_dir=folder,
            kwargs_handlers=[_DATA_PARALLEL],
        )
        # FSDP replaces the weights by shards, in the model and in the optimizers.
        self._objective, *self._optimizers = self.accelerator.prepare(
            _Objective(task.model), *task.optimizers
        )
        named = task.model.named_parameters()
        self.weights = {name: weight for name, weight in named if weight.requires_grad}
        self.guard = DivergenceGuard(task.label, task.unit, quiet=not self.is_main)
        self._average = None
        if task.average is not None:
            self._average = EMAModel(self.weights.values(), decay=task.average, foreach=True)
        self._schedules: list[LambdaLR] = []
        self._interrupts = Interrupts()
        self._interrupted = 0

    @property
    def is_main(self) -> bool:
        """Return whether this process is the one that writes and speaks."""
        return self.accelerator.is_main_process

    @property
    def share(self) -> float:
        """Return how much of the training is done, 0 to 1."""
        return self.budget.share(self.step, self.spent_s)

    @property
    def averages(self) -> dict[str, Tensor]:
        """Return the moving averages of the weights by name; empty where none are kept."""
        return dict(zip(self.weights, self._average.shadow_params)) if self._average else {}

    @torch.no_grad()
    def finish(self) -> None:
        """End the training with the averaged weights, whole ones, in the model."""
        averages = {name: run_state.whole(average) for name, average in self.averages.items()}
        run_state.gather_weights(self.task.model)
        for name, weight in self.task.model.named_parameters():
            if name in averages:
                weight.copy_(averages[name])

    def run(self, max_seconds: float = math.inf) -> None:
        """Train to the end of the budget, and keep the state.

        Args:
            max_seconds: Stop earlier, with the state on disk, after so long in this call.

        Raises:
            UserError: The training diverges; the last finite state is kept. Or another training
                is under way in the folder.
            KeyboardInterrupt: Ctrl-C, after the step that was under way, with the state on disk.
        """
        # Of several processes the launcher ends one that waits for the others by SIGTERM.
        alone = self.accelerator.num_processes == 1
        ends = (signal.SIGINT, signal.SIGTERM) if alone else (signal.SIGINT,)
        with (
            held(self.folder) if self.is_main else nullcontext(),
            Interrupts(*ends) as self._interrupts,
        ):
            self._train(max_seconds)
        if received := self._interrupted or self._interrupts.received:
            self.guard.say_interrupted(self.folder, self.step)
            self.accelerator.wait_for_everyone()
            signal.raise_signal(received)

    def _train(self, max_seconds: float) -> None:
        self.guard.say_resumed(self.folder, self.step)
        self.accelerator.init_trackers('tensorboard')
        task, began, saved = self.task, self.spent_s, self.spent_s
        first, show_s = self.step, began + SHOW_EVERY_S
        with (
            self.guard.stopping(self.folder),
            Progress(task.label, 1.0, sys.stderr if self.is_main else None) as progress,
        ):
            while self._goes_on() and self.spent_s - began < max_seconds:
                figures = self.run_step()
                shown = ' '.join(f'{name} {value:.4g}' for name, value in figures.items())
                progress.show(self.share, f'{task.unit} {self.step}  {shown}')
                self.accelerator.log(dict(figures), step=self.step)
                if self.spent_s - saved > SAVE_EVERY_S:
                    saved = self.spent_s
                    self.save()
                if self.spent_s > show_s:
                    show_s = self.spent_s + max(SHOW_EVERY_S, self._show() / _SHOW_SHARE)
            if self.share >= 1:
                task.conclude(self)
            self.save()
            if self.step > first and not self._interrupted:
                self._show()
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def _goes_on(self) -> bool:
        return self.share < 1 and not self._interrupted and not self.task.stopped()

    def _show(self) -> float:
        """Log the task's videos; return the seconds it took, in every process those of the first.

        Every process dreams; no random state changes. Where FSDP shards the weights, nothing does.
        """
        if any(isinstance(weight, DTensor) for weight in self.weights.values()):
            return 0.0
        began, device = time.monotonic(), self.accelerator.device
        devices = [device] if device.type == 'cuda' else []
        with torch.random.fork_rng(devices), _evaluating(self.task.model):
            videos = self.infer(self.task.videos)
        if self.is_main:
            writer = self.accelerator.get_tracker('tensorboard', unwrap=True)
            for name, video in videos.items():
                writer.file_writer.add_summary(video_summary(name, video), self.step)
        took = torch.tensor(time.monotonic() - began, dtype=torch.float64)
        return float(broadcast(took.to(device)))

    def run_step(self) -> dict[str, float]:
        """Take one step and return what to watch.

        Raises:
            NotFiniteError: A loss or a gradient is not finite; the weights stay as they were.
        """
        began = time.monotonic()
        self.guard.step = self.step + 1
        if not self._schedules:
            self._schedules = [self._schedule(optimizer) for optimizer in self._optimizers]
        figures = self.task.step(self, self.step)
        self.step += 1
        # The first process' clock and signal are everybody's: all stop, save and slow down
        # together.
        spent = self.spent_s + time.monotonic() - began
        shared = torch.tensor([spent, self._interrupts.received], dtype=torch.float64)
        self.spent_s, signal_number = broadcast(shared.to(self.accelerator.device)).tolist()
        self._interrupted = int(signal_number)
        for schedule in self._schedules:
            schedule.step()
        return dict(figures)

    @torch.no_grad()
    def infer(self, function: Callable[[], T]) -> T:
        """Call a function that uses the model between updates, without a gradient.

        FSDP keeps only a share of the weights in a process; here they are whole.
        """
        result: T = self._objective(function)
        return result

    def update(self, *losses: Loss) -> dict[str, float]:
        """Take one optimizer step on the sum of losses, each the mean over this process' share.

        Returns:
            What the losses said, and the gradient's norm: means over losses and processes.

        Raises:
            NotFiniteError: What was said or the gradient is not finite; the weights stay.
        """
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        said: dict[str, list[float]] = {}
        for number, loss in enumerate(losses, 1):
            last = number == len(losses)
            with nullcontext() if last else self.accelerator.no_sync(self._objective):
                value, figures = self._objective(loss)
                self.accelerator.backward(value)
            for name, figure in figures.items():
                said.setdefault(name, []).append(figure)
        norm = self.accelerator.clip_grad_norm_(self.weights.values(), self.task.gradient_norm)
        said['gradient norm'] = [float(norm)]
        means = self.mean({name: sum(values) / len(values) for name, values in said.items()})
        self.guard.require_finite(self.step + 1, means)
        watched = {name: value for name, value in means.items() if _is_watched(name)}
        self.guard.check(self.step + 1, watched)
        for optimizer in self._optimizers:
            optimizer.step()
        if self._average is not None:
            self._average.step(self.weights.values())
        return means

    def mean(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return the mean of figures over all processes."""
        values = torch.tensor(list(figures.values()), dtype=torch.float64)
        means = self.accelerator.reduce(values.to(self.accelerator.device), 'mean')
        return dict(zip(figures, means.tolist()))

    def _schedule(self, optimizer: torch.optim.Optimizer) -> LambdaLR:
        for group in optimizer.param_groups:
            group['initial_lr'] = optimizer.defaults['lr']
        return LambdaLR(
            optimizer, lambda step: self.task.rate(step, self.share), last_epoch=self.step - 1
        )

    def save(self) -> None:
        """Write the whole state, atomically; a kill while writing leaves the old one.

        Raises:
            NotFiniteError: It holds a value that is not finite; the old one is left.
        """
        optimizers = {
            f'optimizer {number}': run_state.optimizer_tensors(optimizer)
            for number, optimizer in enumerate(self._optimizers)
        }
        packed = run_state.pack({'weights': self.weights, 'average': self.averages, **optimizers})
        tensors = {name: run_state.whole(tensor) for name, tensor in packed.items()}
        facts = {
            'step': self.step,
            'spent_s': self.spent_s,
            'identity': self.task.identity(),
            'task': self.task.facts(),
        }
        if self.is_main:
            run_state.write_tensors(self.folder / STATE, tensors, facts)
        self.guard.saved_step = self.step

    @torch.no_grad()
    def resume(self) -> bool:
        """Go on where `save` was; return whether there was anything.

        Raises:
            UserError: The state is damaged, of an earlier version, or of a training with other
                data or settings.
        """
        path, task = self.folder / STATE, self.task
        state = run_state.read_state(self.folder)
        if state is None:
            return False
        tensors, facts = state
        refuse_another(path, 'a training', facts['identity'], task.identity())
        task.restore(facts['task'])
        for group, own in (('weights', self.weights), ('average', self.averages)):
            for name, value in run_state.unpack(tensors, group).items():
                own[name].copy_(run_state.shard_like(value, own[name]))
        for number, optimizer in enumerate(self._optimizers):
            moments = run_state.unpack(tensors, f'optimizer {number}')
            run_state.restore_optimizer(optimizer, moments)
        self.step = self.guard.saved_step = facts['step']
        self.spent_s = facts['spent_s']
        if self._average is not None:
            self._average.optimization_step = self.step
        self._schedules = []
        return True


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Keep a model in evaluation mode for a while; each part is then as it was."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _is_watched(name: str) -> bool:
    return 'loss' in name or 'gradient' in name
