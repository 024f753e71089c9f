"""The message types of our bags: ROS 2 Jazzy's and eva_msgs from its own .msg text."""

from functools import lru_cache
from pathlib import Path

from rosbags.interfaces import MessageDefinition
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.typesys import get_types_from_idl
from rosbags.typesys import get_types_from_msg
from rosbags.typesys import get_typestore
from rosbags.typesys import Stores
from rosbags.typesys.store import Typestore

TEXTS = Path(__file__).resolve().parent / 'eva_msgs_texts'
VIDEO = 'foxglove_msgs/msg/CompressedVideo'
# Never changed since the first ROS 2.
FIXED = (
    'sensor_msgs/msg/Image',
    'sensor_msgs/msg/CompressedImage',
    'sensor_msgs/msg/JointState',
    'trajectory_msgs/msg/JointTrajectory',
    'std_msgs/msg/String',
    VIDEO,
)
# The fields of a type that is in no ROS distribution; recorders often leave its text out.
_VIDEO_TEXT = 'builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n'


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """Return the store that knows every type we write and read."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict = get_types_from_msg(_VIDEO_TEXT, VIDEO)
    for path in sorted((TEXTS / 'msg').glob('*.msg')):
        types.update(get_types_from_msg(path.read_text(), f'eva_msgs/msg/{path.stem}'))
    store.register(types)
    return store


@lru_cache(maxsize=512)
def store_for(kind: str, definition: MessageDefinition) -> Typestore | None:
    """Return the types to read a message with: as the bag defines them, else our own.

    Types that have been the same in every ROS 2 are read as ROS 2 has them, whatever the bag says.
    None where neither the bag nor this package knows the type. A definition that cannot be
    parsed, or that leaves out a type it needs, counts as none.
    """
    if definition.format != MessageDefinitionFormat.NONE:
        try:
            store = _embedded(kind, definition)
            store.generate_msgdef(kind)
            if kind not in FIXED or not deviates(kind, definition):
                return store
        except Exception:  # damaged text fails in any way
            pass
    own = typestore()
    return own if kind in own.types else None


@lru_cache(maxsize=512)
def deviates(kind: str, definition: MessageDefinition) -> bool:
    """Return whether a bag defines one of the FIXED types otherwise than ROS 2 does: damage."""
    if kind not in FIXED or definition.format == MessageDefinitionFormat.NONE:
        return False
    try:
        return _embedded(kind, definition).hash_rihs01(kind) != typestore().hash_rihs01(kind)
    except Exception:  # damaged text fails in any way
        return True


def full_name(kind: str) -> str:
    """Return a type's name with the part that ROS 1 and some converters leave out."""
    package, slash, rest = kind.partition('/')
    return kind if not slash or '/' in rest else f'{package}/msg/{rest}'


def _embedded(kind: str, definition: MessageDefinition) -> Typestore:
    store = get_typestore(Stores.EMPTY)
    if definition.format == MessageDefinitionFormat.MSG:
        store.register(get_types_from_msg(definition.data, kind))
    else:
        store.register(_idl_types(definition.data))
    return store


def _idl_types(text: str) -> dict:
    """Return the types of an IDL definition, or of several behind each other."""
    line = '=' * 80 + '\n'
    if not text.startswith(f'{line}IDL: '):
        return get_types_from_idl(text)
    types: dict = {}
    for part in text.split(line)[1:]:
        types.update(get_types_from_idl(part.split('\n', 1)[1]))
    return types
