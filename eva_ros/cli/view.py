"""`eva view`: make a view, the tiled image of all cameras that the models see."""

import argparse
from typing import TYPE_CHECKING

from eva_ros.cli import arguments
from eva_ros.errors import UserError

if TYPE_CHECKING:
    from eva_ros.observations.views import ViewSpec

HELP = "make a view: how the cameras are tiled into the models' input"

_HEAD = """\
# Made by `eva view init` for the cameras of {robot}.
# box: y, x, height, width in the view, pixels; multiples of {block}.
# crop: y0, x0, y1, x1, fractions of the camera's image. Narrow it to where the arms work, in the
#   proportions of the box.
# arms: the arms whose joints are read from this camera. A camera that shows one arm only is safer
#   for that arm: give only those that it shows well.
# Both models are trained for this view. If you change it, train them again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare init."""
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    init = actions.add_parser('init', help="write a view YAML with the robot's cameras")
    arguments.add_robot(init, view=False)
    init.add_argument('--out', type=arguments.new_file, required=True, help='YAML to write')
    init.add_argument('--cameras', nargs='+', metavar='NAME', default=(),
                      help='cameras to show, in this order (all)')  # fmt: skip
    init.add_argument('--height', type=arguments.count, default=96, metavar='PIXELS',
                      help='height of each picture in the view (%(default)s)')  # fmt: skip
    init.add_argument('--columns', type=arguments.count, metavar='N',
                      help='pictures side by side (all)')  # fmt: skip
    init.add_argument('--rate', type=arguments.rate_hz, default=10.0, metavar='HZ',
                      help='views per second (%(default)s)')  # fmt: skip
    init.add_argument('--frames', type=arguments.count, default=17,
                      help='views in a rollout, 1 + 4 k (%(default)s)')  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Write the view; return 0."""
    from eva_ros.observations.views import layout
    from eva_ros.observations.views import load_view
    from eva_ros.robot.spec import load_robot

    if args.out.exists():
        raise UserError(f'{args.out} is there already: name another file, or remove it.')
    robot = load_robot(args.robot)
    made = layout(
        robot,
        args.out.stem,
        cameras=args.cameras,
        height=args.height,
        columns=args.columns,
        rate_hz=args.rate,
        frames=args.frames,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(_text(made, robot.name), encoding='utf-8')
    view = load_view(str(args.out.resolve()))
    print(f'wrote {args.out}: {view.height}x{view.width} pixels, {", ".join(view.camera_names)}')
    return 0


def _text(view: 'ViewSpec', robot: str) -> str:
    from eva_ros.observations.views import BLOCK

    lines = [
        f'name: {view.name}',
        f'height: {view.height}',
        f'width: {view.width}',
        f'rate_hz: {view.rate_hz:g}',
        f'frames: {view.frames}',
        'cameras:',
    ]
    for camera in view.cameras:
        arms = f', arms: [{", ".join(camera.arms)}]' if camera.arms else ''
        lines += [
            f'  - {{name: {camera.name}, box: {list(camera.box)}, crop: {list(camera.crop)}, '
            f'image_size: {list(camera.image_size or ())}{arms}}}'
        ]
    return _HEAD.format(robot=robot, block=BLOCK) + '\n'.join(lines) + '\n'
