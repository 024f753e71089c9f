"""View and instruction to rollout: the embedded model and Wan checkpoints, and their training."""

from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eva_ros.world_model.checkpoint import load_world_model as load_world_model


def __getattr__(name: str) -> Any:
    """Import what other programs use when they ask for it: torch takes seconds."""
    if name == 'load_world_model':
        from eva_ros.world_model.checkpoint import load_world_model

        return load_world_model
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
