"""Predictions as JSON lines: one object a line, as the design of `edgeclf run-stream` fixes it."""

from __future__ import annotations

import contextlib
import io
import json
import select
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.console import clear_live
from edgeclf_runtime.errors import EdgeclfError, UsageError
from edgeclf_runtime.outputs.base import PredictionOutput
from edgeclf_runtime.streaming.prediction import StreamPrediction


class JsonLinesOutput(PredictionOutput):
    """Writes a line per prediction, each at once and in one piece, so that a kill leaves whole lines.

    A file is written in place, not beside it: whoever follows it sees each line. Where the disk is full, the file ends
    with its last whole line. A reader of standard output that leaves (`| head`) is a `BrokenPipeError`, which the
    command line takes for a quiet end.

    Args:
        path: The file; its folders are made. `-`: standard output.

    Raises:
        UsageError: Where the file cannot be opened for writing, or standard output is closed.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._encode = json.JSONEncoder(ensure_ascii=False).encode
        self._file: io.FileIO | None = None
        self._size = 0
        self._is_terminal = False
        if str(path) == "-":
            if sys.stdout is None:  # as in a service that was started without one
                raise UsageError("Standard output is closed; give --output FILE.jsonl for the predictions.")
            self._is_terminal = sys.stdout.isatty()
            sys.stdout.flush()  # what was printed before goes first
            # Below Python's buffer, which would keep what a full disk did not take, and fail again at the end.
            self._write = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer).write
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = Path(path).open("wb", buffering=0)  # noqa: SIM115 - closed below
        except OSError as error:
            raise UsageError(
                f"{path}: the predictions cannot be written there ({error.strerror}); choose another place."
            ) from error
        self._write = self._file.write

    def write(self, prediction: StreamPrediction, frame: NDArray[np.float32] | None = None) -> None:  # noqa: ARG002 - lines only
        """Writes a line."""
        line = (self._encode(prediction.to_dict()) + "\n").encode("utf-8", "replace")
        if self._is_terminal:
            clear_live()
        try:
            rest = line
            while rest:  # a disk that has little room takes a part, and refuses the rest
                written = self._write(rest)
                if written is None:  # a pipe that does not wait for its reader
                    select.select([], [sys.stdout], [])
                rest = rest[written or 0 :]
        except BrokenPipeError:
            raise
        except OSError as error:
            self._cut()
            raise EdgeclfError(
                f"{'standard output' if self._file is None else self._path}: a prediction could not be written "
                f"({error.strerror}); the lines before it are whole. Make room, and start again."
            ) from error
        self._size += len(line)

    def close(self) -> None:
        """Closes the file; standard output stays open."""
        if self._file is not None:
            self._file.close()

    def _cut(self) -> None:
        """Takes what was written of a line away again; what is no regular file has nothing to take away."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
