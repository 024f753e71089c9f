"""Records episodes: one MCAP bag each, one image stream a camera, readable even after a crash.

A recording begins and ends by ~/start, ~/stop and ~/discard, or by the action record_episode.
"""

from pathlib import Path
import shutil
import threading
import time
from typing import Any

from rclpy.action import CancelResponse
from rclpy.action import GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock
from rclpy.clock import ClockType

from eva_msgs.action import RecordEpisode
from eva_msgs.msg import Episode
from eva_ros.errors import UserError
from eva_ros.nodes.episode_recorder.recording import EPISODE_KIND
from eva_ros.nodes.episode_recorder.recording import EPISODE_TOPIC
from eva_ros.nodes.episode_recorder.recording import Recording
from eva_ros.recordings.recorded_bag import RecordedBag
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.actions import ThreadedActionServer
from eva_ros.ros.bag_thread import BagThread
from eva_ros.ros.heard_topics import HeardTopics
from eva_ros.ros.images import image_type
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.parameters import Param
from eva_ros.ros.publishers import several_clocks
from eva_ros.ros.recorded_topics import command_topics
from eva_ros.ros.recorded_topics import surrounding_topics
from eva_ros.ros.run import run
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.version import version

Result = RecordEpisode.Result
_FEEDBACK_S = 0.5
# A goal waits so long for what it needs to be found on the network.
_FINDING_PATIENCE_S = 3.0
# Markers and messages of one recording must be of one clock; driver stamps may be late a little.
_MOST_SKEW_S = 5.0
_IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')


class EpisodeRecorder(EvaNode):
    """The node `episode_recorder`."""

    PARAMS = (
        Param('folder', 'bags', 'Folder of the bags.'),
        Param('instruction', '', 'What the robot is told in an episode of ~/start.', live=True),
        Param('task', '', 'Short name of that task.', live=True),
        Param(
            'extra_topics',
            '',
            "Further topics, as 'name type, name type'; no images.",
            constraint='Every entry needs a name and a type that is installed.',
        ),
        Param(
            'stale_after_s',
            1.0,
            'A camera or joint state that is silent for so long is reported.',
            low=0.01,
            high=60.0,
            live=True,
        ),
        Param(
            'warn_free_gb',
            10.0,
            'Less room on the disk than this is reported.',
            low=0.0,
            high=1e6,
            live=True,
        ),
        Param(
            'stop_free_gb',
            1.0,
            'With less room on the disk than this a recording ends, and none begins.',
            low=0.0,
            high=1e6,
            live=True,
        ),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(topics.EPISODE_RECORDER, **options)

    def _setup(self) -> None:
        self._folder = Path(self.param('folder')).expanduser()
        self._recording: Recording | None = None
        self._count = 0
        # Callbacks come from the executor's thread, goals have threads of their own.
        self._lock = threading.RLock()
        self._needed = [camera.topic for camera in self.robot.cameras.values()]
        self._needed += self.robot.joint_state_topics
        self._last = ''
        beside = surrounding_topics(self.robot, simulated_time=self.param('use_sim_time'))
        self._heard = HeardTopics(self, self._kinds(), self._on_message, beside)
        self.listen_to(Episode, topics.EPISODE, self._on_episode, qos.LATCHED)
        self.offer(topics.START, self._start_service)
        self.offer(topics.STOP, self._stop_recording)
        self.offer(topics.DISCARD, self._discard)
        self._server = ThreadedActionServer(
            self,
            RecordEpisode,
            topics.RECORD_EPISODE,
            self._execute,
            goal_callback=lambda _: GoalResponse.ACCEPT if self.is_active else GoalResponse.REJECT,
            cancel_callback=lambda _goal: CancelResponse.ACCEPT,
        )
        self.own(self._server.destroy)
        # A steady clock: the disk fills up also where /clock stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        watch = self.create_timer(1.0, self.guarded('watch', self._watch), clock=steady)
        self.own(lambda: self.destroy_timer(watch))

    def _kinds(self) -> dict[str, str]:
        """Return the type of each topic that a recording is asked to hold."""
        cameras = [camera.topic for camera in self.robot.cameras.values()]
        kinds = {topic: _name(image_type(topic)) for topic in cameras}
        kinds |= dict.fromkeys(self.robot.joint_state_topics, 'sensor_msgs/msg/JointState')
        kinds |= command_topics(self.robot)
        for entry in filter(None, map(str.strip, self.param('extra_topics').split(','))):
            name, _, kind = entry.partition(' ')
            kind = kind.strip()
            if not kind:
                raise UserError(f"extra_topics: '{entry}' is no topic and type.")
            if kind in _IMAGES:
                raise UserError(f"extra_topics: '{name}': the robot YAML names the cameras.")
            kinds.setdefault(name, kind)
        return kinds

    def _stop(self) -> None:
        with self._lock:
            if self._recording:
                self._finish('the node stops')

    # Beginning and ending.

    def _start_service(self) -> str:
        recording = self._begin(self.param('instruction'), self.param('task'))
        return f'recording {recording.thread.bag.path}'

    def _begin(self, instruction: str, task: str) -> Recording:
        with self._lock:
            if self._recording:
                raise UserError(f'{self._recording.thread.bag.path} is being recorded: stop it.')
            self._refuse_full_disk()
            silent = self._without_publisher()
            self._refuse_without_clock()
            if silent:
                raise UserError(f'Nobody publishes {", ".join(silent)}: are the drivers running?')
            recording = self._open(instruction.strip(), task.strip())
            self._heard.begin()
            self._recording, self._count = recording, self._count + 1
            recording.mark(recording.start_ns, Episode.START)
            for topic in self._heard.topics.values():
                for data in topic.latched:
                    self._on_message(topic.name, data)
        self.diagnostics.report('recording', 'ok', f'recording {recording.thread.bag.path}')
        return recording

    def _without_publisher(self) -> list[str]:
        self._heard.look()
        return [topic for topic in self._needed if not self._heard.topics[topic].publishers]

    def _open(self, instruction: str, task: str) -> Recording:
        facts = {
            'eva.robot': self.robot.name,
            'eva.instruction': instruction,
            'eva.task': task,
            'eva.robot_yaml': self.robot.path.read_text(encoding='utf-8'),
            'eva.version': version(),
        }
        when = time.strftime('%Y-%m-%d-%H-%M-%S')
        name = '-'.join(filter(None, [task or 'episode', when, f'{self._count:04d}']))
        bag = RecordedBag(self._folder / name.replace('/', '_').replace(' ', '_'), facts)
        thread = BagThread(bag)
        thread.add_topic(EPISODE_TOPIC, EPISODE_KIND, [qos.as_recorded(qos.LATCHED)])
        for topic in self._needed:
            self._name_topic(thread, topic)
        return Recording(thread, self.robot.name, self._count, task, instruction, self.now_ns())

    def _name_topic(self, thread: BagThread, topic: str) -> None:
        kind = self._heard.topics[topic].kind
        thread.add_topic(_in_bag(topic), kind, self._heard.offered(topic))

    def _stop_recording(self) -> str:
        with self._lock:
            recording = self._recording
            if recording is None:
                raise UserError(f'Nothing is being recorded. {self._last}'.strip())
            sentence = self._finish('')
            if recording.thread.failure:
                raise UserError(sentence)
            return sentence

    def _finish(self, why: str) -> str:
        recording = self._recording
        assert recording is not None
        now_ns = self.now_ns()
        try:
            recording.finish(now_ns)
        finally:
            self._recording = None
        bag, seconds = recording.thread.bag, (now_ns - recording.start_ns) * 1e-9
        parts = [f'{bag.path}: {seconds:.1f} s, {bag.counts.total()} messages']
        parts += [why] if why else []
        parts += self._faults(recording)
        recording.sentence = '; '.join(parts) + '.'
        self._last = f'The last recording: {recording.sentence}'
        recording.over.set()
        self.diagnostics.report('recording', self._level(recording), recording.sentence)
        return recording.sentence

    def _discard(self) -> str:
        with self._lock:
            recording, self._recording = self._recording, None
            if recording is None:
                raise UserError('Nothing is being recorded.')
            path, self._last = recording.thread.bag.path, ''
            try:
                recording.thread.discard()
                recording.sentence = f'{path} was discarded.'
            except OSError as error:
                recording.sentence = f'{path} cannot be removed: {error.strerror}.'
                raise UserError(recording.sentence) from None
            finally:
                recording.over.set()
        self.diagnostics.report('recording', 'ok', recording.sentence)
        return recording.sentence

    def _level(self, recording: Recording) -> str:
        if recording.thread.failure:
            return 'error'
        return 'warn' if self._faults(recording) else 'ok'

    def _faults(self, recording: Recording) -> list[str]:
        """Return what is wrong with the recording up to now, a phrase each."""
        found = [recording.thread.failure] if recording.thread.failure else []
        if self.param('use_sim_time') and (clocks := several_clocks(self)):
            found.append(clocks.rstrip('.'))
        found += [
            f"'{topic}' is published and not recorded: its message type is not installed here"
            for topic in self._heard.missed()
        ]
        silent = [name for name in self._needed if not self._heard.topics[name].count]
        if silent:
            found.append(f'nothing was heard on {", ".join(silent)}')
        needed = map(_in_bag, self._needed)
        found += recording.other_clocks(needed, _MOST_SKEW_S)
        dropped = {t.name: t.dropped for t in self._heard.topics.values() if t.dropped}
        found += [f"{count} messages were dropped on '{name}'" for name, count in dropped.items()]
        if recording.thread.overflown:
            found.append(f'the disk was too slow for {recording.thread.overflown} messages')
        return found

    def _dropped(self, recording: Recording) -> int:
        heard = self._heard.topics.values()
        return sum(topic.dropped for topic in heard) + recording.thread.overflown

    # What is heard.

    def _on_message(self, topic: str, data: bytes) -> None:
        with self._lock:
            recording = self._recording
            if recording is None:
                return
            if _in_bag(topic) not in recording.thread.topics:
                self._name_topic(recording.thread, topic)
            put = recording.put if topic in self._needed else recording.thread.put
            put(_in_bag(topic), self.now_ns(), data)

    def _on_episode(self, message: Episode) -> None:
        """Take a judge's word; an episode that is judged is over."""
        with self._lock:
            recording = self._recording
            if recording is None or message.phase != Episode.END:
                return
            if to_ns(message.header.stamp) < recording.start_ns:
                return
            recording.success = message.success
            self._finish('judged on the topic episode')

    # Watching.

    def _watch(self) -> None:
        with self._lock:
            self._heard.look()
            free = self._free_gb()
            if free < self.param('stop_free_gb') and self._recording:
                self._finish(f'only {free:.1f} GB are free on the disk')
            elif free < self.param('warn_free_gb'):
                self.diagnostics.report('disk', 'warn', f'{free:.1f} GB are free: make room.')
            else:
                self.diagnostics.report('disk', 'ok', 'enough room', free_gb=round(free, 1))
            if not self._recording:
                return
            if self._recording.thread.failure:
                self._finish('')
                return
            faults = [*self._faults(self._recording), *self._silences(self._recording)]
            bag = self._recording.thread.bag
            said = '; '.join(faults) or f'recording {bag.path}'
            level = 'warn' if faults else 'ok'
            self.diagnostics.report('recording', level, said, messages=bag.counts.total())

    def _silences(self, recording: Recording) -> list[str]:
        now_ns, longest_ns = self.now_ns(), self.param('stale_after_s') * 1e9
        heard = [self._heard.topics[name] for name in self._needed]
        silent = [
            t.name for t in heard if now_ns - max(t.heard_ns, recording.start_ns) > longest_ns
        ]
        return [f'nothing is heard any more on {", ".join(silent)}'] if silent else []

    def _free_gb(self) -> float:
        there = self._folder.absolute()
        while not there.exists():
            there = there.parent
        return shutil.disk_usage(there).free * 1e-9

    def _refuse_full_disk(self) -> None:
        free, least = self._free_gb(), self.param('stop_free_gb')
        if free < least:
            raise UserError(f'Only {free:.1f} GB are free on the disk (at least {least:g}).')

    def _refuse_without_clock(self) -> None:
        if not self.param('use_sim_time'):
            return
        if sentence := several_clocks(self):
            raise UserError(sentence)
        if not self.now_ns():
            raise UserError(
                f'use_sim_time is set and nothing was heard on {topics.CLOCK}: is the simulator '
                'running?'
            )

    # The action.

    def _execute(self, handle: ServerGoalHandle) -> RecordEpisode.Result:
        goal = handle.request
        try:
            self._let_others_be_found(handle)
            recording = self._begin(goal.instruction, goal.task)
        except UserError as error:
            handle.abort()
            return Result(outcome=Result.REFUSED, message=str(error))
        canceled = self._follow(handle, recording)
        result = Result(message=recording.sentence)
        bag = recording.thread.bag
        result.elapsed_s = (self.now_ns() - recording.start_ns) * 1e-9
        result.dropped = self._dropped(recording)
        if recording.kept:
            result.path, result.messages = str(bag.path), bag.counts.total()
        result.outcome = Result.RECORDED if recording.kept else Result.DISCARDED
        if recording.thread.failure:
            result.outcome = Result.ERROR
            handle.abort()
        elif canceled:
            handle.canceled()
        else:
            handle.succeed()
        return result

    def _let_others_be_found(self, handle: ServerGoalHandle) -> None:
        """Wait a little for the clock and the drivers: all may have been started just now."""
        end_s = time.monotonic() + _FINDING_PATIENCE_S
        while time.monotonic() < end_s:
            if handle.is_cancel_requested:
                raise UserError('The recording was canceled before it began.')
            if not self.is_active:
                raise UserError('The node was deactivated before the recording began.')
            timeless = self.param('use_sim_time') and not self.now_ns()
            with self._lock:
                if not timeless and not self._without_publisher():
                    return
            time.sleep(0.05)

    def _follow(self, handle: ServerGoalHandle, recording: Recording) -> bool:
        """Wait for the end of a recording, and bring it about where it is due."""
        most_ns = handle.request.max_duration_s * 1e9
        while not recording.over.wait(_FEEDBACK_S):
            elapsed_ns = self.now_ns() - recording.start_ns
            canceled = handle.is_cancel_requested
            if canceled or 0 < most_ns <= elapsed_ns:
                with self._lock:
                    if self._recording is recording:
                        self._finish('canceled' if canceled else '')
                return canceled
            bag = recording.thread.bag
            handle.publish_feedback(
                RecordEpisode.Feedback(
                    messages=bag.counts.total(),
                    dropped=self._dropped(recording),
                    size_bytes=bag.size,
                    elapsed_s=elapsed_ns * 1e-9,
                )
            )
        return False


def _in_bag(topic: str) -> str:
    """Return a topic's name in the bag: the robot YAML's, whatever the namespace."""
    return f'/{topic.lstrip("/")}'


def _name(kind: type) -> str:
    return f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT."""
    return run([EpisodeRecorder], args=args)
