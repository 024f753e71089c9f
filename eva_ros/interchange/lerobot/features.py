"""What a LeRobot data set's info.json says its rows hold."""

from pathlib import Path
from typing import Any

from eva_ros.errors import UserError
from eva_ros.interchange.imported import deviating
from eva_ros.interchange.lerobot.meta import value_names
from eva_ros.interchange.rates import is_rate
from eva_ros.interchange.rates import NO_RATE

COUNTERS = ('timestamp', 'frame_index', 'episode_index', 'index', 'task_index')
# The key first that LeRobot itself writes.
_STATES, _ACTIONS = ('observation.state', 'state'), ('action', 'actions')
_VIDEO = 'observation.images.'


class Features:
    """The columns and videos that info.json declares.

    Args:
        folder: the data set's.
        info: what its info.json holds.
        state: key of the measured joints, where it is not LeRobot's own.
        action: key of the commanded joints, likewise.
        findings: gets a sentence for whatever is missing or unusual.

    Raises:
        UserError: a key that is named is not there.
    """

    def __init__(
        self,
        folder: Path,
        info: dict[str, Any],
        state: str | None,
        action: str | None,
        findings: list[str],
    ) -> None:
        """Read them, and say what is unusual."""
        self._folder, self._findings = folder, findings
        self.rate_hz = self._rate(info)
        found = info.get('features') or {}
        self.all: dict[str, dict] = {k: v for k, v in found.items() if isinstance(v, dict)}
        self.videos = [k for k, v in self.all.items() if v.get('dtype') == 'video']
        self.state, self.action = self._key(state, _STATES), self._key(action, _ACTIONS)
        self.joint_names = self._joint_names()
        self._look()

    def _rate(self, info: dict[str, Any]) -> float:
        """Return the declared rate, 0 where there is none that can be."""
        rate_hz = float(info.get('fps') or 0)
        if not rate_hz or is_rate(rate_hz):
            return rate_hz
        self._findings.append(f'info.json says fps {rate_hz:g}, which {NO_RATE}: it is unused.')
        return 0.0

    def _key(self, named: str | None, usual: tuple[str, str]) -> str:
        """Return the key of states or actions: as named, else LeRobot's or the other usual one."""
        if named is None:
            return next((key for key in usual if key in self.all), usual[0])
        if named not in self.all:
            raise UserError(
                f"{self._folder} has no '{named}', which the map names: its keys are "
                f'{", ".join(self.all)}.'
            )
        return named

    def _joint_names(self) -> tuple[str, ...]:
        names = value_names(self.all.get(self.state, {}))
        if len(set(names)) == len(names):
            return names
        self._findings.append(
            f"info.json gives one name to several values of '{self.state}' ({', '.join(names)}): "
            'they are numbered instead.'
        )
        return ()

    def _look(self) -> None:
        """Say which features are unusual, or are left out."""
        inside = [k for k, v in self.all.items() if v.get('dtype') == 'image']
        if inside:
            self._findings.append(
                f'Pictures in the parquet files are left out: {", ".join(inside)}; write them as '
                'videos first.'
            )
        plain = [key for key in self.all if key not in [*self.videos, *inside]]
        usual = (self.state, self.action, *COUNTERS)
        self._findings += deviating(plain, usual, f'{self._folder / "meta" / "info.json"}')
        odd = [key for key in self.videos if not key.startswith(_VIDEO)]
        if odd:
            self._findings.append(f'Cameras with unusual keys: {", ".join(odd)}.')
