"""The attempts in an open bag, the same for training, for the check and for the page."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

from eva_ros.episodes.resampling import align
from eva_ros.episodes.resampling import Piece
from eva_ros.episodes.settings import by_reception
from eva_ros.episodes.settings import ResamplingSettings
from eva_ros.errors import UserError
from eva_ros.observations.ingest import Observation
from eva_ros.observations.views import ViewSpec
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.contradictions import ContradictionError
from eva_ros.recordings.contradictions import Contradictions
from eva_ros.recordings.records import EPISODE
from eva_ros.recordings.records import Record
from eva_ros.robot.spec import Robot


def attempts(
    reader: BagReader,
    robot: Robot,
    view: ViewSpec,
    on_problem: Callable[[str], None],
    *,
    settings: ResamplingSettings | None = None,
    keep: Callable[[Observation], int] | None = None,
    records: Iterable[Record] | None = None,
) -> Iterator[Piece]:
    """Yield the attempts in a bag as `align` finds them, by what the bag says of itself.

    None is yielded before the whole bag was read: joint states that contradict each other
    anywhere leave it unknown which of them are the robot's.

    Args:
        reader: the bag, open.
        robot: whose joints and topics.
        view: how cameras are tiled, and the rate.
        on_problem: is given a sentence for whatever was cut or left out.
        settings: clocks, tolerances and the task topic.
        keep: puts views away, see `align`.
        records: the bag's, where whoever asks looks at them too; read from it where None.

    Raises:
        ContradictionError: joint states contradict each other.
        UserError: the settings name a stream that the robot lacks.
    """
    settings = settings or ResamplingSettings()
    if records is None:
        records = reader.records(_topics(reader, robot, view, settings))
    watch = Contradictions(robot, by_reception(settings, robot))
    found = align(
        watch.through(records),
        robot,
        view,
        on_problem,
        marked=reader.marked,
        settings=settings,
        facts=reader.facts,
        keep=keep,
    )
    pieces: list[Piece] = []
    failure: UserError | None = None
    try:
        pieces.extend(found)
    except UserError as error:  # what was read before it is kept
        failure = error
    if facts := watch.facts():
        raise ContradictionError(facts)
    yield from pieces
    if failure:
        raise failure


def _topics(
    reader: BagReader, robot: Robot, view: ViewSpec, settings: ResamplingSettings
) -> list[str]:
    """Return the topics from which attempts are made."""
    cameras = [robot.cameras[name].topic for name in view.camera_names]
    markers = [topic for topic, kind in reader.topics.items() if kind == EPISODE]
    told = [settings.task_topic] if settings.task_topic else []
    return [*cameras, *robot.joint_state_topics, *markers, *told]
