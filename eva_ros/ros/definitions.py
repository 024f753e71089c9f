"""Definitions of message types that ROS has and this package does not know by itself."""

from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from ament_index_python.packages import PackageNotFoundError
from rosbags.typesys import get_types_from_msg

from eva_ros.errors import UserError
from eva_ros.recordings.typestore import typestore


def learn_type(kind: str) -> None:
    """Let bags hold a message type, with the definition that is installed here.

    Raises:
        UserError: the definition, or that of a type within it, is not installed.
    """
    store, found = typestore(), dict[str, Any]()
    waiting = [kind]
    while waiting:
        name = waiting.pop()
        if name not in store.types and name not in found:
            found |= get_types_from_msg(_text(name), name)
            _, fields = found[name]
            waiting += [inner for _, field in fields for inner in _names(field)]
    if found:
        store.register(found)


def _text(kind: str) -> str:
    package, _, name = kind.partition('/msg/')
    try:
        path = Path(get_package_share_directory(package)) / 'msg' / f'{name}.msg'
        return path.read_text(encoding='utf-8')
    except (PackageNotFoundError, ValueError, OSError):
        raise UserError(f"The definition of the message type '{kind}' is not installed.") from None


def _names(field: Any) -> list[str]:
    """Return the types that a field of rosbags' form refers to."""
    if isinstance(field, str):
        return [field] if '/msg/' in field else []
    return [name for part in field for name in _names(part)] if isinstance(field, tuple) else []
