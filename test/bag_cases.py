"""Damaged bags, each a number: what must be true of whatever is left to read.

Small bags of every form are cut off, or some of their bytes changed, and then checked and read
as training does. Nothing but a sentence may come out of it, in bounded time and memory; of a
file that was only cut off, or that has checksums, what is read is what was written.
"""

from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
import resource
import shutil
import signal
import tempfile

from backports import zstd
from episode_bags import EPISODE
from episode_bags import JOINTS
from episode_bags import joints_at
from episode_bags import jpeg
from episode_bags import picture
from episode_bags import SECOND
from episode_bags import serialize
import numpy as np
from rosbags.rosbag2 import CompressionFormat
from rosbags.rosbag2 import CompressionMode
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer

from eva_ros.episodes.cache import Cache
from eva_ros.errors import UserError
from eva_ros.inspection.check import check_bag
from eva_ros.observations.views import load_view
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.bag_search import find_bags
from eva_ros.recordings.recorded_bag import RecordedBag
from eva_ros.recordings.records import ImageRecord
from eva_ros.recordings.records import JointStateRecord
from eva_ros.recordings.typestore import typestore
from eva_ros.robot.spec import load_robot

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
FORMS = (
    (StoragePlugin.MCAP, None),
    (StoragePlugin.MCAP, CompressionMode.STORAGE),
    (StoragePlugin.MCAP, CompressionMode.MESSAGE),
    (StoragePlugin.MCAP, CompressionMode.FILE),
    (StoragePlugin.SQLITE3, None),
    (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    (StoragePlugin.SQLITE3, CompressionMode.FILE),
    (StoragePlugin.MCAP, 'whole file'),
    (StoragePlugin.MCAP, 'recorder'),
)
# Forms whose checksums tell a changed byte.
CHECKED = (8,)
# A case takes a tenth of a second; a hang is something else.
PATIENCE_S = 60
# What one case may take on top of what the process had, and what a message may be at most.
MEMORY = 900 << 20
# Numbers that lengths and offsets are set to.
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 1 << 24, (1 << 31) - 1, (1 << 32) - 1, 1 << 40,
           (1 << 63) - 1, (1 << 64) - 1)  # fmt: skip


class HangError(BaseException):
    """A case took too long; no `except Exception` catches it."""


def run(number: int) -> str:
    """Run a case and return what came of it; AssertionError where it must not."""
    rng = np.random.default_rng([number, 4])
    bag = original(number % len(FORMS))
    folder = Path(tempfile.mkdtemp(prefix='eva_bag_case_'))
    try:
        path = folder / 'bag'
        shutil.copytree(bag, path)
        how = damage(path, rng)
        if rng.random() < 0.2:
            (path / 'metadata.yaml').unlink(missing_ok=True)
        with bounded():
            sure = how == 'cut' or number % len(FORMS) in CHECKED
            return f'{how}: {judge(path, folder, contents(bag) if sure else None)}'
    finally:
        shutil.rmtree(folder)


def judge(path: Path, folder: Path, whole: dict | None) -> str:
    """Read what is left in every way; returns the verdict."""
    try:
        bags = find_bags([path])
    except UserError as error:
        assert_sentence(str(error))
        return 'no bag'
    for bag in bags:
        check = check_bag(bag, ROBOT, VIEW)
        assert check.verdict in ('usable', 'partial', 'unusable')
        assert check.verdict == 'usable' or check.reasons
        for reason in check.reasons:
            assert_sentence(reason)
        meta = Cache(folder / 'cache', ROBOT, VIEW).build(bag)
        for problem in meta['problems']:
            assert_sentence(problem)
        assert bool(meta['episodes']) == bool(check.episodes), 'check and training differ'
        if whole is not None:
            found = contents(bag)
            made_up = {key for key, value in found.items() if whole.get(key) != value}
            assert not made_up, f'{len(made_up)} records are not what was written'
    return check.verdict


def assert_sentence(text: str) -> None:
    """Refuse what is no sentence for a person."""
    assert text and '\n' not in text and 'Traceback' not in text, repr(text)
    assert len(text) < 1500, f'{len(text)} characters'


def contents(bag: Path) -> dict[tuple[str, int], bytes]:
    """Return the numbers or bytes of each image and joint state, by topic and stamp."""
    found = {}
    try:
        with BagReader(bag, lambda _: None) as reader:
            for record in reader.records():
                if isinstance(record, ImageRecord):
                    found[record.topic, record.stamp_ns] = bytes(record.message.data)
                elif isinstance(record, JointStateRecord):
                    found[record.topic, record.stamp_ns] = record.positions.tobytes()
    except UserError as error:
        assert_sentence(str(error))
    return found


# Damage.


def damage(path: Path, rng: np.random.Generator) -> str:
    """Damage a file of a bag, seldom its metadata; returns how."""
    files = sorted(file for file in path.iterdir() if file.name != 'metadata.yaml')
    meta = path / 'metadata.yaml'
    file = meta if meta.is_file() and rng.random() < 0.1 else files[rng.integers(len(files))]
    data = bytearray(file.read_bytes())
    kind = ('cut', 'flip', 'number', 'block')[rng.integers(4)]
    if kind == 'cut':
        del data[int(rng.integers(len(data))) :]
    for _ in range(int(rng.integers(1, 9))):
        if kind != 'cut':
            change(data, kind, rng)
    file.write_bytes(data)
    return kind


def change(data: bytearray, kind: str, rng: np.random.Generator) -> None:
    """Change some bytes, half of the time near the beginning or the end."""
    size = len(data)
    at = int(rng.integers(size))
    if rng.random() < 0.5:
        at = int(rng.integers(min(size, 600)))
        at = at if rng.random() < 0.5 else size - 1 - at
    if kind == 'flip':
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 'number':
        width = int(rng.choice([2, 4, 8]))
        value = NUMBERS[rng.integers(len(NUMBERS))] % (1 << 8 * width)
        data[at : at + width] = value.to_bytes(width, rng.choice(['little', 'big']))
    else:
        length = int(rng.integers(1, 400))
        other = int(rng.integers(size))
        data[at : at + length] = data[other : other + length] if rng.random() < 0.5 else bytes(9)


@contextmanager
def bounded():
    """Fail where a case hangs or takes too much memory."""

    def hang(*_):
        raise HangError(f'it took more than {PATIENCE_S} s')

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    old = signal.signal(signal.SIGALRM, hang)
    signal.alarm(PATIENCE_S)
    try:
        yield
    except HangError as error:
        raise AssertionError(str(error)) from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
    assert grown < MEMORY, f'it took {grown >> 20} MiB'


# The bags.


@lru_cache(maxsize=len(FORMS))
def original(form: int) -> Path:
    """Return a small bag of a form: a second of three cameras and the joints, in chunks."""
    folder = tempfile.TemporaryDirectory(prefix='eva_bag_original_')
    _FOLDERS.append(folder)
    storage, mode = FORMS[form]
    path = Path(folder.name) / 'bag'
    if mode == 'recorder':
        return _recorded(path)
    writer = Writer(path, version=9, storage_plugin=storage)
    if isinstance(mode, CompressionMode):
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        _fill(writer)
    if mode == 'whole file':
        (file,) = path.glob('*.mcap')
        file.with_name(file.name + '.zstd').write_bytes(zstd.compress(file.read_bytes()))
        file.unlink()
    return path


_FOLDERS: list[tempfile.TemporaryDirectory] = []


def _recorded(path: Path) -> Path:
    """Write the bag as the node episode_recorder does: with checksums."""
    bag = RecordedBag(path, {'eva.robot': 'aloha_sim'})
    for topic, kind in {entry[1]: entry[2] for entry in _messages()}.items():
        bag.add_topic(topic, kind)
    for index, (stamp_ns, topic, kind, fields) in enumerate(_messages()):
        bag.write(topic, stamp_ns, serialize(kind, stamp_ns, fields))
        if index % 20 == 19:
            bag.flush()
    bag.close({})
    return path


def _fill(writer: Writer) -> None:
    connections = {}
    for stamp_ns, topic, kind, fields in _messages():
        if topic not in connections:
            connections[topic] = writer.add_connection(topic, kind, typestore=typestore())
        writer.write(connections[topic], stamp_ns, serialize(kind, stamp_ns, fields))


@lru_cache(maxsize=1)
def _messages() -> list:
    found = []
    for index in range(11):
        stamp_ns = 1_700_000_000 * SECOND + index * SECOND // 20
        for camera in VIEW.camera_names:
            image = jpeg(picture(camera, stamp_ns))
            fields = {'format': 'jpeg', 'data': np.frombuffer(image, np.uint8)}
            topic = f'/{ROBOT.cameras[camera].topic}'
            found.append((stamp_ns, topic, 'sensor_msgs/msg/CompressedImage', fields))
    for index in range(56):
        stamp_ns = 1_700_000_000 * SECOND + index * SECOND // 100
        names, values = ROBOT.to_joint_state(joints_at(SECOND + index * SECOND // 100))
        fields = {'name': list(names), 'position': values, 'velocity': np.zeros(0)}
        found.append((stamp_ns, '/joint_states', JOINTS, fields | {'effort': np.zeros(0)}))
    found.sort(key=lambda entry: entry[0])
    marker = {
        'index': 0, 'task': 'reach', 'robot': 'aloha_sim', 'instruction': 'reach', 'success': 1,
    }  # fmt: skip
    first, last = found[0][0], found[-1][0]
    found.insert(0, (first, '/episode', EPISODE, marker | {'phase': 0}))
    return [*found, (last, '/episode', EPISODE, marker | {'phase': 1})]
