"""The message types of our bags: ROS 2 Jazzy's and eva_msgs from its own .msg text."""

from functools import lru_cache
from pathlib import Path

from rosbags.typesys import get_types_from_msg
from rosbags.typesys import get_typestore
from rosbags.typesys import Stores
from rosbags.typesys.store import Typestore

TEXTS = Path(__file__).resolve().parent / 'eva_msgs_texts'


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """Return the store that knows every type we write and read."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict = {}
    for path in sorted((TEXTS / 'msg').glob('*.msg')):
        types.update(get_types_from_msg(path.read_text(), f'eva_msgs/msg/{path.stem}'))
    store.register(types)
    return store
