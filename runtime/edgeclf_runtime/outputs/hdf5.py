"""Predictions as an HDF5 file, laid out as Metavision's classification sample writes it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.contract import Contract
from edgeclf_runtime.files import as_text
from edgeclf_runtime.outputs.base import PredictionOutput
from edgeclf_runtime.streaming.prediction import StreamPrediction

if TYPE_CHECKING:
    import h5py

_BLOCK = 1024
"""Frames that are written at once at most, and that stand together in the file."""

_COMMIT_S = 2.0
"""How long a prediction waits for others at most, as long as predictions come."""


class Hdf5Output(PredictionOutput):
    """Writes data sets `cls` `[N, K]` (probabilities, float32), `cls_start_ts` and `cls_end_ts` `[N]` (int64, µs).

    Those of a single stream stand at the top of the file; of several, in a group each, `stream_0` and so on. Attributes
    of `cls` say how its numbers came about: those of the sample (`input_file_name`, `events_to_tensor`, `delta_t`,
    `model_input_height`, `model_input_width`), and `labels`, the outputs' names. The attribute `source` of what holds
    the data sets is the whole name of the source.

    The file is written in place, a block at a time. It can be read while it grows, and after `kill -9` at any time: it
    then lacks the predictions of the last two seconds. A full disk leaves it as it was before the block that did not
    fit. See `GrowingHdf5`.

    Args:
        path: The file; its folders are made.
        contract: The model's contract.
        sources: The streams' sources, by name.

    Raises:
        UsageError: Where the file cannot be opened for writing.
        EdgeclfError: Where not even an empty file can be written.
    """

    def __init__(self, path: str | Path, contract: Contract, sources: Sequence[str]) -> None:
        from edgeclf_runtime.hdf5_output import GrowingHdf5  # h5py takes its time to be imported

        self._hdf5: GrowingHdf5 | None = GrowingHdf5(Path(path))
        file = self._hdf5.file
        groups = [file] if len(sources) == 1 else [file.create_group(f"stream_{i}") for i in range(len(sources))]
        self._streams = [_StreamRows(group, source, contract) for group, source in zip(groups, sources, strict=True)]
        self._committed_at = time.monotonic()
        try:
            self._hdf5.commit()
        except BaseException:
            self.close()
            raise

    def write(self, prediction: StreamPrediction, frame: NDArray[np.float32] | None = None) -> None:  # noqa: ARG002 - numbers only
        """Takes a prediction, and writes those of all streams where it is time to."""
        assert self._hdf5 is not None
        is_full = self._streams[prediction.stream].add(prediction)
        if is_full or time.monotonic() - self._committed_at >= _COMMIT_S:
            for rows in self._streams:
                rows.store()
            self._hdf5.commit()
            self._committed_at = time.monotonic()

    def close(self) -> None:
        """Writes what is left and closes the file."""
        if self._hdf5 is not None:
            hdf5, self._hdf5 = self._hdf5, None
            for rows in self._streams:
                rows.store()
            hdf5.close()


class _StreamRows:
    """The data sets of a stream, and the rows that are not in them yet.

    Args:
        group: What holds the data sets.
        source: The stream's source, by name.
        contract: The model's contract.
    """

    def __init__(self, group: h5py.Group, source: str, contract: Contract) -> None:
        outputs = len(contract.labels)
        self._delta_t = contract.delta_t
        self._stored = 0
        self._count = 0
        self._probabilities = np.empty((_BLOCK, outputs), np.float32)
        self._ends = np.empty(_BLOCK, np.int64)
        self._cls, self._start_ts, self._end_ts = (
            group.create_dataset(name, (0, *row), dtype, maxshape=(None, *row), chunks=(_BLOCK, *row))
            for name, row, dtype in (
                ("cls", (outputs,), np.float32),
                ("cls_start_ts", (), np.int64),
                ("cls_end_ts", (), np.int64),
            )
        )
        group.attrs["source"] = as_text(source)
        self._cls.attrs.update(
            {
                "input_file_name": as_text(Path(source).name),
                "events_to_tensor": contract.preprocess,
                "delta_t": contract.delta_t,
                "model_input_height": contract.frame_shape[1],
                "model_input_width": contract.frame_shape[2],
                "labels": [as_text(label) for label in contract.labels],
            }
        )

    def add(self, prediction: StreamPrediction) -> bool:
        """Takes a row; returns whether there is no room for another."""
        self._probabilities[self._count] = prediction.probabilities
        self._ends[self._count] = prediction.t_us
        self._count += 1
        return self._count == _BLOCK

    def store(self) -> None:
        """Puts the rows into the data sets."""
        if not self._count:
            return
        before, self._stored = self._stored, self._stored + self._count
        ends = self._ends[: self._count]
        for data, rows in (
            (self._cls, self._probabilities[: self._count]),
            (self._start_ts, ends - self._delta_t),
            (self._end_ts, ends),
        ):
            data.resize(self._stored, axis=0)
            data[before:] = rows
        self._count = 0
