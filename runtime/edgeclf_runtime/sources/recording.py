"""Recordings of events as a source: Prophesee RAW and DAT files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from edgeclf_runtime.events import Events, open_recording
from edgeclf_runtime.sources.base import EventSource


class RecordingSource(EventSource):
    """The events of a RAW or DAT file; it may be read again.

    Args:
        path: The file.
        sensor_size: Width and height of the sensor, for recordings that do not say.

    Raises:
        InputFileError: Where the file is not there or is no recording.
        UsageError: Where the size contradicts the recording.
    """

    def __init__(self, path: Path, sensor_size: tuple[int, int] | None = None) -> None:
        self._recording = open_recording(path, sensor_size)
        self._closed = False
        self.name = str(path)
        self.sensor_size = self._recording.sensor_size

    @property
    def problems(self) -> list[str]:
        """What was wrong with the recording, a sentence each."""
        return self._recording.problems

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong until now, counted by kind."""
        return self._recording.damage

    def close(self) -> None:
        """Makes the iteration end with the block that is being read."""
        self._closed = True

    def __iter__(self) -> Iterator[Events]:
        """Yields the recording's batches."""
        for batch in self._recording.blocks():
            if self._closed:
                return
            if len(batch):
                yield batch
