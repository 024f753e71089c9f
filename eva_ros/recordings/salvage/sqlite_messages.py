"""Read what is left of an SQLite3 bag that was cut off or is damaged, row by row."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
import shutil
import sqlite3
import tempfile

from eva_ros.errors import UserError

_ENCODED = 'SELECT topic_type, encoding, encoded_message_definition FROM message_definitions'


@dataclass(frozen=True)
class SavedTopic:
    """A topic, its type, how its data are written, and the type's text ('' if there is none)."""

    name: str
    type: str
    format: str
    encoding: str
    definition: str


class SqliteSalvage:
    """An SQLite3 bag file read without trusting its size.

    After `messages` has ended, `damage` says what stopped it ('' where nothing did).
    """

    def __init__(self, path: Path) -> None:
        """Read the topics.

        Raises:
            UserError: not even these can be read.
        """
        self._path = path
        self.damage = ''
        self._whole: tempfile.TemporaryDirectory[str] | None = None
        try:
            self._drop_half_page()
            with closing(self._connect()) as database:
                self.topics = _topics(database)
        except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
            raise UserError(f'The bag {path} cannot be read: {error}.') from None
        if not self.topics:
            raise UserError(f'The bag {path} names no topic: nothing of it can be read.')

    def messages(self) -> Iterator[tuple[SavedTopic, int, bytes]]:
        """Yield topic, time received and data in the order of writing, up to the damage."""
        try:
            with closing(self._connect()) as database:
                rows = database.execute('SELECT topic_id, timestamp, data FROM messages')
                for number, received_ns, data in rows:
                    if number in self.topics and isinstance(data, bytes):
                        yield self.topics[number], int(received_ns), data
        except (sqlite3.Error, ValueError, OverflowError, TypeError) as error:
            self.damage = str(error)

    def close(self) -> None:
        """Remove what was put aside."""
        if self._whole:
            self._whole.cleanup()

    def _drop_half_page(self) -> None:
        """Work on a copy without the last page if half of it is missing: SQLite reads zeros."""
        with self._path.open('rb') as stream:
            head = stream.read(18)
        page, size = int.from_bytes(head[16:18], 'big'), self._path.stat().st_size
        page = 65536 if page == 1 else page
        if page < 512 or size % page == 0:
            return
        self._whole = tempfile.TemporaryDirectory(prefix='eva_bag_')
        copy = Path(self._whole.name) / 'bag.db3'
        shutil.copyfile(self._path, copy)
        with copy.open('r+b') as stream:
            stream.truncate(size - size % page)
        self._path = copy

    def _connect(self) -> sqlite3.Connection:
        where = self._path.resolve().as_uri()
        database = sqlite3.connect(f'{where}?immutable=1&mode=ro', uri=True)
        # Otherwise a file that is shorter than its header says is refused as a whole.
        database.execute('PRAGMA writable_schema=ON')
        return database


def _topics(database: sqlite3.Connection) -> dict[int, SavedTopic]:
    try:
        texts = {name: (encoding, text) for name, encoding, text in database.execute(_ENCODED)}
    except sqlite3.Error:
        texts = {}
    rows = database.execute('SELECT id, name, type, serialization_format FROM topics')
    return {
        number: SavedTopic(name, kind, form, *texts.get(kind, ('', '')))
        for number, name, kind, form in rows
        if isinstance(name, str) and isinstance(kind, str)
    }
