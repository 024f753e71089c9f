"""What ships is whole: manifests, interfaces and installed files agree with the sources."""

import ast
import importlib
import json
import os
from pathlib import Path
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
MESSAGES = ROOT / 'eva_msgs'
TEXTS = ROOT / 'eva_ros' / 'recordings' / 'eva_msgs_texts'
# Python module -> key in package.xml, where they differ.
KEYS = {'yaml': 'python3-yaml', 'cv2': 'python3-opencv'}
ROS_MODULE = re.compile(
    r'^(rclpy|ament_index_python|launch|launch_ros|cv_bridge|\w+_msgs|\w+_interfaces|std_srvs)$'
)


def manifest(folder):
    return ElementTree.parse(folder / 'package.xml').getroot()


def dependencies(folder):
    tags = ('depend', 'exec_depend', 'build_depend', 'test_depend')
    return {node.text for node in manifest(folder) if node.tag in tags}


def interfaces(folder):
    paths = [*folder.glob('msg/*.msg'), *folder.glob('srv/*.srv'), *folder.glob('action/*.action')]
    return {str(path.relative_to(folder)) for path in paths}


def tracked(*folders):
    """Return the files that git knows below some folders, [] outside a checkout."""
    command = ['git', 'ls-files', '-z', '--', *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    return [path for path in listed.split('\0') if path and (ROOT / path).is_file()]


def imported_modules(folder):
    """Return the top-level modules that the sources below a folder import anywhere."""
    found = set()
    for path in folder.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition('.')[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition('.')[0])
    return found


def launched_nodes():
    """Return (package, executable) of every node that a launch file names."""
    text = '\n'.join(path.read_text() for path in (ROOT / 'launch').glob('*.launch.py'))
    return set(re.findall(r"package='(\w+)',\s*executable='(\w+)'", text))


@pytest.fixture(scope='module')
def setup_arguments():
    """Return what setup.py passes to setuptools."""
    program = (
        'import json, runpy, setuptools; '
        'setuptools.setup = lambda **arguments: print(json.dumps(arguments)); '
        "runpy.run_path('setup.py')"
    )
    command = [sys.executable, '-c', program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def test_both_manifests_agree():
    ours, messages = manifest(ROOT), manifest(MESSAGES)
    assert (ours.findtext('name'), messages.findtext('name')) == ('eva_ros', 'eva_msgs')
    for tag in ('version', 'license', 'maintainer'):
        assert ours.findtext(tag) == messages.findtext(tag)
    assert 'eva_msgs' in dependencies(ROOT)


@pytest.mark.parametrize('folder', [ROOT, MESSAGES], ids=['eva_ros', 'eva_msgs'])
def test_a_release_can_be_made_of_the_manifest_and_the_changelog(folder):
    from catkin_pkg.changelog import Changelog
    from catkin_pkg.changelog import populate_changelog_from_rst
    from catkin_pkg.package import parse_package
    from catkin_pkg.package_version import get_forthcoming_label
    from catkin_pkg.package_version import rename_section

    warnings = []
    package = parse_package(folder / 'package.xml', warnings=warnings)
    assert warnings == []
    assert {url.type for url in package.urls} == {'website', 'repository', 'bugtracker'}
    text = (folder / 'CHANGELOG.rst').read_text(encoding='utf-8')
    assert f'Changelog for package {package.name}\n' in text
    # What bloom and catkin_prepare_release do: the section of what is to come gets its version.
    label = get_forthcoming_label(text)
    assert label == 'Forthcoming'
    released = rename_section(text, label, f'{package.version} (2026-11-30)')
    log = populate_changelog_from_rst(Changelog(package.name), released)
    ((version, _, content),) = log.foreach_version()
    assert version == package.version
    assert len(content[0].bullets) > 0


def test_the_quality_declaration_claims_no_more_than_the_sources_show():
    declaration = (ROOT / 'QUALITY_DECLARATION.md').read_text(encoding='utf-8')
    (level,) = re.findall(r'claim \*\*Quality Level (\d)\*\*', declaration)
    sources = [path for path in tracked('eva_ros', 'launch') if path.endswith('.py')]
    told = [path for path in sources if 'copyright' in (ROOT / path).read_text().lower()]
    # Level 4 wants a copyright statement in each source file, level 3 a stable version too.
    assert int(level) == (4 if sources and told == sources else 5)
    assert manifest(ROOT).findtext('version').startswith('0.')
    assert 'QUALITY_DECLARATION.md' in (ROOT / 'README.md').read_text(encoding='utf-8')


def test_every_interface_is_built():
    listed = re.findall(
        r'"((?:msg|srv|action)/\w+\.\w+)"', (MESSAGES / 'CMakeLists.txt').read_text()
    )
    assert sorted(listed) == sorted(interfaces(MESSAGES))


def test_the_packaged_texts_equal_the_interfaces():
    assert interfaces(TEXTS) == interfaces(MESSAGES)
    for name in interfaces(MESSAGES):
        assert (TEXTS / name).read_bytes() == (MESSAGES / name).read_bytes(), 'run `make msgs`'


def test_every_message_package_used_by_an_interface_is_a_dependency():
    used = set()
    for name in interfaces(MESSAGES):
        used.update(re.findall(r'^(\w+)/\w+', (MESSAGES / name).read_text(), re.MULTILINE))
    assert used <= dependencies(MESSAGES)
    cmake = (MESSAGES / 'CMakeLists.txt').read_text()
    assert all(f'find_package({package} REQUIRED)' in cmake for package in used)


def test_every_ros_package_that_is_imported_is_a_dependency():
    imported = imported_modules(ROOT / 'eva_ros') | imported_modules(ROOT / 'launch')
    ros = {module for module in imported if ROS_MODULE.match(module)}
    # Without it rviz ends when it is to show a camera.
    assert ros | {'compressed_image_transport'} <= dependencies(ROOT)


def test_every_python_package_that_is_imported_is_required(setup_arguments):
    names = {
        'yaml': 'pyyaml',
        'PIL': 'pillow',
        'cv2': 'opencv-python-headless',
        'pinocchio': 'pin',
    }
    names.update(hppfcl='hpp-fcl', gym_aloha='gym-aloha', backports='backports.zstd')
    required = setup_arguments['install_requires'] + setup_arguments['extras_require']['train']
    known = {re.match(r'[\w.-]+', line)[0].lower() for line in required}
    imported = imported_modules(ROOT / 'eva_ros') - set(sys.stdlib_module_names) - {'eva_ros'}
    # coal is what hpp-fcl is called where ROS brings it; compression is Python's own from 3.14 on.
    imported -= {'coal', 'compression'}
    ours = {module for module in imported if not ROS_MODULE.match(module)}
    assert {names.get(module, module) for module in ours} - known == set()


def test_every_shared_file_is_installed(setup_arguments):
    installed = {path for _, files in setup_arguments['data_files'] for path in files}
    assert set(tracked('launch', 'config', 'models')) <= installed
    targets = dict(setup_arguments['data_files'])
    assert 'package.xml' in targets['share/eva_ros']
    index = targets['share/ament_index/resource_index/packages']
    assert index == ['resource/eva_ros']
    assert (ROOT / index[0]).is_file()


def test_every_file_of_the_package_is_installed(setup_arguments):
    data = {f'eva_ros/{path}' for path in setup_arguments['package_data']['eva_ros']}
    for path in tracked('eva_ros'):
        if path.endswith('.py'):
            assert str(Path(path).parent).replace('/', '.') in setup_arguments['packages']
        else:
            assert path in data


def test_every_node_is_an_executable(setup_arguments):
    scripts = dict(
        line.split(' = ') for line in setup_arguments['entry_points']['console_scripts']
    )
    assert scripts.pop('eva') == 'eva_ros.cli.main:main'
    for name, target in scripts.items():
        assert target == 'eva_ros.nodes.__main__:main'
        assert callable(importlib.import_module(f'eva_ros.nodes.{name}').main)
    for package, executable in launched_nodes():
        assert package != 'eva_ros' or executable in scripts


def test_every_package_that_is_launched_is_a_dependency():
    assert {package for package, _ in launched_nodes()} <= dependencies(ROOT) | {'eva_ros'}


def test_colcon_finds_both_packages(tmp_path):
    command = [Path(sys.executable).parent / 'colcon', '--log-base', tmp_path, 'list']
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = {line.split('\t')[0]: line.split('\t')[-1] for line in listed.splitlines()}
    assert found == {'eva_msgs': '(ros.ament_cmake)', 'eva_ros': '(ros.ament_python)'}


def test_the_lock_names_no_host_and_no_path():
    for line in (ROOT / 'requirements' / 'lock.txt').read_text().splitlines()[1:]:
        assert re.fullmatch(r"[A-Za-z0-9_.\[\]-]+==[\w.+!-]+( ; [\w<>=!.*'() ]+)?", line), line


def test_the_lock_meets_every_requirement():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pinned = {}
    for line in (ROOT / 'requirements' / 'lock.txt').read_text().splitlines()[1:]:
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate():
            pinned[canonicalize_name(pin.name)] = next(iter(pin.specifier)).version
    for path in (ROOT / 'requirements').glob('*.in'):
        for line in path.read_text().splitlines():
            if not line or line.startswith(('#', '-r')):
                continue
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate():
                assert pinned[canonicalize_name(wanted.name)] in wanted.specifier, line


def test_a_second_set_up_does_nothing():
    if not (ROOT / '.venv' / '.eva' / 'messages.stamp').is_file():
        pytest.skip('this checkout was not set up by `make setup`')
    command = [sys.executable, 'scripts/set_up.py']
    subprocess.run(command, cwd=ROOT, check=True)
    # Not even apt-get or colcon could be found.
    environment = {**os.environ, 'PATH': ''}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert (result.returncode, result.stderr) == (0, '')


def test_colcon_installs_what_ros2_run_and_ros2_launch_look_for(tmp_path, setup_arguments):
    colcon = Path(sys.executable).parent / 'colcon'
    options = ['--build-base', tmp_path / 'build', '--install-base', tmp_path / 'install']
    command = [colcon, '--log-base', tmp_path / 'log', 'build', '--packages-select', 'eva_ros']
    environment = {**os.environ, 'AMENT_PREFIX_PATH': sys.prefix, 'CMAKE_PREFIX_PATH': sys.prefix}
    built = subprocess.run(
        [*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    prefix = tmp_path / 'install' / 'eva_ros'
    for line in setup_arguments['entry_points']['console_scripts']:
        assert os.access(prefix / 'lib' / 'eva_ros' / line.partition(' ')[0], os.X_OK)
    assert (prefix / 'share/ament_index/resource_index/packages/eva_ros').is_file()
    for path in tracked('launch', 'config', 'models'):
        assert (prefix / 'share' / 'eva_ros' / path).is_file()
    (package,) = prefix.glob('**/eva_ros/errors.py')
    program = 'from eva_ros.resources import share_folder; print(share_folder())'
    environment['PYTHONPATH'] = str(package.parents[1])
    command = [sys.executable, '-c', program]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.stdout.strip() == str(prefix / 'share' / 'eva_ros'), found.stderr
