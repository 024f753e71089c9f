"""Set up what eva_ros needs in .venv, once: `make setup`.

Needs Python 3.10 to 3.12 and nothing else. Installs missing system packages (as root, on Debian
and Ubuntu), creates the virtual environment, installs requirements/lock.txt, builds eva_msgs with
colcon and installs the `eva` command. Where a ROS distribution is sourced it is used; otherwise
ROS 2 Jazzy comes as wheels. A second call skips what is done.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable
from collections.abc import Iterable
import ctypes.util
import fcntl
import hashlib
import importlib.util
import os
from pathlib import Path
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / '.venv'
PYTHON = VENV / 'bin' / 'python'
STAMPS = VENV / '.eva'
LOCK = ROOT / 'requirements' / 'lock.txt'
ROS_WHEELS = re.compile(r'^(ros-|cv-bridge|colcon-)')
TORCH = re.compile(r'^torch==(?P<version>\S+)', re.MULTILINE)
# Whatever machine it was: a cache may hold files that another set-up has repaired in place.
BUILT_ELSEWHERE = {
    'numpy': re.compile(r'(?<=[;"])/[^;"]*/numpy/(_core|core)/include(?=[;"])'),
    'python': re.compile(r'(?<=[;"])/[^;"]*/include/python3\.\d+(?=[;"])'),
}


class SetUpError(Exception):
    """One sentence for the person at the keyboard."""


def say(text: str) -> None:
    """Print a line of progress on stderr."""
    print(f'setup: {text}', file=sys.stderr, flush=True)


def run(command: list, error: str, **options) -> None:
    """Run a command with its output on stderr.

    Raises:
        SetUpError: it failed; error is the sentence.
    """
    if subprocess.run(command, stdout=sys.stderr, **options).returncode != 0:
        raise SetUpError(f'{error} (the command was: {shlex.join(map(str, command))})')


def sourced_ros() -> str:
    """Return the name of the sourced ROS distribution, '' if there is none."""
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    others = [prefix for prefix in prefixes if prefix and Path(prefix) != VENV]
    return os.environ.get('ROS_DISTRO', '') if others else ''


# System packages


def missing_packages() -> dict[str, str]:
    """Return what this machine lacks: Debian package -> what fails without it."""
    missing = {}
    for tool in ('g++', 'make', 'cmake'):  # the packages are called the same
        if shutil.which(tool) is None:
            missing[tool] = 'building eva_msgs'
    if not (Path(sysconfig.get_path('include')) / 'Python.h').is_file():
        missing['python3-dev'] = 'building eva_msgs'
    if importlib.util.find_spec('ensurepip') is None:
        missing['python3-venv'] = 'creating .venv'
    if ctypes.util.find_library('EGL') is None:
        missing['libegl1'] = 'rendering the simulated robot'
    if not any(ctypes.util.find_library(name) for name in ('OpenGL', 'GL')):
        missing['libopengl0'] = 'rendering the simulated robot'
    if not has_gl_driver():
        missing['libgl1-mesa-dri'] = 'rendering the simulated robot'
    return missing


def has_gl_driver() -> bool:
    """Return whether EGL will find a renderer: Mesa's drivers, or those of a GPU's maker."""
    vendors = Path('/usr/share/glvnd/egl_vendor.d')
    if vendors.is_dir() and any('mesa' not in path.name for path in vendors.glob('*.json')):
        return True
    roots = (Path('/usr/lib'), Path('/usr/lib64'))
    patterns = ('*/dri/swrast_dri.so', 'dri/swrast_dri.so', '*/libgallium-*.so')
    return any(True for root in roots for pattern in patterns for _ in root.glob(pattern))


def install_system_packages() -> None:
    """Install what is missing as root, otherwise name it in one sentence."""
    missing = missing_packages()
    if not missing:
        return
    command = ['apt-get', 'install', '-y', '--no-install-recommends', *missing]
    if os.geteuid() == 0 and shutil.which('apt-get'):
        apt(command)
        missing = missing_packages()
    if missing:
        name_missing(missing)


def apt(command: list[str]) -> None:
    """Refresh the package lists and install."""
    say(f'installing {" ".join(command[4:])}')
    environment = {**os.environ, 'DEBIAN_FRONTEND': 'noninteractive'}
    for part in (['apt-get', 'update', '-qq'], [*command, '-qq']):
        subprocess.run(part, stdout=subprocess.DEVNULL, env=environment)


def name_missing(missing: dict[str, str]) -> None:
    """Say what is missing and how to install it; only rendering can do without.

    Raises:
        SetUpError: something that the set-up itself needs is missing.
    """
    purposes = ' and '.join(dict.fromkeys(missing.values()))
    sentence = (
        f'{purposes} needs {", ".join(missing)}, which this machine lacks: '
        f'sudo apt-get install -y {" ".join(missing)}'
    )
    if any('rendering' not in purpose for purpose in missing.values()):
        raise SetUpError(sentence)
    say(sentence)


# The virtual environment


def check_python() -> None:
    """Refuse a Python that the locked requirements were not resolved for."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        found = '.'.join(map(str, sys.version_info[:3]))
        raise SetUpError(
            f'Python {found} is not supported: eva_ros needs 3.10, 3.11 or 3.12; '
            'name one by `make setup PYTHON=python3.12`.'
        )


def create_venv() -> None:
    """Create .venv, unless a working one of this Python and this ROS is there."""
    if not venv_works():
        say(f'creating .venv with Python {sysconfig.get_python_version()}')
        options = ['--system-site-packages'] if sourced_ros() else []
        command = [sys.executable, '-m', 'venv', '--clear', *options, str(VENV)]
        run(command, '.venv could not be created')
    (VENV / 'COLCON_IGNORE').touch()


def venv_works() -> bool:
    """Return whether .venv exists and runs.

    Raises:
        SetUpError: it belongs to another Python or another ROS.
    """
    settings = VENV / 'pyvenv.cfg'
    if not settings.is_file():
        return False
    probe = [PYTHON, '-c', 'import pip, sysconfig; print(sysconfig.get_python_version())']
    found = subprocess.run(probe, capture_output=True, text=True)
    if found.returncode != 0:
        return False
    system_packages = 'include-system-site-packages = true' in settings.read_text()
    if found.stdout.strip() != sysconfig.get_python_version() or (
        system_packages != bool(sourced_ros())
    ):
        ros = 'a sourced ROS distribution' if system_packages else 'ROS from wheels'
        raise SetUpError(
            f'{VENV} was made with Python {found.stdout.strip()} and {ros}, unlike this shell: '
            'use the same again, or remove that folder to start over.'
        )
    return True


# Python packages


def pip_settings() -> dict[str, list[str]]:
    """Return what pip is configured to, by files and by the environment: option -> values."""
    command = [PYTHON, '-m', 'pip', 'config', 'list']
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    found = {}
    for line in lines:  # the later, the stronger: system, user, environment
        key, _, value = line.partition('=')
        found[key.rpartition('.')[2]] = ast.literal_eval(value).split()
    return found


def index_options() -> list[str]:
    """Return pip's configured indexes and link folders as options of uv.

    uv reads UV_FIND_LINKS, UV_INDEX_URL and the like itself, but not pip's configuration.
    """
    settings = pip_settings()
    names = ('find-links', 'index-url', 'extra-index-url')
    options = [f'--{name}={value}' for name in names for value in settings.get(name, [])]
    if 'extra-index-url' in settings:
        options.append('--index-strategy=unsafe-best-match')  # what pip itself does
    return options


def uv_environment() -> dict[str, str]:
    """Return an environment in which uv trusts the certificates that pip is told to trust."""
    certificates = pip_settings().get('cert', [])
    return {**({'SSL_CERT_FILE': certificates[0]} if certificates else {}), **os.environ}


def locked() -> list[str]:
    """Return the lines of the lock that this machine installs, torch excepted."""
    lines = LOCK.read_text(encoding='utf-8').splitlines()
    if sourced_ros():
        lines = [line for line in lines if not ROS_WHEELS.match(line)]
    return [line for line in lines if not line.startswith(('#', 'torch=='))]


def torch_options(uv: list) -> list[str]:
    """Return the options that bring the torch this machine should have.

    A CPU build in a link folder comes first, then one in a configured index; then the build that
    fits the machine's GPU, or the CPU build, from PyTorch's own index (UV_TORCH_BACKEND
    overrides); then the registry's default build, several gigabytes with its CUDA libraries.
    """
    version = TORCH.search(LOCK.read_text(encoding='utf-8'))['version']
    cpu = f'torch=={version}+cpu'
    backend = f'--torch-backend={os.environ.get("UV_TORCH_BACKEND", "auto")}'
    for options in (['--no-index', cpu], [cpu], [backend, f'torch=={version}']):
        dry_run = [*uv, '--dry-run', '--no-deps', *options]
        if subprocess.run(dry_run, capture_output=True, env=uv_environment()).returncode == 0:
            return [option for option in options if option != '--no-index']
    say("no CPU build of torch was found: taking the registry's default build, which is large")
    return [f'torch=={version}']


def install_requirements() -> None:
    """Install the lock into .venv by uv."""
    pin = next(line for line in LOCK.read_text().splitlines() if line.startswith('uv=='))
    # A uv of the sourced ROS' Python would not do: .venv has its own.
    command = [PYTHON, '-m', 'pip', 'install', '--quiet', '--ignore-installed', pin]
    run(command, 'uv could not be installed', env={**os.environ, 'PYTHONPATH': ''})
    uv = [VENV / 'bin' / 'uv', 'pip', 'install', '--python', PYTHON, *index_options()]
    chosen = STAMPS / 'requirements.txt'
    STAMPS.mkdir(exist_ok=True)
    chosen.write_text('\n'.join(locked()) + '\n', encoding='utf-8')
    torch = torch_options(uv)
    say(f'installing {len(locked())} locked packages and {torch[-1]}')
    command = [*uv, '--quiet', '-r', chosen, *torch]
    run(command, 'the locked requirements could not be installed', env=uv_environment())


# ROS messages


def build_messages() -> None:
    """Build eva_msgs by colcon into .venv."""
    if not sourced_ros():
        repair_exported_targets()
    say('building eva_msgs')
    shutil.rmtree(STAMPS / 'build', ignore_errors=True)
    command = [
        'colcon', '--log-base', STAMPS / 'log', 'build', '--base-paths', ROOT / 'eva_msgs',
        '--packages-select', 'eva_msgs', '--build-base', STAMPS / 'build',
        '--merge-install', '--install-base', VENV,
        '--event-handlers', 'console_start_end-', 'summary-',
        '--cmake-args', f'-DPython3_EXECUTABLE={PYTHON}', '-DBUILD_TESTING=OFF',
    ]  # fmt: skip
    run(command, 'eva_msgs could not be built', env=build_environment(), cwd=STAMPS)
    check = [PYTHON, '-c', 'import rclpy, eva_msgs.msg, eva_msgs.action']
    run(check, 'eva_msgs was built but cannot be imported', env=message_environment())


def build_environment() -> dict[str, str]:
    """Return the environment colcon runs in: the sourced ROS, or .venv as the ROS prefix."""
    environment = {**os.environ, 'VIRTUAL_ENV': str(VENV)}
    environment['PATH'] = f'{VENV / "bin"}{os.pathsep}{environment["PATH"]}'
    # colcon's own choice waits for the load to fall, which on a busy machine it may never do.
    environment['MAKEFLAGS'] = f'-j{os.cpu_count() or 1}'
    # Settings of a workspace around this one are not for this build.
    environment['COLCON_DEFAULTS_FILE'] = os.devnull
    if not sourced_ros():
        environment.update(AMENT_PREFIX_PATH=str(VENV), CMAKE_PREFIX_PATH=str(VENV))
    return environment


def message_environment() -> dict[str, str]:
    """Return an environment in which eva_msgs is found, as after `source .venv/local_setup.sh`."""
    libraries = [str(VENV / 'lib'), os.environ.get('LD_LIBRARY_PATH', '')]
    return {**os.environ, 'LD_LIBRARY_PATH': os.pathsep.join(filter(None, libraries))}


def repair_exported_targets() -> None:
    """Replace include folders of the machine that built the wheels, inside .venv only."""
    probe = 'import numpy, sysconfig; print(numpy.get_include(), sysconfig.get_path("include"))'
    answer = subprocess.run([PYTHON, '-c', probe], capture_output=True, text=True, check=True)
    numpy_include, python_include = answer.stdout.split()
    for path in (VENV / 'share').glob('*/cmake/*.cmake'):
        text = path.read_text(encoding='utf-8')
        repaired = BUILT_ELSEWHERE['numpy'].sub(numpy_include, text)
        repaired = BUILT_ELSEWHERE['python'].sub(python_include, repaired)
        if repaired != text:
            path.unlink()  # a hard link into uv's cache: what lies there is not ours to change
            path.write_text(repaired, encoding='utf-8')


def install_eva() -> None:
    """Install this package into .venv so that its sources are used in place."""
    say('installing the eva command')
    options = ['--quiet', '--no-deps', '--no-build-isolation', '--editable']
    command = [VENV / 'bin' / 'uv', 'pip', 'install', '--python', PYTHON, *options, ROOT]
    run(command, 'the eva command could not be installed')


# Doing each once


def fingerprint(files: Iterable[Path], *texts: str) -> str:
    """Return a digest of the files' contents and some texts."""
    digest = hashlib.sha256('\0'.join([str(VENV), *texts]).encode())
    for path in sorted(files):
        digest.update(path.name.encode() + b'\0' + path.read_bytes())
    return digest.hexdigest()


def steps() -> list[tuple[str, str, Callable[[], None]]]:
    """Return (name, digest of what it depends on, function) of each step, in order."""
    machine = f'{sysconfig.get_config_var("SOABI")} {sourced_ros()}'
    messages = [path for path in (ROOT / 'eva_msgs').rglob('*') if path.is_file()]
    package = [ROOT / 'setup.py', ROOT / 'setup.cfg', ROOT / 'package.xml']
    return [
        ('system', fingerprint([], machine), install_system_packages),
        ('venv', fingerprint([], machine), create_venv),
        ('requirements', fingerprint([LOCK], machine), install_requirements),
        ('messages', fingerprint([*messages, LOCK], machine), build_messages),
        ('eva', fingerprint(package, machine), install_eva),
    ]


def set_up() -> None:
    """Do every step that has not been done, or whose inputs have changed since."""
    check_python()
    started = time.monotonic()
    did = []
    for name, digest, function in steps():
        stamp = STAMPS / f'{name}.stamp'
        if stamp.is_file() and stamp.read_text() == digest:
            continue
        function()
        did.append((stamp, digest))
        if VENV.is_dir():
            STAMPS.mkdir(exist_ok=True)
            for done, its_digest in did:
                done.write_text(its_digest)
    if did:
        say(f'done in {time.monotonic() - started:.0f} s')


def main() -> int:
    """Set up under a lock, so that two calls at once do not disturb each other."""
    about = __doc__.partition('\n')[0]
    argparse.ArgumentParser(description=about, allow_abbrev=False).parse_args()
    with (ROOT / '.venv.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            set_up()
        except SetUpError as error:
            print(f'setup: {error}', file=sys.stderr)
            return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
