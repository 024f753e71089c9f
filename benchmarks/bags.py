"""What reading recorded bags costs: ratios to the bare limit and to the loop people write.

    python benchmarks/bags.py [--bags 8] [--seconds 20] [--repeats 3] [--seed 0]

Bags of three 640x480 JPEG cameras and joint states at 100 Hz are made in a temporary folder.
Each ratio is of two measurements taken in turn; the median of the repeats is printed with its
least and greatest value. The plain loop runs on one core, ours and the bare limit on
all of them: whatever else the machine does shows. CPU seconds are printed beside them.

The bare limit is OpenCV's decoder and the resize of the same part of each picture, in as many
processes, whose start counts on both sides. What is left to ours: of 1.9 ms a picture (640x480,
83 KB) 0.2 ms are Python, half of it for the ten joint states of each tick; reading the bag is
0.04 ms.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
import os
from pathlib import Path
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np

from eva_ros.episodes.dataset import load_episodes
from eva_ros.observations.views import load_view
from eva_ros.observations.views import ViewSpec
from eva_ros.recordings.bag_writer import EpisodeBagWriter
from eva_ros.recordings.records import JOINT_STATE
from eva_ros.robot.spec import load_robot

ROBOT = load_robot('aloha_sim')
_START_NS = 1_700_000_000_000_000_000
_PICTURES = 24
_PEAK = (
    'import sys, resource; sys.path.insert(0, sys.argv[1]); import bags; '
    'from pathlib import Path; from eva_ros.episodes.cache import Cache; '
    'Cache(Path(sys.argv[3]), bags.ROBOT, bags.view()).build(Path(sys.argv[2])); '
    'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)'
)


def view() -> ViewSpec:
    """Return the view of aloha_sim for cameras of any size."""
    found = load_view('aloha_sim')
    cameras = tuple(c.model_copy(update={'image_size': None}) for c in found.cameras)
    return found.model_copy(update={'cameras': cameras})


def pictures(rng: np.random.Generator, height: int = 480, width: int = 640) -> list[bytes]:
    """Return JPEG pictures (quality 90) with the detail and the noise of a camera's."""
    found = []
    for _ in range(_PICTURES):
        small = rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
        image = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
        flags = [cv2.IMWRITE_JPEG_QUALITY, 90]
        found.append(cv2.imencode('.jpg', image, flags)[1].tobytes())
    return found


def write_bag(path: Path, seconds: float, camera_hz: float, jpegs: list[bytes]) -> int:
    """Write a bag; returns how many pictures it holds."""
    writer = EpisodeBagWriter(path, ROBOT.name, {})
    names, home = ROBOT.to_joint_state(ROBOT.home)
    events: list[tuple[int, str]] = []
    for topic in (f'/{ROBOT.cameras[name].topic}' for name in view().camera_names):
        count = round(seconds * camera_hz)
        events += [(_START_NS + round(i / camera_hz * 1e9), topic) for i in range(count)]
    images = len(events)
    events += [(_START_NS + i * 10_000_000, '') for i in range(round(seconds * 100) + 20)]
    for number, (stamp_ns, topic) in enumerate(sorted(events)):
        if topic:
            writer.write_image(topic, stamp_ns, '', jpegs[number % len(jpegs)])
        else:
            values = home + 0.001 * (number % 7)
            writer.write_joint_state('/joint_states', stamp_ns, names, values, np.zeros(0))
    writer.close()
    return images


def bare(jpegs: list[bytes], count: int) -> None:
    """Decode a share of the pictures and resize what the view shows of them, nothing else."""
    cameras = view().cameras
    for number in range(count):
        data = np.frombuffer(jpegs[number % len(jpegs)], np.uint8)
        image, camera = cv2.imdecode(data, cv2.IMREAD_COLOR), cameras[number % len(cameras)]
        top, left, bottom, right = camera.crop_pixels(*image.shape[:2])
        size = (camera.box[3], camera.box[2])
        cv2.resize(image[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)


def run_bare(jpegs: list[bytes], count: int, workers: int) -> None:
    """Spread `bare` over processes, as the bags are."""
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        share = -(-count // (4 * workers))
        jobs = [pool.submit(bare, jpegs, share) for _ in range(4 * workers)]
        for job in jobs:
            job.result()


def run_ours(bags: list[Path], cache: Path, workers: int) -> int:
    """Make episodes of bags; returns the number of ticks."""
    shutil.rmtree(cache, ignore_errors=True)
    episodes = load_episodes(bags, ROBOT, view(), cache, workers, report=None)
    return sum(map(len, episodes))


def run_plain(bags: list[Path]) -> int:
    """Do what most people write: AnyReader, cv_bridge, nearest time stamps; returns the ticks."""
    from cv_bridge import CvBridge
    from rosbags.highlevel import AnyReader

    bridge, spec, ticks = CvBridge(), view(), 0
    for bag in bags:
        images: dict[str, list] = {}
        states: list[tuple[int, np.ndarray]] = []
        with AnyReader([bag]) as reader:
            for connection, _, raw in reader.messages():
                if 'Image' not in connection.msgtype and connection.msgtype != JOINT_STATE:
                    continue
                message = reader.deserialize(raw, connection.msgtype)
                stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
                if connection.msgtype == JOINT_STATE:
                    states.append((stamp_ns, np.array(message.position)))
                    continue
                image = bridge.compressed_imgmsg_to_cv2(message, 'rgb8')
                box = spec.cameras[len(images) % len(spec.cameras)].box
                picture = cv2.resize(image, (box[3], box[2]), interpolation=cv2.INTER_AREA)
                images.setdefault(connection.topic, []).append((stamp_ns, picture))
        first, last = next(iter(images.values()))[0][0], states[-1][0]
        for tick_ns in range(first, last, round(1e9 / spec.rate_hz)):
            for found in images.values():
                min(found, key=lambda entry: abs(entry[0] - tick_ns))
            min(states, key=lambda entry: abs(entry[0] - tick_ns))
            ticks += 1
    return ticks


def timed(act: Callable[[], object]) -> np.ndarray:
    """Return how long something takes, and the CPU time it needs in all its processes, s."""
    began, used = time.perf_counter(), _cpu_s()
    act()
    return np.array([time.perf_counter() - began, _cpu_s() - used])


def _cpu_s() -> float:
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(r.ru_utime + r.ru_stime for r in map(resource.getrusage, whose))


def say(name: str, ratios: list[np.ndarray], target: str, more: str = '') -> None:
    """Print a ratio of times and one of CPU times."""
    wall, cpu = np.array(ratios).T
    print(f'{name}: {np.median(wall):.2f} [{wall.min():.2f}, {wall.max():.2f}] (target {target}), '
          f'by CPU seconds {np.median(cpu):.2f}{more}', flush=True)  # fmt: skip


def speed(folder: Path, args: argparse.Namespace, jpegs: list[bytes], workers: int) -> None:
    """Compare with the bare limit, every picture being needed, and with the plain loop."""
    hz = view().rate_hz
    bags = [folder / f'even_{i}' for i in range(args.bags)]
    count = sum(write_bag(bag, args.seconds, hz, jpegs) for bag in bags)
    ratios, seconds = [], []
    for _ in range(args.repeats):
        limit = timed(lambda: run_bare(jpegs, count, workers))
        seconds.append(timed(lambda: run_ours(bags, folder / 'cache', workers)))
        ratios.append(limit / seconds[-1])
    rate = count / np.median([wall for wall, _ in seconds])
    say('bags to tensors, of the bare limit', ratios, '0.7', f', {rate:.0f} pictures a second')
    fast = [folder / f'fast_{i}' for i in range(max(6, args.bags // 2))]
    for bag in fast:
        write_bag(bag, args.seconds, 30.0, jpegs)
    ratios = []
    for _ in range(args.repeats):
        plain = timed(lambda: run_plain(fast))
        ratios.append(plain / timed(lambda: run_ours(fast, folder / 'fast_cache', workers)))
    say('times faster than the plain loop, cameras at 30 Hz', ratios, '3')


def memory(folder: Path, args: argparse.Namespace, jpegs: list[bytes]) -> None:
    """Compare the peak memory of reading a bag with that of a bag ten times longer."""
    peaks = []
    for factor in (1, 10):
        bag = folder / f'long_{factor}'
        write_bag(bag, args.seconds * factor, view().rate_hz, jpegs)
        command = [sys.executable, '-c', _PEAK, str(Path(__file__).parent), str(bag),
                   str(folder / 'memory_cache')]  # fmt: skip
        found = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
        peaks.append(int(found.stdout.split()[-1]))
        shutil.rmtree(bag)
    rise = peaks[1] / peaks[0] - 1
    print(f'peak memory for a bag ten times longer: {rise:+.1%} (target below +10 %), '
          f'{peaks[1] >> 10} MiB', flush=True)  # fmt: skip


def feeding(folder: Path, args: argparse.Namespace) -> None:
    """Compare the time of a training step with that of reading its batch from the cache."""
    from eva_ros.idm.checkpoint import load_idm
    from eva_ros.idm.train import Trainer
    from eva_ros.idm.train import TrainSettings
    from eva_ros.robot.paths import checkpoint_dir

    bags = sorted(path for path in folder.glob('even_*'))
    episodes = load_episodes(bags, ROBOT, view(), folder / 'cache', report=None)
    settings = TrainSettings(seed=args.seed, steps=1000)
    config = load_idm(checkpoint_dir() / 'idm').config
    trainer = Trainer(config, episodes, settings)
    trainer.run_step()
    ratios = []
    for number in range(args.repeats):
        step = timed(trainer.run_step)
        size = settings.batch_clips
        batch = timed(lambda first=50 * number, size=size: [
            trainer.sampler.batch(first + i, size) for i in range(10)])  # fmt: skip
        ratios.append(step / (batch / 10))
    say('training steps in the time of reading a batch', ratios, '20')


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--bags', type=int, default=8)
    parser.add_argument('--seconds', type=float, default=20.0, help='length of a bag')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    workers = os.cpu_count() or 1
    print(f'{args.bags} bags of {args.seconds:g} s on {workers} cores, {platform.machine()}, '
          f'seed {args.seed}, {args.repeats} repeats', flush=True)  # fmt: skip
    jpegs = pictures(np.random.default_rng(args.seed))
    with tempfile.TemporaryDirectory(prefix='eva_bench_') as name:
        folder = Path(name)
        speed(folder, args, jpegs, workers)
        memory(folder, args, jpegs)
        feeding(folder, args)


if __name__ == '__main__':
    main()
