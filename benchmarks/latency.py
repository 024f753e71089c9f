"""From a camera's stamp to the arms' JointTrajectory without the models' time, against one hop.

    python benchmarks/latency.py [--turns 100] [--seed 0] [--json]

The nodes of a robot run in this process as with `composed:=true`. A stand-in for the robot
publishes three 640x480 JPEG cameras at 30 Hz (29.97, so that the phase to the view's 10 Hz
drifts) and joint states at 100 Hz, and listens as both controllers. In turns it sends one of
those images through a bare rclpy publisher and subscription, and asks for one rollout of the next
observation, as the task executor does. The models alone are stand-ins (a world model of 0.1 M
weights that dreams of what stands still, an inverse dynamics model that reads the home pose), and
what they take is measured in each turn and subtracted.

Latency counts from the stamp of the oldest image in the observation to the receipt of the later
trajectory. `tick` is the age of that image when the view's tick takes it, part of the total.
"""

import argparse
from collections.abc import Callable
from contextlib import suppress
import json
import os
from pathlib import Path
import platform
import tempfile
import threading
import time
from typing import Any

from bags import pictures
from bags import view
from diffusers import FlowMatchEulerDiscreteScheduler
import numpy as np
import rclpy
from rclpy.action import ActionClient
from rclpy.executors import ExternalShutdownException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from scipy.stats import bootstrap
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
import torch
from trajectory_msgs.msg import JointTrajectory
import yaml

from eva_msgs.action import GenerateRollout
from eva_msgs.msg import ActionChunk
from eva_msgs.msg import Observation
from eva_msgs.msg import SafetyState
from eva_ros.idm.checkpoint import save_idm
from eva_ros.idm.config import IdmConfig
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import Reading
from eva_ros.nodes.action_decoder import ActionDecoder
from eva_ros.nodes.arm_trajectory_publisher import ArmTrajectoryPublisher
from eva_ros.nodes.camera_ingest import CameraIngest
from eva_ros.nodes.rollout_generator import RolloutGenerator
from eva_ros.robot.spec import load_robot
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.run import Host
from eva_ros.ros.stamps import to_ns
from eva_ros.training.manifest import view_fingerprint
from eva_ros.world_model.checkpoint import save_world_model
from eva_ros.world_model.codec import CodecConfig
from eva_ros.world_model.codec import LinearCodec
from eva_ros.world_model.rollout import WorldSettings
from eva_ros.world_model.small import SmallWorldModel
from eva_ros.world_model.text import WordEncoder
from eva_ros.world_model.transformer import small_wan

ROBOT = load_robot('aloha_sim')
INSTRUCTION = 'touch the cube'
HZ, JOINTS_HZ = 29.97, 100.0
STAGES = ('tick', 'observe', 'dream and decode', 'check and send')
_PATIENCE_S = 30.0


class TimedDecoder(ActionDecoder):
    """The decoder, which notes how long its model takes."""

    model_s = 0.0

    def _read(self, *args: Any) -> Reading:
        begin = time.perf_counter()
        try:
            return super()._read(*args)
        finally:
            self.model_s = time.perf_counter() - begin


class Bench(Node):
    """Cameras, joints and controllers; sends images and goals, and notes when answers come."""

    def __init__(self, jpegs: list[bytes]) -> None:
        super().__init__('bench')
        self._jpegs, self._sent = jpegs, 0
        self._changed = threading.Condition()
        self._heard: dict[str, tuple[int, Any]] = {}
        self._cameras = [
            self.create_publisher(CompressedImage, camera.topic, qos.SENSOR_OUTPUT)
            for camera in ROBOT.cameras.values()
        ]
        self._joints = self.create_publisher(JointState, 'joint_states', qos.SENSOR_OUTPUT)
        self._hop = self.create_publisher(CompressedImage, 'bare_hop', qos.SENSOR_OUTPUT)
        self.create_timer(1 / HZ, self._show)
        self.create_timer(1 / JOINTS_HZ, self._measure)
        for name, arm in ROBOT.arms.items():
            self.listen(JointTrajectory, arm.controller.topic, qos.COMMAND, name)
        self.listen(Observation, topics.OBSERVATION, qos.PIPELINE)
        self.listen(ActionChunk, topics.CHUNK, qos.PIPELINE)
        self.listen(SafetyState, topics.SAFETY_STATE, qos.LATCHED)
        self._rollouts = ActionClient(self, GenerateRollout, topics.GENERATE_ROLLOUT)
        self._arm = self.create_client(
            Trigger, topics.of(topics.ARM_TRAJECTORY_PUBLISHER, topics.ARM)
        )

    def listen(self, kind: type, topic: str, profile: Any, name: str = '') -> None:
        """Keep the last message of a topic with the time of its receipt."""
        self.create_subscription(kind, topic, lambda m: self.note(name or topic, m), profile)

    def note(self, name: str, message: Any) -> None:
        """Keep what came."""
        now_ns = self.now_ns()
        with self._changed:
            self._heard[name] = (now_ns, message)
            self._changed.notify_all()

    def now_ns(self) -> int:
        """Return the ROS time."""
        return self.get_clock().now().nanoseconds

    def image(self) -> CompressedImage:
        """Return the next image, stamped now."""
        self._sent += 1
        message = CompressedImage(format='jpeg', data=self._jpegs[self._sent % len(self._jpegs)])
        message.header.stamp = self.get_clock().now().to_msg()
        return message

    def hop_s(self) -> float:
        """Return how long an image takes from a bare publisher to a bare subscription, s."""
        message = self.image()
        self._hop.publish(message)
        return (self.heard('bare_hop', to_ns(message.header.stamp))[0] - stamp_ns(message)) * 1e-9

    def heard(self, name: str, after_ns: int, fits: Callable[[Any], bool] = bool) -> Any:
        """Wait for a message that came after a time and fits; return its receipt and itself."""

        def found() -> Any:
            receipt = self._heard.get(name, (0, None))
            return receipt if receipt[0] > after_ns and fits(receipt[1]) else None

        with self._changed:
            if not self._changed.wait_for(found, _PATIENCE_S):
                raise TimeoutError(f'nothing that fits came on {name}')
            return found()

    def arm(self) -> None:
        """Arm as soon as it is allowed."""
        deadline = time.monotonic() + _PATIENCE_S
        while not (answer := finished(self._arm.call_async(Trigger.Request()))).success:
            if time.monotonic() > deadline:
                raise TimeoutError(answer.message)
            time.sleep(0.1)

    def turn(self, decoder: TimedDecoder) -> dict[str, float]:
        """Return the seconds of each stage of one turn, without those of the models."""
        begin_ns = self.now_ns()
        seen_ns, observation = self.heard(topics.OBSERVATION, begin_ns)
        goal = GenerateRollout.Goal(instruction=INSTRUCTION, seed=1)
        goal.observation_stamp = observation.header.stamp
        handle = finished(self._rollouts.send_goal_async(goal))
        dream_s = finished(handle.get_result_async()).result.duration_s
        chunk = self.heard(topics.CHUNK, begin_ns)[1]
        sent_ns = max(self.heard(arm, begin_ns)[0] for arm in ROBOT.arms)
        marks = [min(map(to_ns, observation.image_stamps)), stamp_ns(observation), seen_ns]
        spans = np.diff([*marks, stamp_ns(chunk), sent_ns]) * 1e-9
        spans[2] -= dream_s + decoder.model_s
        self.rest(begin_ns)
        return dict(zip(STAGES, spans))

    def rest(self, begin_ns: int) -> None:
        """Wait until the motion of a turn that began then is over."""
        self.heard(topics.SAFETY_STATE, begin_ns, lambda m: m.state == SafetyState.ARMED)

    def _show(self) -> None:
        for publisher in self._cameras:
            publisher.publish(self.image())

    def _measure(self) -> None:
        names, positions = ROBOT.to_joint_state(ROBOT.home)
        message = JointState(name=list(names), position=positions.tolist())
        message.velocity = [0.0] * len(names)
        message.header.stamp = self.get_clock().now().to_msg()
        self._joints.publish(message)


def stamp_ns(message: Any) -> int:
    return to_ns(message.header.stamp)


def finished(future: Any) -> Any:
    """Wait for a future of the bench's executor."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    if not done.wait(_PATIENCE_S):
        raise TimeoutError('no answer came')
    return future.result()


def stand_ins(folder: Path) -> dict[str, Path]:
    """Write the models and the view that the nodes load; return their paths."""
    torch.manual_seed(0)
    shown = view()
    settings = WorldSettings(
        'small', ROBOT.name, shown.name, shown.height, shown.width, shown.rate_hz, shown.frames,
        steps=1,
    )  # fmt: skip
    text = WordEncoder(INSTRUCTION.split())
    transformer = small_wan(8, text.width, width=64, layers=1)
    codec = LinearCodec(CodecConfig(shown.height, shown.width, channels=8))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    world_model = SmallWorldModel(settings, codec, text, transformer, scheduler)
    save_world_model(world_model, folder / 'world_model')
    idm = InverseDynamics(
        IdmConfig.of(ROBOT, shown, widths=(8, 16), keypoints=4, values=2, hidden=16)
    )
    for head in idm.heads.values():
        torch.nn.init.zeros_(head.joints.weight)
        torch.nn.init.zeros_(head.joints.bias)
    idm.mean.copy_(torch.tensor(ROBOT.home, dtype=torch.float32))
    save_idm(idm, folder / 'idm', {}, view_fingerprint(shown))
    (folder / 'view.yaml').write_text(yaml.safe_dump(shown.model_dump(mode='json')))
    return {'world_model': folder / 'world_model', 'idm': folder / 'idm',
            'view': folder / 'view.yaml'}  # fmt: skip


def nodes(paths: dict[str, Path]) -> Host:
    """Return the nodes of a robot, to be started in this process."""
    seen = {'view': str(paths['view'])}

    def maker(kind: type, **values: Any) -> Callable[[], Any]:
        given = [Parameter(name, value=value) for name, value in values.items()]
        return lambda: kind(parameter_overrides=given)

    return Host(
        [
            maker(CameraIngest, **seen),
            maker(RolloutGenerator, **seen, checkpoint=str(paths['world_model'])),
            maker(TimedDecoder, **seen, checkpoint=str(paths['idm'])),
            maker(ArmTrajectoryPublisher, dry_run=False),
        ]
    )


def spin(node: Node) -> None:
    """Spin a node in a thread of its own until ROS is shut down."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def run() -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    threading.Thread(target=run, daemon=True).start()


def measure(turns: int, seed: int) -> dict[str, np.ndarray]:
    """Return the seconds of each turn's hop and stages [turns]."""
    rclpy.init(args=[])
    with tempfile.TemporaryDirectory(prefix='eva_bench_') as folder:
        host = nodes(stand_ins(Path(folder)))
        bench, ear = Bench(pictures(np.random.default_rng(seed))), Node('ear')
        ear.create_subscription(
            CompressedImage, 'bare_hop', lambda m: bench.note('bare_hop', m), qos.SENSOR_INPUT
        )
        spin(bench)
        spin(ear)
        host.start()
        try:
            if refusals := host.wait_until_settled():
                raise RuntimeError(refusals[0])
            bench.arm()
            decoder = host.threads[2].node
            for _ in range(2):
                bench.turn(decoder), bench.hop_s()
            found = [{'hop': bench.hop_s(), **bench.turn(decoder)} for _ in range(turns)]
        finally:
            host.stop()
            rclpy.try_shutdown()
    return {name: np.array([turn[name] for turn in found]) for name in found[0]}


def ratio(latency: np.ndarray, hop: np.ndarray, percent: float, seed: int) -> dict[str, Any]:
    """Return a percentile of both, their ratio and its 95 % bootstrap interval."""

    def divided(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return np.percentile(a, percent, axis) / np.percentile(b, percent, axis)

    interval = bootstrap(
        (latency, hop), divided, paired=True, vectorized=True, method='percentile',
        random_state=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return {
        'latency_s': float(np.percentile(latency, percent)),
        'hop_s': float(np.percentile(hop, percent)),
        'ratio': float(divided(latency, hop, 0)),
        'interval': [float(interval.low), float(interval.high)],
    }


def figures(seconds: dict[str, np.ndarray], seed: int) -> dict[str, Any]:
    """Return what is printed: percentiles, ratios, and the medians of the stages."""
    hop, total = seconds['hop'], sum(seconds[name] for name in STAGES)
    return {
        'turns': len(hop),
        'seed': seed,
        'machine': f'{os.cpu_count()} cores, {platform.machine()}, rclpy on '
        f'{rclpy.get_rmw_implementation_identifier()}, load {os.getloadavg()[0]:.1f}',
        'p50': ratio(total, hop, 50, seed),
        'p99': ratio(total, hop, 99, seed),
        'p50_from_tick': ratio(total - seconds['tick'], hop, 50, seed),
        'p99_from_tick': ratio(total - seconds['tick'], hop, 99, seed),
        'median_s': {name: float(np.median(seconds[name])) for name in STAGES},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--turns', type=int, default=100)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', action='store_true')
    args = parser.parse_args()
    found = figures(measure(args.turns, args.seed), args.seed)
    if args.json:
        print(json.dumps(found))
        return
    print(f'{found["turns"]} turns, seed {args.seed}, {found["machine"]}')
    for name in ('p50', 'p99', 'p50_from_tick', 'p99_from_tick'):
        row = found[name]
        low, high = row['interval']
        print(f'{name:14} {row["latency_s"] * 1e3:6.1f} ms, hop {row["hop_s"] * 1e3:6.2f} ms, '
              f'ratio {row["ratio"]:.1f} [{low:.1f}, {high:.1f}]')  # fmt: skip
    for name, value in found['median_s'].items():
        print(f'median of {name}: {value * 1e3:.1f} ms')


if __name__ == '__main__':
    main()
