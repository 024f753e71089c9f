"""A bench for the arm trajectory publisher: the real node, and arms that do what they are sent."""

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from ros_harness import Graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from eva_msgs.msg import ActionChunk
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState
from eva_ros.nodes.arm_trajectory_publisher import ArmTrajectoryPublisher
from eva_ros.robot.spec import load_robot
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.stamps import to_duration
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_time
from eva_ros.ros.trajectories import received_points
from eva_ros.sim.controller import TrajectoryCommand
from eva_ros.sim.controller import TrajectoryController

ROBOT = load_robot('aloha_sim')
NODE = topics.ARM_TRAJECTORY_PUBLISHER
DT = 0.1


class Bench:
    """The node, and arms that begin at home and follow their controllers, and ears for all.

    Attributes:
        stuck: arms that stay where they are, whatever they are sent.
        deaf: arms whose messages are lost.
        slip: is added to what the arms measure [J].
        measuring: whether joint states are published.
        rejections: why a controller did not take a message.
        frozen: whether they are published with what was measured last.
    """

    def __init__(self, graph: Graph, robot=ROBOT, **parameters):
        self.graph, self.robot = graph, robot
        self.reports = graph.collect(ChunkReport, topics.CHUNK_REPORT, qos.REPORT)
        self.safety = graph.collect(SafetyState, topics.SAFETY_STATE, qos.LATCHED)
        self.commands = {
            arm: graph.collect(JointTrajectory, spec.controller.topic, qos.COMMAND)
            for arm, spec in robot.arms.items()
        }
        self.previews = graph.collect(
            JointTrajectory, topics.of(NODE, topics.PREVIEW), qos.LATCHED
        )
        self.diagnostics = graph.collect(DiagnosticArray, topics.DIAGNOSTICS)
        self.controllers = {
            arm: TrajectoryController(*robot.arm_command(arm, robot.home)) for arm in robot.arms
        }
        self.taken = dict.fromkeys(robot.arms, 0)
        self.names = [name for spec in robot.arms.values() for name in spec.controller.joints]
        self.stuck, self.deaf, self.frozen = set(), set(), False
        self.slip = np.zeros(len(robot.home))
        self.rejections: list[str] = []
        self.values = [robot.arm_command(arm, robot.home)[1] for arm in robot.arms]
        self.keep: Callable[[str], bool] = lambda name: True
        self.thread = graph.start(
            ArmTrajectoryPublisher, **{'robot': str(robot.path), 'dry_run': False, **parameters}
        )
        assert self.thread.refusal == ''
        self.node = self.thread.node
        self.chunks = graph.publisher(ActionChunk, topics.CHUNK, qos.REPORT)
        self.states = graph.publisher(JointState, 'joint_states')
        self.measuring = True
        self.timer = graph.probe.create_timer(0.02, self.measure)
        graph.wait_for(self.heard)

    def heard(self):
        arms = self.node.outputs.arms.values()
        return all(arm.publisher.get_subscription_count() for arm in arms)

    def now_ns(self):
        return self.graph.probe.get_clock().now().nanoseconds

    def measure(self):
        """Let both arms do what they were sent until now, and say where they are."""
        now_ns = self.now_ns()
        for arm, control in self.controllers.items():
            for message in self.commands[arm][self.taken[arm] :]:
                self.taken[arm] += 1
                if arm not in self.deaf:
                    command = TrajectoryCommand(
                        to_ns(message.header.stamp),
                        message.joint_names,
                        **received_points(message),
                    )
                    problem = control.accept(command, now_ns)
                    self.rejections += [problem] if problem else []
        places = {arm: control.sample(now_ns) for arm, control in self.controllers.items()}
        if not self.frozen:
            self.values = [
                old if arm in self.stuck else new
                for (arm, new), old in zip(places.items(), self.values)
            ]
        if not self.measuring:
            return
        state = JointState()
        for name, value in zip(self.names, np.concatenate(self.values) + self.slip):
            if self.keep(name):
                state.name.append(name)
                state.position.append(float(value))
        state.header.stamp = to_time(now_ns)
        self.states.publish(state)

    def publishers(self, topic):
        """Return the nodes that publish on a topic, as the node under test sees them."""
        return [info.node_name for info in self.node.get_publishers_info_by_topic(f'/{topic}')]

    def ask(self, name):
        return self.graph.call(Trigger, topics.of(NODE, name))

    def arm(self):
        self.graph.wait_for(lambda: self.ask(topics.ARM).success)

    def chunk(self, **changes):
        """Return a chunk that moves the first joint of each arm by 0.2 rad, then changed."""
        path = np.tile(self.robot.home, (17, 1))
        for arm in self.robot.arms:
            path[:, self.robot.arm_indices(arm).start] += np.linspace(0.0, 0.2, 17)
        message = ActionChunk(
            rollout_id=1, robot=self.robot.name, step_dt=to_duration(DT), horizon=17
        )
        message.observation_stamp = to_time(self.now_ns())
        message.joint_names = list(self.robot.joint_names)
        message.positions = path.ravel().tolist()
        message.observed_positions = self.robot.home.tolist()
        message.confidence = float('nan')
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    def send(self, message):
        """Send a chunk and return the report on it."""
        count = len(self.reports)
        self.chunks.publish(message)
        return self.graph.wait_for(lambda: self.reports[count:])[0]

    def nothing_was_sent(self):
        return not any(self.commands.values())

    def wait_for_state(self, state):
        return self.graph.wait_for(
            lambda: next((s for s in self.safety[::-1] if s.state == state), None)
        )

    def sent(self, count):
        """Return the latest commands of both arms once each has got `count` of them."""
        self.graph.wait_for(lambda: all(len(heard) >= count for heard in self.commands.values()))
        return {arm: heard[count - 1] for arm, heard in self.commands.items()}


class SimulatedClock:
    """The time of a bench with `use_sim_time`: 50 s, until the test sets another."""

    def __init__(self, bench: Bench):
        self.seconds = 50.0
        self._bench = bench
        self._clock = bench.graph.publisher(Clock, topics.CLOCK)
        bench.now_ns = self.now_ns

    def now_ns(self):
        return round(self.seconds * 1e9)

    def set(self, seconds):
        """Set the time, and wait until the node has it."""
        self.seconds = seconds
        self._clock.publish(Clock(clock=to_time(self.now_ns())))
        self._bench.graph.wait_for(lambda: self._bench.node.now_ns() == self.now_ns())

    def go_on(self, seconds):
        """Set the time, and wait until the node has joints of then too."""
        self.set(seconds)
        self._bench.graph.wait_for(lambda: self._bench.node.joints.stamp_ns == self.now_ns())

    def arm(self):
        def armed():
            self.go_on(self.seconds)
            return self._bench.ask(topics.ARM).success

        self._bench.graph.wait_for(armed)
