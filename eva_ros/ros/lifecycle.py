"""The base of every node: a lifecycle that fails loudly and lets go of what it took."""

from collections.abc import Callable
from collections.abc import Sequence
from copy import copy
from functools import partial
import threading
import traceback
from typing import Any

from lifecycle_msgs.msg import State
from rcl_interfaces.msg import ParameterDescriptor
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock
from rclpy.clock import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle import LifecycleState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import LivelinessPolicy
from rclpy.qos import QoSProfile
from std_srvs.srv import Trigger

from eva_ros.errors import UserError
from eva_ros.robot.paths import SIM_ROBOT
from eva_ros.robot.spec import load_robot
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.diagnostics import Diagnostics
from eva_ros.ros.parameters import check_given
from eva_ros.ros.parameters import declare
from eva_ros.ros.parameters import describe
from eva_ros.ros.parameters import Param
from eva_ros.ros.publishers import clock_health

COMMON_PARAMS = (
    Param('robot', SIM_ROBOT, 'Robot YAML: a name in config/robots, or a path.'),
    Param('autostart', True, 'Configure and activate without being asked.', at_start=True),
)
# Declared by rclpy, without a word.
_USE_SIM_TIME = Param('use_sim_time', False, 'Take the time from /clock.')
# Of the nodes that see frames.
VIEW_PARAM = Param('view', '', "View YAML: a name in config/views, or a path; '' is the robot's.")
_LABELS = {
    State.PRIMARY_STATE_UNCONFIGURED: 'unconfigured',
    State.PRIMARY_STATE_INACTIVE: 'inactive',
    State.PRIMARY_STATE_ACTIVE: 'active',
    State.PRIMARY_STATE_FINALIZED: 'finalized',
}
# Several times within the lease of qos.LEASED, and whatever becomes of /clock.
_ASSERT_S = 0.3
_STEADY = Clock(clock_type=ClockType.STEADY_TIME)
# One node of a process at a time: while one thread loads a checkpoint, torch may build the
# modules of every other thread without memory (accelerate patches torch.nn for the time).
_CONFIGURING = threading.Lock()


class EvaNode(LifecycleNode):
    """A lifecycle node.

    Subclasses give `PARAMS`, `_setup` and `_teardown`, and where they need them `_start` and
    `_stop`. A UserError or any other exception in a transition leaves one sentence in the log, in
    `refusal` and on /diagnostics (rclpy would swallow it), and what was taken is let go.
    """

    PARAMS: Sequence[Param] = ()

    def __init__(self, name: str, **node_options: Any) -> None:
        # rclpy asks for descriptions while it creates the node.
        self._configured = False
        self._declared = {
            param.name: param for param in (*COMMON_PARAMS, *self.PARAMS, _USE_SIM_TIME)
        }
        super().__init__(name, **node_options)
        self.refusal = ''
        self._active = False
        self._failing: set[str] = set()
        self._destroyers: list[Callable[[], object]] = []
        self.diagnostics = Diagnostics(self)
        self._state = self.create_publisher(State, topics.STATE, qos.LEASED)
        self._leased: list[Any] = [self._state]
        self.create_timer(_ASSERT_S, self._assert_liveliness, clock=_STEADY)
        self._tell(State.PRIMARY_STATE_UNCONFIGURED)
        self._complaints = declare(self, (*COMMON_PARAMS, *self.PARAMS))
        describe(self, _USE_SIM_TIME)
        self.add_on_set_parameters_callback(self._on_set_parameters)

    # What subclasses do.

    def _setup(self) -> None:
        """Read parameters, load what is needed, create entities. `self.robot` is loaded."""

    def _teardown(self) -> None:
        """Let go of what `_setup` took beyond the entities created through this class."""

    def _start(self) -> None:
        """Begin to work: publishers are live, callbacks come in after this."""

    def _stop(self) -> None:
        """End the work: publishers are still live, callbacks come in no more."""

    # Transitions.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and create everything, or say in one sentence why not."""
        with _CONFIGURING:
            done = self._attempt('configure', self._configure)
        if not done:
            self._release()
            return TransitionCallbackReturn.FAILURE
        self._configured = True
        self.diagnostics.report('lifecycle', 'ok', 'configured')
        self._tell(State.PRIMARY_STATE_INACTIVE)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let publishers speak, then begin."""
        enable = super().on_activate

        def activate() -> None:
            enable(state)
            self._start()

        if not self._attempt('activate', activate):
            super().on_deactivate(state)
            return TransitionCallbackReturn.FAILURE
        self._active = True
        self.diagnostics.report('lifecycle', 'ok', 'active')
        self._tell(State.PRIMARY_STATE_ACTIVE)
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the work, then silence the publishers."""
        self._end()
        self.diagnostics.report('lifecycle', 'ok', 'inactive')
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything."""
        self._release()
        self._tell(State.PRIMARY_STATE_UNCONFIGURED)
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the work while publishers are live, then let go of everything."""
        self._end()
        self._release()
        self._tell(State.PRIMARY_STATE_FINALIZED)
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured."""
        self._end()
        self._release()
        self._tell(State.PRIMARY_STATE_UNCONFIGURED)
        return TransitionCallbackReturn.SUCCESS

    def shut_down(self) -> None:
        """Go to the final state from wherever the node is, through `on_shutdown`."""
        try:
            self.trigger_shutdown()
        except RuntimeError:
            # Somebody has shut it down through the lifecycle service.
            self._end()
            self._release()

    def describe_parameter(self, name: str) -> ParameterDescriptor:
        """Return what is known of a parameter; read_only says whether a change is refused now.

        rclpy's own check of read_only goes before our reasons, so that what is kept is not.
        """
        descriptor = copy(super().describe_parameter(name))
        param = self._declared.get(name)
        if param is not None and not param.live and self._configured:
            descriptor.read_only = True
        return descriptor

    # What subclasses use.

    @property
    def is_active(self) -> bool:
        """True between activation and the beginning of deactivation."""
        return self._active

    def param(self, name: str) -> Any:
        """Return a parameter's present value."""
        return self.get_parameter(name).value

    def now_ns(self) -> int:
        """Return the ROS time in nanoseconds."""
        return self.get_clock().now().nanoseconds

    def publish_on(self, kind: type, topic: str, qos: QoSProfile) -> Any:
        """Create a publisher that lives until cleanup and speaks while the node is active."""
        publisher = self.create_lifecycle_publisher(kind, topic, qos)
        self._destroyers.append(lambda: self.destroy_lifecycle_publisher(publisher))
        if qos.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC:
            self._leased.append(publisher)
            self._destroyers.append(lambda: self._leased.remove(publisher))
        return publisher

    def listen_to(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        qos: QoSProfile,
        *,
        group: CallbackGroup | None = None,
    ) -> Any:
        """Create a subscription whose callback is called while the node is active.

        A UserError from the callback goes to /diagnostics under the topic's name.
        """
        subscription = self.create_subscription(
            kind, topic, self.guarded(topic, callback), qos, callback_group=group
        )
        self._destroyers.append(lambda: self.destroy_subscription(subscription))
        return subscription

    def call_every(
        self, period_s: float, callback: Callable[[], None], *, clock: Clock | None = None
    ) -> Any:
        """Create a timer whose callback is called while the node is active.

        Args:
            period_s: in s.
            callback: what is called.
            clock: by which the period goes; the ROS clock if None, which somebody may set.
        """
        timer = self.create_timer(period_s, self.guarded('timer', callback), clock=clock)
        self._destroyers.append(lambda: self.destroy_timer(timer))
        return timer

    def offer(self, name: str, action: Callable[[], str]) -> Any:
        """Create a std_srvs/Trigger service.

        Args:
            name: of the service.
            action: does it and returns the sentence to answer; a UserError is the refusal.
        """

        def answer(_request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                if not self._active:
                    raise UserError(f'{self.get_name()} is not active: activate it first.')
                response.message = action()
                response.success = True
            except UserError as error:
                response.message = str(error)
            except Exception as error:
                self.report_unexpected(name, error)
                response.message = f'{name} failed: {error}'
            return response

        service = self.create_service(Trigger, name, answer)
        self._destroyers.append(lambda: self.destroy_service(service))
        return service

    def watch_clock(self) -> None:
        """Say on /diagnostics whether the simulated time comes from one node."""
        self.diagnostics.add_check('clock', partial(clock_health, self))

    def own(self, destroy: Callable[[], object]) -> None:
        """Call `destroy` at cleanup, before what was created earlier is destroyed."""
        self._destroyers.append(destroy)

    def guarded(self, component: str, callback: Callable[..., None]) -> Callable[..., None]:
        """Return the callback, called only while active, its errors reported and not raised.

        An exception that leaves a callback would end the executor and the whole process with it.
        """

        def call(*args: Any) -> None:
            if not self._active:
                return
            try:
                callback(*args)
            except UserError as error:
                self._failing.add(component)
                self.diagnostics.report(component, 'error', str(error))
            except Exception as error:
                self._failing.add(component)
                self.report_unexpected(component, error)
            else:
                if component in self._failing:
                    self._failing.discard(component)
                    self.diagnostics.report(component, 'ok', 'works again')

        return call

    def report_unexpected(self, component: str, error: Exception) -> None:
        """Say that something failed that should not, with its traceback in the log."""
        self.get_logger().error(''.join(traceback.format_exception(error)))
        self.diagnostics.report(component, 'error', f'{type(error).__name__}: {error}')

    def on_parameter(self, name: str, value: Any) -> None:
        """Take a new value of a live parameter; a UserError refuses it."""

    # Inside.

    def _tell(self, state: int) -> None:
        """Let those who need this node know in which state it is."""
        if self.context.ok():
            self._state.publish(State(id=state, label=_LABELS[state]))

    def _assert_liveliness(self) -> None:
        for publisher in self._leased:
            publisher.assert_liveliness()

    def _configure(self) -> None:
        check_given(self, self._complaints)
        self.robot = load_robot(self.param('robot'))
        self.diagnostics.set_hardware_id(self.robot.name)
        if self.param('use_sim_time'):
            self.watch_clock()
        self._setup()

    def _attempt(self, transition: str, act: Callable[[], None]) -> bool:
        try:
            act()
        except UserError as error:
            self.refusal = str(error)
        except Exception as error:
            self.refusal = f'{type(error).__name__}: {error}'
            self.get_logger().error(traceback.format_exc())
        else:
            self.refusal = ''
            return True
        self.diagnostics.report('lifecycle', 'error', f'cannot {transition}: {self.refusal}')
        return False

    def _end(self) -> None:
        if self._active:
            self._active = False
            self._tell(State.PRIMARY_STATE_INACTIVE)
            self._attempt('stop', self._stop)

    def _release(self) -> None:
        self._attempt_quietly(self._teardown)
        while self._destroyers:
            self._attempt_quietly(self._destroyers.pop())
        self._configured = False
        self._failing.clear()

    def _attempt_quietly(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:
            self.report_unexpected('cleanup', error)

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        if not self._configured:
            return SetParametersResult(successful=True)
        live = []
        for parameter in parameters:
            param = self._declared.get(parameter.name)
            if param is not None and not param.live:
                reason = (
                    f"'{parameter.name}' takes effect at configure: deactivate and clean up first."
                )
                return SetParametersResult(successful=False, reason=reason)
            if param is not None:
                live.append(parameter)
        if len(live) > 1:
            # All of them or none: what was taken could not be given back if the next is refused.
            names = ' and '.join(f"'{parameter.name}'" for parameter in live)
            return SetParametersResult(successful=False, reason=f'Set {names} one at a time.')
        try:
            for parameter in live:
                self.on_parameter(parameter.name, parameter.value)
        except UserError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def flush(publishers: Sequence[Any], timeout_s: float = 1.0) -> None:
    """Wait until every listener has what was published last, at most `timeout_s`."""
    for publisher in publishers:
        publisher.wait_for_all_acked(Duration(nanoseconds=round(timeout_s * 1e9)))
