"""Install eva_ros: by colcon as an ament_python package, by pip without any ROS."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages
from setuptools import setup

NAME = 'eva_ros'
ROOT = Path(__file__).resolve().parent
MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()
SHARED_FOLDERS = ('launch', 'config', 'models')
CODE = ('.py', '.pyc')


def manifest_text(tag):
    """Return the text of a tag of package.xml on one line."""
    return ' '.join(MANIFEST.findtext(tag).split())


def requirements(name):
    """Return the requirements of requirements/<name>.in, without its comments."""
    lines = (ROOT / 'requirements' / f'{name}.in').read_text(encoding='utf-8').splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith('#')]


def package_files():
    """Return every file inside the package that is not code, e.g. the texts of eva_msgs."""
    package = ROOT / NAME
    paths = (path for path in sorted(package.rglob('*')) if path.is_file())
    return [str(path.relative_to(package)) for path in paths if path.suffix not in CODE]


def shared_files():
    """Return (target folder, files) for every folder that belongs below share/eva_ros."""
    folders = {}
    for top in SHARED_FOLDERS:
        for path in sorted((ROOT / top).rglob('*')):
            if path.is_file() and '__pycache__' not in path.parts:
                relative = path.relative_to(ROOT)
                folders.setdefault(f'share/{NAME}/{relative.parent}', []).append(str(relative))
    return sorted(folders.items())


def node_executables():
    """Return a console script for each module or package in eva_ros/nodes that has a main."""
    nodes = ROOT / NAME / 'nodes'
    files = {path.stem: path for path in nodes.glob('[!_]*.py')}
    files |= {path.parent.name: path for path in nodes.glob('*/node.py')}
    text = {name: path.read_text(encoding='utf-8') for name, path in sorted(files.items())}
    names = [name for name in text if '\ndef main(' in text[name]]
    return [f'{name} = {NAME}.nodes.__main__:main' for name in names]


setup(
    name=NAME,
    version=manifest_text('version'),
    description=manifest_text('description'),
    license='Apache-2.0',
    maintainer=manifest_text('maintainer'),
    maintainer_email=MANIFEST.find('maintainer').get('email'),
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: package_files()},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        *shared_files(),
    ],
    python_requires='>=3.10',
    install_requires=requirements('core'),
    extras_require={
        'sim': requirements('sim'),
        'train': requirements('train') + requirements('sim'),
    },
    zip_safe=False,
    entry_points={'console_scripts': ['eva = eva_ros.cli.main:main', *node_executables()]},
)
