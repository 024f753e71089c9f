"""Export recorded bags, open the data set with lerobot itself, and compare it with the bags.

    python scripts/check_lerobot_export.py BAGS... --folder FOLDER [--robot ROBOT] [--view VIEW]

lerobot goes into a virtual environment of its own, FOLDER/venv (about 6 GB where no CPU build of
torch is found), because its requirements are not those of this package; a second call uses it
again. FOLDER/dataset is written anew. Prints what was found; exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import shutil
import subprocess
import sys

import numpy as np
from numpy.typing import NDArray
from set_up import index_options
from set_up import uv_environment

from eva_ros.cli.main import main as eva
from eva_ros.episodes.dataset import Episode
from eva_ros.episodes.dataset import load_episodes
from eva_ros.observations.views import view_of
from eva_ros.observations.views import ViewSpec
from eva_ros.robot.spec import load_robot
from eva_ros.robot.spec import Robot

LEROBOT = 'lerobot==0.4.4'
# H.264 at quality 18, and colours at half the resolution: grey levels, on average; less than what
# the pictures before and after differ by.
PICTURE_ERROR = 3.0
# What lerobot adds to what the data set's rows hold.
_OF_LEROBOT = {'task'}
_ROWS = {'timestamp', 'frame_index', 'episode_index', 'index', 'task_index'}

# Runs in lerobot's environment: what its own class reads, as a file of arrays.
READ = """
import json, sys
from importlib.metadata import version
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

data = LeRobotDataset('local/export', root=sys.argv[1], video_backend='pyav')
rows = [data[index] for index in range(len(data))]
cameras = data.meta.camera_keys
arrays = {key: np.stack([row[key].numpy() for row in rows])
          for key in ('observation.state', 'action', 'timestamp', 'episode_index')}
for key in cameras:
    arrays[key] = np.stack([np.rint(row[key].numpy() * 255).astype(np.uint8) for row in rows])
names = ('lerobot', 'torch', 'datasets', 'av', 'numpy')
about = {
    'versions': {name: version(name) for name in names},
    'frames': data.num_frames, 'episodes': data.num_episodes, 'fps': data.fps,
    'keys': sorted(rows[0]), 'names': data.meta.features['observation.state']['names'],
    'tasks': [rows[index]['task'] for index in
              np.unique(arrays['episode_index'], return_index=True)[1]],
}
np.savez(sys.argv[2], about=json.dumps(about), **arrays)
"""


def install(folder: Path) -> Path:
    """Return the Python of an environment with lerobot, which is made where there is none."""
    python = folder / 'venv' / 'bin' / 'python'
    uv = [sys.executable, '-m', 'uv']
    if not python.exists():
        subprocess.run([*uv, 'venv', '--python', sys.executable, folder / 'venv'], check=True)
    command = [*uv, 'pip', 'install', '--quiet', '--python', python, *index_options(), LEROBOT]
    # From PyTorch's own index where it can be reached; the default build has CUDA libraries.
    for options in (['--torch-backend=cpu'], []):
        if not subprocess.run([*command, *options], env=uv_environment()).returncode:
            return python
        print(f'{LEROBOT} could not be installed with {options}', file=sys.stderr)
    raise SystemExit(f'{LEROBOT} could not be installed.')


def read_with_lerobot(python: Path, dataset: Path, arrays: Path) -> tuple[dict, dict]:
    """Return what lerobot says about a data set, and the arrays in it."""
    subprocess.run([python, '-W', 'ignore', '-c', READ, dataset, arrays], check=True)
    with np.load(arrays) as found:
        held = {key: found[key] for key in found.files if key != 'about'}
        return json.loads(str(found['about'])), held


def compare(about: dict, held: dict, wanted: list[Episode], robot: Robot, view: ViewSpec) -> dict:
    """Return what was compared: a sentence each, and whether the two agree."""
    frames = sum(map(len, wanted))
    states = np.concatenate([episode.joints for episode in wanted])
    actions = np.concatenate([[*e.joints[1:], e.joints[-1]] for e in wanted])
    cameras = {f'observation.images.{name}' for name in view.camera_names}
    keys = {'observation.state', 'action', *cameras} | _ROWS
    lengths = np.bincount(held['episode_index']).tolist()
    stamps = np.concatenate([np.arange(len(e)) / view.rate_hz for e in wanted])
    found = {
        f'{about["frames"]} frames, {frames} in the bags': about['frames'] == frames,
        f'{about["episodes"]} episodes of {lengths} frames': lengths == [len(e) for e in wanted],
        f'keys: {", ".join(about["keys"])}': set(about['keys']) - _OF_LEROBOT == keys,
        "joint names are the robot's": about['names'] == list(robot.joint_names),
        'tasks are the instructions': about['tasks'] == [e.instruction or e.task for e in wanted],
        f'{about["fps"]} frames a second, even': bool(np.allclose(held['timestamp'], stamps)),
        'states are the joints as 32-bit numbers': same(held['observation.state'], states),
        'actions are the joints one frame later': same(held['action'], actions),
    }
    for name in view.camera_names:
        pictures = np.concatenate([view.untile(e.frames)[name] for e in wanted])
        seen = held[f'observation.images.{name}'].transpose(0, 2, 3, 1)
        error = distance(seen, pictures)
        other = min(distance(seen[:-1], pictures[1:]), distance(seen[1:], pictures[:-1]))
        said = f"pictures of '{name}' differ by {error:.2f} of 255, its neighbours by {other:.2f}"
        found[said] = error < min(PICTURE_ERROR, other)
    return found


def same(got: NDArray, wanted: NDArray) -> bool:
    """Return whether numbers are those that were written, to the last bit."""
    return bool(np.array_equal(got, wanted.astype(np.float32)))


def distance(got: NDArray, wanted: NDArray) -> float:
    """Return how far pictures are apart on average, grey levels."""
    return float(np.abs(got.astype(int) - wanted).mean())


def main() -> int:
    """Export, open, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('bags', nargs='+')
    parser.add_argument('--folder', type=Path, required=True, help='of lerobot and the data set')
    parser.add_argument('--robot', default='aloha_sim', help='robot YAML (aloha_sim)')
    parser.add_argument('--view', help="view YAML (the robot's)")
    args = parser.parse_args()
    robot = load_robot(args.robot)
    view = view_of(robot, args.view)
    python = install(args.folder)
    dataset, cache = args.folder / 'dataset', args.folder / 'cache'
    shutil.rmtree(dataset, ignore_errors=True)
    shown = ['--robot', args.robot, *(['--view', args.view] if args.view else [])]
    places = ['--out', str(dataset), '--cache', str(cache)]
    if eva(['bags', 'export', *args.bags, *shown, *places]):
        return 1
    wanted = [e for e in load_episodes(args.bags, robot, view, cache, report=None)
              if e.success is not False]  # fmt: skip
    about, held = read_with_lerobot(python, dataset, args.folder / 'read.npz')
    print(', '.join(f'{name} {number}' for name, number in about['versions'].items()))
    found = compare(about, held, wanted, robot, view)
    for said, agrees in found.items():
        print(f'{"same" if agrees else "DIFFERS"}: {said}')
    return 0 if all(found.values()) else 1


if __name__ == '__main__':
    sys.exit(main())
