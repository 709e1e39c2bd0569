"""DAT recordings as event frames that are made when they are read, at any place of the recording.

The events of a DAT file have one size, so those of a frame can be read without those before it, once it is known where
they lie. The frames are those that `edgeclf dataset events` makes of the file.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.errors import DamagedInputError, InputFileError
from edgeclf_runtime.events import Events, open_recording
from edgeclf_runtime.events.checks import Checks
from edgeclf_runtime.events.dat import DatDecoder
from edgeclf_runtime.frames import FrameMaker
from edgeclf_runtime.slicing import Slice, in_time_order

_log = logging.getLogger(__name__)

# A recording gives its events in blocks of this size, within which slicing puts those in order that are not. The last
# block is empty: it stands for the events that waited for more.
_BLOCK_BYTES = DatDecoder.block_bytes


@dataclass(frozen=True)
class DatIndex:
    """Where the events of each frame of a DAT file lie; they are counted in the order in which slicing takes them.

    Attributes:
        path: The file.
        sensor_size: Width and height of the sensor.
        delta_t: Duration of a frame in µs.
        start_us: Start of frame 0, in the recording's own time.
        cuts: How many events come before each frame, and before the end of the last one, `[N + 1]`.
        data_start: Bytes before the first event.
        blocks: How many events come before each block of the file, and before its end.
        decoders: The decoder as it stands before each block.
    """

    path: Path
    sensor_size: tuple[int, int]
    delta_t: int
    start_us: int
    cuts: NDArray[np.int64]
    data_start: int
    blocks: NDArray[np.int64]
    decoders: tuple[DatDecoder, ...]

    def __len__(self) -> int:
        """Returns the number of frames."""
        return self.cuts.size - 1

    def read(self, start: int, stop: int) -> Events:
        """Returns the events of frames `start` to before `stop`, in the frames' order.

        Raises:
            DamagedInputError: Where the file cannot be read there any more.
        """
        first, last = int(self.cuts[start]), int(self.cuts[stop])
        if first == last:
            return Events.empty()
        begin = int(np.searchsorted(self.blocks, first, side="right")) - 1
        end = int(np.searchsorted(self.blocks, last))
        parts = []
        try:
            with self.path.open("rb") as file:
                file.seek(self.data_start + begin * _BLOCK_BYTES)
                for block in range(begin, end):
                    decoder = copy.deepcopy(self.decoders[block])
                    checks = Checks(str(self.path), self.sensor_size, decoder)
                    parts.append(in_time_order(checks.inside(_decoded(file.read(_BLOCK_BYTES), decoder))))
        except OSError as error:
            raise DamagedInputError(f"{self.path} cannot be read on ({error.strerror}): check its disk.") from error
        found = Events.concatenate(parts)
        if len(found) != self.blocks[end] - self.blocks[begin]:
            raise DamagedInputError(f"{self.path} was changed while it was in use; start again.")
        return found[first - int(self.blocks[begin]) : last - int(self.blocks[begin])]


class DatFrames:
    """The event frames of a DAT file; a `FrameStore`.

    Args:
        index: Where its events lie.
        preprocess: Name of the preprocessing.
        preprocess_kwargs: Its arguments.

    Raises:
        UsageError: Where there is no such preprocessing, or it does not take these arguments.
    """

    def __init__(self, index: DatIndex, preprocess: str, preprocess_kwargs: Mapping[str, Any]) -> None:
        self._index = index
        self._maker = FrameMaker(preprocess, preprocess_kwargs, index.delta_t, index.sensor_size)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`(N, C, H, W)`."""
        return (len(self._index), self._maker.channels, *self._maker.frame_size)

    def frame_ends(self) -> NDArray[np.int64]:
        """Returns the first µs after each frame, in the recording's own time, `[N]`."""
        return self._index.start_us + self._index.delta_t * np.arange(1, len(self._index) + 1, dtype=np.int64)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Returns frames `start` to `stop` (not included; cut at the recording's end), `[n, C, H, W]`.

        Raises:
            DamagedInputError: Where the file cannot be read there any more.
        """
        stop = min(stop, len(self._index))
        events = self._index.read(start, stop)
        cuts = (self._index.cuts[start : stop + 1] - self._index.cuts[start]).tolist()
        frames = np.empty((stop - start, *self.shape[1:]), np.float32)
        for k, frame in enumerate(range(start, stop)):
            start_us = self._index.start_us + frame * self._index.delta_t
            frames[k] = self._maker(
                Slice(frame, start_us, start_us + self._index.delta_t, events[cuts[k] : cuts[k + 1]])
            )
        return frames

    def close(self) -> None:
        """Does nothing: the file is open only while it is read."""


def index_dat(path: Path, delta_t: int) -> DatIndex:
    """Looks through a DAT file once and returns where the events of each frame lie.

    What is wrong with the file, and could be read all the same, is logged as a warning.

    Raises:
        InputFileError: Where it is no DAT file of events, does not say how large the sensor is, or holds no events.
    """
    recording = open_recording(path)
    if recording.format != "DAT":
        raise InputFileError(
            f"{path}: it holds {recording.format}, and only a DAT file can stand in for a tensor file; make one of it "
            "with `edgeclf dataset events`."
        )
    with path.open("rb") as file:
        file.seek(recording.words_start)
        start_us, cuts, blocks, decoders = _scan(file, path, delta_t, recording.sensor_size)
    return DatIndex(path, recording.sensor_size, delta_t, start_us, cuts, recording.words_start, blocks, decoders)


def _scan(
    file: BinaryIO, path: Path, delta_t: int, sensor_size: tuple[int, int]
) -> tuple[int, NDArray[np.int64], NDArray[np.int64], tuple[DatDecoder, ...]]:
    """Returns a `DatIndex`'s `start_us`, `cuts`, `blocks` and `decoders` of a file that stands at its first event."""
    decoder, decoders = DatDecoder(), []
    checks = Checks(str(path), sensor_size, decoder)
    start_us, frame, total = None, 0, 0
    blocks, cuts = [0], [np.zeros(1, np.int64)]
    is_over = False
    while not is_over:
        data = file.read(_BLOCK_BYTES)
        is_over = not data
        decoders.append(copy.deepcopy(decoder))
        events = in_time_order(checks.inside(_decoded(data, decoder)))
        if len(events):
            if start_us is None:
                start_us = int(events.t[0]) // delta_t * delta_t
            # An event that comes after its frame is complete goes into the frame then current.
            frames = np.maximum((events.t - start_us) // delta_t, frame)
            cuts.append(total + np.searchsorted(frames, np.arange(frame + 1, frames[-1] + 1)))
            frame, total = int(frames[-1]), total + len(events)
        blocks.append(total)
    if start_us is None:
        raise InputFileError(f"{path}: this recording holds no events to make a frame of; take it out of the data set.")
    for problem in checks.problems:
        _log.warning("%s", problem)
    return start_us, np.concatenate([*cuts, [total]]), np.array(blocks, np.int64), tuple(decoders)


def _decoded(data: bytes, decoder: DatDecoder) -> Events:
    """Returns the events that a block makes known; those that waited where there is no block any more."""
    return decoder.feed(data) if data else decoder.finish()
