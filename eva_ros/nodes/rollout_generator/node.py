"""Dreams: an observation and an instruction in, a rollout out.

By the action `generate_rollout`, or by its service twin `~/generate` with the instruction from
the parameter. One dream at a time, in a thread of its own; of those that wait, the newest wins.
"""

from concurrent.futures import Future
from dataclasses import dataclass
from dataclasses import field
import random
from typing import Any

import numpy as np
from rclpy.action import CancelResponse
from rclpy.action import GoalResponse
from rclpy.action.server import ServerGoalHandle
import torch

from eva_msgs.action import GenerateRollout
from eva_msgs.msg import Observation as ObservationMessage
from eva_msgs.msg import Rollout
from eva_ros.alignment.best_of import BestOf
from eva_ros.alignment.best_of import load_score
from eva_ros.alignment.best_of import MOST
from eva_ros.errors import NotFiniteError
from eva_ros.errors import UserError
from eva_ros.nodes.checkpoints import adapter_folder
from eva_ros.nodes.checkpoints import checkpoint_folder
from eva_ros.nodes.checkpoints import optional_folder
from eva_ros.nodes.rollout_generator.recent import RecentObservations
from eva_ros.observations.ingest import Observation
from eva_ros.observations.views import view_of
from eva_ros.observations.views import ViewSpec
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.actions import ThreadedActionServer
from eva_ros.ros.discovery import FirstListener
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.lifecycle import VIEW_PARAM
from eva_ros.ros.observations import received_observation
from eva_ros.ros.observations import ReceivedObservation
from eva_ros.ros.parameters import MAX_SEED
from eva_ros.ros.parameters import Param
from eva_ros.ros.rollouts import rollout_message
from eva_ros.ros.rollouts import StampedRollout
from eva_ros.ros.run import run
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_time
from eva_ros.ros.worker import Worker
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.pipeline import WorldModel

Result = GenerateRollout.Result


class NotDreamedError(Exception):
    """A goal is over without a rollout: the reason constant and one sentence."""

    def __init__(self, reason: int, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class Dream:
    """One dream to be dreamed, and where its rollout will be."""

    received: ReceivedObservation
    instruction: str
    seed: int
    before: list[np.ndarray]
    goal: ServerGoalHandle | None = None
    rollout: Future = field(default_factory=Future)


class RolloutGenerator(EvaNode):
    """The node `rollout_generator`."""

    PARAMS = (
        VIEW_PARAM,
        Param('checkpoint', 'default', "Folder of the world model; 'default' is the shipped one."),
        Param(
            'lora',
            'auto',
            "Folder of a LoRA for it; 'default' is the shipped one, 'none' goes without, 'auto' "
            'takes the shipped one with the shipped checkpoint.',
        ),
        Param('steps', 0, "Denoising steps; 0 takes the checkpoint's.", low=0, high=1000),
        Param(
            'candidates',
            1,
            'Dreams per rollout, of which the best is published.',
            low=1,
            high=MOST,
        ),
        Param(
            'choose_by',
            'progress',
            "What the best candidate has most of: 'progress', 'executability' or 'consensus'.",
        ),
        Param(
            'critic',
            'default',
            "Folder of the critic that judges progress; 'default' is the shipped one.",
        ),
        Param(
            'idm',
            'default',
            "Folder of the inverse dynamics model for the other choices; 'default' is the "
            'shipped one.',
        ),
        Param('threads', 0, 'CPU threads for the dream; 0 leaves it to torch.', low=0, high=256),
        Param(
            'observation_timeout_s',
            5.0,
            'How long a goal waits for its observation.',
            low=0.0,
            high=600.0,
        ),
        Param('instruction', '', 'What ~/generate dreams of.', live=True),
        Param(
            'seed',
            -1,
            'Seed of ~/generate; negative draws one.',
            low=-1,
            high=MAX_SEED,
            live=True,
        ),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(topics.ROLLOUT_GENERATOR, **options)

    def _setup(self) -> None:
        self._load()
        self._count = 0
        self._recent = RecentObservations(self._period_ns * (self._model.settings.history + 1))
        self._publisher = self.publish_on(Rollout, topics.ROLLOUT, qos.PIPELINE)
        self._listener = FirstListener(self._publisher)
        # A goal may name any of the latest ones: none may be lost.
        self.listen_to(ObservationMessage, topics.OBSERVATION, self._on_observation, qos.REPORT)
        self._server = ThreadedActionServer(
            self,
            GenerateRollout,
            topics.GENERATE_ROLLOUT,
            self._execute,
            goal_callback=self._on_goal,
            cancel_callback=lambda _goal: CancelResponse.ACCEPT,
        )
        self.own(self._server.destroy)
        self._worker = Worker('dream', self._dream)
        self.own(self._close_worker)
        self.offer(topics.GENERATE, self._generate)

    def _load(self) -> None:
        view = view_of(self.robot, self.param('view') or None)
        folder = checkpoint_folder(self.param('checkpoint'), 'world_model')
        adapter = adapter_folder(self.param('lora'), self.param('checkpoint'))
        if self.param('threads'):
            torch.set_num_threads(self.param('threads'))
        model = load_world_model(folder, lora=adapter, robot=self.robot, view=view)
        self._model = model.for_dreaming()
        self._dreamer = self._choosing(view)
        self._label = self._model.label
        self.diagnostics.report('world model', 'ok', 'loaded', checkpoint=self._label)

    def _choosing(self, view: ViewSpec) -> WorldModel | BestOf:
        """Return what dreams: the model, or the best of several of its dreams."""
        if self.param('candidates') == 1:
            return self._model
        score = load_score(
            self.param('choose_by'),
            self.robot,
            view,
            idm=checkpoint_folder(self.param('idm'), 'idm'),
            critic=optional_folder(self.param('critic'), 'critic'),
        )
        return BestOf(self._model, score, self.param('candidates'))

    def _close_worker(self) -> None:
        self._refuse(self._worker.close(), f'{self.get_name()} was stopped')

    def _on_observation(self, message: ObservationMessage) -> None:
        self._recent.add(received_observation(message, self.robot))

    # The action.

    def _on_goal(self, _goal: GenerateRollout.Goal) -> GoalResponse:
        return GoalResponse.ACCEPT if self.is_active else GoalResponse.REJECT

    def _execute(self, handle: ServerGoalHandle) -> GenerateRollout.Result:
        try:
            rollout = self._answer(handle)
        except NotDreamedError as end:
            result = Result(termination_reason=end.reason, message=str(end))
            if end.reason == Result.CANCELED and handle.is_cancel_requested:
                handle.canceled()
            else:
                handle.abort()
            return result
        result = Result(termination_reason=Result.SUCCEEDED, message='dreamed')
        result.rollout_id = rollout.rollout_id
        result.observation_stamp = to_time(rollout.observation_stamp_ns)
        result.duration_s = rollout.duration_s
        handle.succeed()
        return result

    def _answer(self, handle: ServerGoalHandle) -> StampedRollout:
        goal = handle.request
        try:
            self._model.check_instruction(goal.instruction)
        except UserError as error:
            raise NotDreamedError(Result.REFUSED_INSTRUCTION, str(error)) from error
        received = self._wait_for_observation(handle)
        before = self._before(received.observation)
        dream = Dream(received, goal.instruction, _seed(goal.seed), before, handle)
        self._refuse(self._worker.submit(dream), 'a newer request took its place')
        return dream.rollout.result()

    def _wait_for_observation(self, handle: ServerGoalHandle) -> ReceivedObservation:
        goal = handle.request
        timeout_s = self.param('observation_timeout_s')
        received = self._recent.wait(
            stamp_ns=to_ns(goal.observation_stamp),
            not_before_ns=to_ns(goal.not_before),
            timeout_s=timeout_s,
            given_up=lambda: handle.is_cancel_requested or not self.is_active,
        )
        if handle.is_cancel_requested:
            raise NotDreamedError(Result.CANCELED, 'canceled before the dream')
        if received is None:
            raise NotDreamedError(
                Result.NO_OBSERVATION,
                f"No observation that fits came on '{topics.OBSERVATION}' within {timeout_s} s: "
                'see what camera_ingest says on /diagnostics.',
            )
        return received

    def _before(self, observation: Observation) -> list[np.ndarray]:
        """Return the views before an observation in motion that the model dreams from."""
        settings = self._model.settings
        if observation.at_rest or not settings.history:
            return []
        found = self._recent.before(observation.stamp_ns, settings.history, self._period_ns)
        if len(found) < settings.history:
            sentence = (
                f'The arms move, and of the {settings.history} observations before, '
                f'{1 / settings.rate_hz:g} s apart, only {len(found)} came: see what '
                'camera_ingest says on /diagnostics, and that its publish_rate_hz is not below '
                f'{settings.rate_hz:g}.'
            )
            self.diagnostics.report('dream', 'warn', sentence)
            raise NotDreamedError(Result.NO_OBSERVATION, sentence)
        return [earlier.view for earlier in found]

    @property
    def _period_ns(self) -> int:
        return round(1e9 / self._model.settings.rate_hz)

    def _refuse(self, dream: Dream | None, why: str) -> None:
        if dream is not None:
            error = NotDreamedError(Result.REFUSED_BUSY, f'Not dreamed: {why}.')
            dream.rollout.set_exception(error)

    def _generate(self) -> str:
        instruction = self.param('instruction')
        self._model.check_instruction(instruction)
        received = self._recent.wait(timeout_s=0.0)
        if received is None:
            raise UserError(f"Nothing was heard on '{topics.OBSERVATION}' yet.")
        try:
            before = self._before(received.observation)
        except NotDreamedError as error:
            raise UserError(str(error)) from error
        dream = Dream(received, instruction, _seed(self.param('seed')), before)
        self._refuse(self._worker.submit(dream), 'a newer request took its place')
        return f"dreaming of '{instruction}' from observation {received.observation_id}"

    # In the worker's thread.

    def _dream(self, dream: Dream) -> None:
        try:
            rollout = self._dreamed(dream)
        except NotDreamedError as end:
            dream.rollout.set_exception(end)
        except NotFiniteError as error:
            self.diagnostics.report('dream', 'error', str(error))
            dream.rollout.set_exception(NotDreamedError(Result.NON_FINITE, str(error)))
        except Exception as error:
            self.report_unexpected('dream', error)
            failure = NotDreamedError(Result.ERROR, f'The dream failed: {error}')
            dream.rollout.set_exception(failure)
        else:
            self._listener.wait()
            self._publisher.publish(rollout_message(rollout, self.now_ns()))
            seconds = round(rollout.duration_s, 3)
            self.diagnostics.report('dream', 'ok', 'dreamed', seconds=seconds, dreams=self._count)
            dream.rollout.set_result(rollout)

    def _dreamed(self, dream: Dream) -> StampedRollout:
        last_step = 0

        def on_step(step: int, steps: int) -> None:
            nonlocal last_step
            last_step = steps
            self._on_step(dream, step, steps)

        observation = dream.received.observation
        dreamed = self._dreamer.dream(
            observation.view,
            dream.instruction,
            seed=dream.seed,
            steps=self.param('steps') or None,
            before=dream.before,
            on_step=on_step,
        )
        self._count += 1
        return StampedRollout(
            observation_stamp_ns=observation.stamp_ns,
            observation_id=dream.received.observation_id,
            rollout_id=self._count,
            robot=self.robot.name,
            instruction=dream.instruction,
            frames=dreamed.frames,
            dt=dreamed.dt,
            joint_names=self.robot.joint_names,
            joint_positions=observation.joint_positions,
            seed=dreamed.seed,
            denoising_steps=last_step,
            checkpoint=self._label,
            duration_s=dreamed.duration_s,
        )

    def _on_step(self, dream: Dream, step: int, steps: int) -> None:
        if not self.is_active:
            raise NotDreamedError(
                Result.REFUSED_BUSY, f'Not dreamed: {self.get_name()} was stopped.'
            )
        if dream.goal is None:
            return
        if dream.goal.is_cancel_requested:
            raise NotDreamedError(Result.CANCELED, f'canceled at denoising step {step} of {steps}')
        feedback = GenerateRollout.Feedback(denoising_step=step, denoising_steps=steps)
        dream.goal.publish_feedback(feedback)


def _seed(asked: int) -> int:
    return asked if asked >= 0 else random.randint(0, MAX_SEED)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT."""
    return run([RolloutGenerator], args=args)
