"""The simulated robot as a robot's drivers would show themselves: topics, and no privileges.

Physics runs in a thread of its own, paced to real time; commands and resets are handed to it.
The judge's word goes out on `episode`, as an operator's would.
"""

from collections.abc import Callable
import queue
import threading
import time
from typing import Any

from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from eva_msgs.msg import Episode
from eva_ros.errors import UserError
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.parameters import MAX_SEED
from eva_ros.ros.parameters import Param
from eva_ros.ros.run import run
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_time
from eva_ros.ros.trajectories import received_points
from eva_ros.sim import robot as sim
from eva_ros.sim.scenes import parse_scenes
from eva_ros.sim.tasks import draw_scene
from eva_ros.sim.tasks import EXPLORE
from eva_ros.sim.tasks import find_task
from eva_ros.sim.tasks import Scene
from eva_ros.sim.tasks import TASKS

# A multiple of the physics step, and the period of the joint states and of /clock.
_SLICE_S = 0.01
_SLICE_NS = round(_SLICE_S * 1e9)
# Further behind than this, time is given up rather than caught up.
_LARGEST_LAG_NS = 250_000_000
# The same in simulated time, where this node gives it: a message that is on its way during a burst
# arrives that much too late, and the gate waits 0.2 s for an arm to begin.
_LARGEST_BURST_NS = 80_000_000
_LONGEST_WAIT_S = 0.05


class SimRobotNode(EvaNode):
    """The node `sim_robot`."""

    PARAMS = (
        Param(
            'task',
            'reach_left',
            'Task whose scene ~/reset draws.',
            live=True,
            constraint=f'Must be one of {", ".join((*TASKS, EXPLORE.name))}.',
        ),
        Param('seed', 0, 'Seed of that scene.', low=0, high=MAX_SEED, live=True),
        Param(
            'scenes',
            'clean',
            'Scenes that ~/reset draws: clean, randomised or randomised:LEVEL, LEVEL up to 1.',
            live=True,
        ),
        Param(
            'real_time_factor',
            1.0,
            'Seconds of simulated time in a second; less where this machine is too slow.',
            low=0.01,
            high=100.0,
            live=True,
        ),
        Param(
            'publish_clock',
            True,
            'Publish /clock; if false, keep pace with the ROS time and stamp by it.',
        ),
        Param('image_height', 240, 'Height of the camera images in pixels.', low=16, high=1080),
        Param('image_width', 320, 'Width of the camera images in pixels.', low=16, high=1920),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(topics.SIM_ROBOT, **options)

    def _setup(self) -> None:
        if not self.robot.simulated:
            raise UserError(f"Robot '{self.robot.name}' is not a simulated one: choose another.")
        find_task(self.param('task'))
        parse_scenes(self.param('scenes'))
        self._gives_time = self.param('publish_clock')
        self._offset_ns = 0
        if self._gives_time:
            self.watch_clock()
        self._speak()
        self._todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._index = -1
        self._thread: threading.Thread | None = None
        for name, arm in self.robot.arms.items():
            self.listen_to(
                JointTrajectory, arm.controller.topic, self._listener(name), qos.COMMAND
            )
        self.offer(topics.RESET, self._reset)

    def _speak(self) -> None:
        if self._gives_time:
            self._time = self.publish_on(Clock, topics.CLOCK, qos.CLOCK)
        self._joints = self.publish_on(
            JointState, self.robot.joint_state_topics[0], qos.SENSOR_OUTPUT
        )
        self._episode = self.publish_on(Episode, topics.EPISODE, qos.LATCHED)
        self._cameras = {
            name: self.publish_on(CompressedImage, camera.topic, qos.SENSOR_OUTPUT)
            for name, camera in self.robot.cameras.items()
        }

    def _start(self) -> None:
        ready: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._stopping.clear()
        self._thread = threading.Thread(
            target=self._live, args=(ready,), name='physics', daemon=True
        )
        self._thread.start()
        failure = ready.get()
        if failure is not None:
            raise failure

    def _stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def on_parameter(self, name: str, value: Any) -> None:
        """Take what the next reset draws; the pace changes at once."""
        if name == 'task':
            find_task(value)
        if name == 'scenes':
            parse_scenes(value)

    # In the executor's thread.

    def _listener(self, arm: str) -> Callable[[JointTrajectory], None]:
        def on_trajectory(message: JointTrajectory) -> None:
            stamp_ns, points = to_ns(message.header.stamp), received_points(message)
            names = tuple(message.joint_names)
            self._todo.put(lambda: self._command(arm, stamp_ns, names, points))

        return on_trajectory

    def _reset(self) -> str:
        task, seed = self.param('task'), self.param('seed')
        scene = draw_scene(find_task(task), seed, parse_scenes(self.param('scenes')))
        self._todo.put(lambda: self._draw(task, seed, scene))
        return f'drawing {task} with seed {seed}'

    # In the physics' thread: everything that touches the simulation, and its GL context.

    def _live(self, ready: 'queue.SimpleQueue[BaseException | None]') -> None:
        try:
            self._sim = sim.SimRobot(
                self.param('task'),
                self.param('seed'),
                scenes=parse_scenes(self.param('scenes')),
                height=self.param('image_height'),
                width=self.param('image_width'),
            )
        except Exception as error:
            ready.put(error)
            return
        self._keep_pace()
        self._announce_start()
        ready.put(None)
        try:
            self._run()
        except Exception as error:
            self.report_unexpected('physics', error)
        finally:
            self._sim.close()

    def _run(self) -> None:
        while not self._stopping.wait(self._wait_s()):
            while not self._todo.empty():
                self._todo.get()()
            # The ROS time may stand still, or go slower than this machine's.
            if self._pace_ns() < self._due_ns:
                continue
            for event in self._sim.advance(_SLICE_S):
                self._publish(event)
            self._judge()
            self._due_ns += round(_SLICE_NS / self._factor())

    def _wait_s(self) -> float:
        """Return how long to wait for the next slice, or at most until the next look."""
        ahead_ns = self._due_ns - self._pace_ns()
        burst_ns = _LARGEST_BURST_NS / self._factor()
        largest_ns = burst_ns if self._gives_time else _LARGEST_LAG_NS
        set_back = ahead_ns > _LARGEST_LAG_NS and not self._gives_time
        if set_back or ahead_ns < -largest_ns:
            self._keep_pace()
            return 0.0
        return min(max(0.0, ahead_ns * 1e-9), _LONGEST_WAIT_S)

    def _factor(self) -> float:
        return self.param('real_time_factor') if self._gives_time else 1.0

    def _pace_ns(self) -> int:
        """Return the time that the simulation keeps pace with."""
        return time.monotonic_ns() if self._gives_time else self.now_ns()

    def _keep_pace(self) -> None:
        """Go on from now; messages of a robot that follows the ROS time are stamped by it."""
        self._due_ns = self._pace_ns()
        if not self._gives_time:
            self._offset_ns = self._due_ns - self._sim.time_ns

    def _command(
        self, arm: str, stamp_ns: int, names: tuple[str, ...], points: dict[str, Any]
    ) -> None:
        # A stamp of zero is "now" on every clock.
        begin_ns = max(1, stamp_ns - self._offset_ns) if stamp_ns else 0
        command = sim.TrajectoryCommand(stamp_ns=begin_ns, joint_names=names, **points)
        rejection = self._sim.send(arm, command)
        if rejection:
            self.diagnostics.report(f'{arm} controller', 'error', f'rejected: {rejection}')
        else:
            self.diagnostics.report(f'{arm} controller', 'ok', 'executes')

    def _publish(self, event: Any) -> None:
        if isinstance(event, sim.CameraImage):
            image = CompressedImage(format='jpeg')
            image.header.stamp = to_time(event.stamp_ns + self._offset_ns)
            image.header.frame_id = f'{event.camera}_optical_frame'
            image.data.frombytes(event.data)
            self._cameras[event.camera].publish(image)
            return
        stamp = to_time(event.stamp_ns + self._offset_ns)
        if self._gives_time:
            self._time.publish(Clock(clock=stamp))
        state = JointState(name=list(event.names))
        state.header.stamp = stamp
        state.position = event.positions.tolist()
        state.velocity = event.velocities.tolist()
        self._joints.publish(state)

    # Episodes.

    def _draw(self, task: str, seed: int, scene: Scene) -> None:
        self._sim.reset(task, seed, scene)
        self._announce_start()

    def _announce_start(self) -> None:
        self._index += 1
        self._judged = False
        self._announce(Episode.START, Episode.UNKNOWN)

    def _judge(self) -> None:
        if not self._judged and self._sim.success():
            self._judged = True
            self._announce(Episode.END, Episode.SUCCESS)

    def _announce(self, phase: int, success: int) -> None:
        episode = Episode(phase=phase, success=success, index=self._index, robot=self.robot.name)
        episode.header.stamp = to_time(self._sim.time_ns + self._offset_ns)
        episode.task = self._sim.task
        self._episode.publish(episode)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT."""
    return run([SimRobotNode], args=args)
