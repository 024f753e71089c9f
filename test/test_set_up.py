"""`make setup` honours the machine it is run on, and says in a sentence what it lacks."""

import importlib.util
import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def set_up(monkeypatch):
    """Return scripts/set_up.py as a module, in a shell without ROS."""
    monkeypatch.delenv('ROS_DISTRO', raising=False)
    monkeypatch.delenv('AMENT_PREFIX_PATH', raising=False)
    spec = importlib.util.spec_from_file_location('set_up', ROOT / 'scripts' / 'set_up.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'PYTHON', Path(sys.executable))
    return module


def test_a_python_that_is_not_supported_is_named(set_up, monkeypatch):
    monkeypatch.setattr(set_up.sys, 'version_info', (3, 13, 1))
    with pytest.raises(set_up.SetUpError, match=r'Python 3\.13\.1 is not supported'):
        set_up.check_python()


def test_missing_tools_are_named_with_the_command(set_up, monkeypatch):
    monkeypatch.setattr(set_up.os, 'geteuid', lambda: 1000)
    monkeypatch.setattr(set_up.shutil, 'which', lambda tool: None)
    with pytest.raises(set_up.SetUpError, match=r'sudo apt-get install -y g\+\+ make cmake'):
        set_up.install_system_packages()


def test_a_machine_that_cannot_render_is_told_and_set_up_all_the_same(set_up, monkeypatch, capsys):
    monkeypatch.setattr(set_up.os, 'geteuid', lambda: 1000)
    monkeypatch.setattr(set_up.ctypes.util, 'find_library', lambda name: None)
    set_up.install_system_packages()
    assert 'sudo apt-get install -y libegl1 libopengl0' in capsys.readouterr().err


def test_a_sourced_ros_is_used_instead_of_the_wheels(set_up, monkeypatch):
    without = set_up.locked()
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    monkeypatch.setenv('AMENT_PREFIX_PATH', '/opt/ros/jazzy')
    assert set_up.sourced_ros() == 'jazzy'
    dropped = {line.partition('==')[0] for line in set(without) - set(set_up.locked())}
    assert {'ros-jazzy-rclpy', 'cv-bridge', 'colcon-core'} <= dropped
    assert 'numpy' not in dropped
    assert 'AMENT_PREFIX_PATH' in set_up.build_environment()
    assert set_up.build_environment()['AMENT_PREFIX_PATH'] == '/opt/ros/jazzy'


def test_the_workspace_itself_is_not_taken_for_a_ros_distribution(set_up, monkeypatch):
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(set_up.VENV))
    assert set_up.sourced_ros() == ''


def test_pips_configuration_is_honoured(set_up, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith('PIP_')]:
        monkeypatch.delenv(name)
    config = tmp_path / 'pip.conf'
    config.write_text(
        '[global]\nfind-links = /a /b\nindex-url = https://index.invalid/simple\ncert = /c.pem\n'
    )
    monkeypatch.setenv('PIP_CONFIG_FILE', str(config))
    monkeypatch.delenv('SSL_CERT_FILE', raising=False)
    options = set_up.index_options()
    assert {'--find-links=/a', '--find-links=/b'} <= set(options)
    assert '--index-url=https://index.invalid/simple' in options
    assert set_up.uv_environment()['SSL_CERT_FILE'] == '/c.pem'


def test_a_cpu_build_of_torch_in_a_link_folder_comes_first(set_up, tmp_path):
    version = set_up.TORCH.search(set_up.LOCK.read_text())['version']
    (tmp_path / f'torch-{version}+cpu-py3-none-any.whl').write_bytes(_wheel(version))
    uv = [Path(sys.executable).parent / 'uv', 'pip', 'install', '--python', sys.executable]
    uv += ['--reinstall', f'--find-links={tmp_path}']
    # Whether or not an index can be reached.
    uv += ['--index-url=https://index.invalid/simple']
    assert set_up.torch_options(uv) == [f'torch=={version}+cpu']


def _wheel(version):
    """Return the bytes of an empty wheel of torch."""
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as wheel:
        folder = f'torch-{version}+cpu.dist-info'
        name = f'Name: torch\nVersion: {version}+cpu\n'
        wheel.writestr(f'{folder}/METADATA', f'Metadata-Version: 2.1\n{name}')
        tags = 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
        wheel.writestr(f'{folder}/WHEEL', tags)
        wheel.writestr(f'{folder}/RECORD', '')
    return buffer.getvalue()


@pytest.mark.parametrize(
    'elsewhere', ['/opt/python/cp311-cp311', '/home/someone/eva/.venv'], ids=['built', 'set up']
)
def test_include_folders_of_another_machine_are_replaced(set_up, monkeypatch, tmp_path, elsewhere):
    cmake = tmp_path / 'share' / 'some_msgs' / 'cmake' / 'export.cmake'
    cmake.parent.mkdir(parents=True)
    cmake.write_text(
        f'set(x "{elsewhere}/include/python3.11;'
        f'{elsewhere}/lib/python3.11/site-packages/numpy/_core/include;keep")'
    )
    before = cmake.read_text()
    # uv links the files of its cache into the virtual environment.
    cached = tmp_path / 'cache' / 'export.cmake'
    cached.parent.mkdir()
    cached.hardlink_to(cmake)
    monkeypatch.setattr(set_up, 'VENV', tmp_path)
    set_up.repair_exported_targets()
    text = cmake.read_text()
    folders = text.partition('"')[2].partition('"')[0].split(';')
    assert folders[-1] == 'keep'
    assert (Path(folders[0]) / 'Python.h').is_file()
    assert (Path(folders[1]) / 'numpy' / 'arrayobject.h').is_file()
    assert cached.read_text() == before
    # What is right already is left as it is.
    found = cmake.stat().st_ino
    set_up.repair_exported_targets()
    assert (cmake.read_text(), cmake.stat().st_ino) == (text, found)


def test_it_starts_with_nothing_but_the_standard_library(tmp_path):
    copy = tmp_path / 'scripts'
    copy.mkdir()
    shutil.copy(ROOT / 'scripts' / 'set_up.py', copy)
    command = [sys.executable, '-I', '-S', copy / 'set_up.py', '--help']
    assert subprocess.run(command, capture_output=True).returncode == 0
