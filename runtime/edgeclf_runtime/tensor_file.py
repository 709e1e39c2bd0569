"""HDF5 tensor files in Metavision's layout: one recording as event frames of equal duration.

Dataset `data` `[N, C, H, W]`, chunked a frame at a time, its attributes saying how the frames were made (see
`TensorAttributes`). Layout: Prophesee's documentation of Metavision ML's HDF5 tensor files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.errors import InputFileError
from edgeclf_runtime.files import written_whole

_OWN_ATTRIBUTES = {
    "events_to_tensor",
    "delta_t",
    "event_input_height",
    "event_input_width",
    "shape",
    "mode",
    "n_events",
    "store_as_uint8",
    "start_ts",
}


@dataclass(frozen=True)
class TensorAttributes:
    """How the frames of a tensor file were made.

    Attributes:
        preprocess: Name of the preprocessing (`events_to_tensor` in the file).
        delta_t: Duration of a frame in µs.
        sensor_size: Width and height of the sensor in pixels (`event_input_width`, `event_input_height`).
        start_ts: Time in µs, in the recording's own time, at which frame 0 starts; 0 where the file does not say,
            as in Metavision's.
        preprocess_kwargs: The preprocessing's arguments, an attribute each.
        store_as_uint8: Whether values 0 to 1 are stored as 0 to 255.
    """

    preprocess: str
    delta_t: int
    sensor_size: tuple[int, int]
    start_ts: int = 0
    preprocess_kwargs: Mapping[str, Any] = field(default_factory=dict)
    store_as_uint8: bool = False


class TensorFile:
    """An open tensor file; a context manager.

    Attributes:
        path: The file.
        attributes: How its frames were made.
        shape: `(N, C, H, W)`.

    Args:
        path: The file to open for reading.

    Raises:
        InputFileError: Where it is not there, not HDF5, or not a tensor file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputFileError(f"{self.path}: there is no such file.")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise InputFileError(
                f"{self.path}: this is not an HDF5 file, or it is damaged or cut short; make it again with "
                "`edgeclf dataset events`."
            ) from error
        try:
            self._data, self.attributes = _described(self._file, self.path)
        except InputFileError:
            self._file.close()
            raise
        self.shape: tuple[int, int, int, int] = self._data.shape

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Returns frames `start` to `stop` (not included; cut at the end of the file), `[n, C, H, W]`.

        Raises:
            InputFileError: Where the file is damaged there.
        """
        try:
            frames = self._data[start:stop]
        except OSError as error:
            raise InputFileError(
                f"{self.path}: frames {start} to {stop} cannot be read; the file is damaged."
            ) from error
        if self.attributes.store_as_uint8:
            return np.asarray(frames, np.float32) / np.float32(255)
        return np.asarray(frames, np.float32)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yields one frame after the other, `[C, H, W]`."""
        for start in range(0, len(self), 32):
            yield from self.read(start, start + 32)


def _described(file: h5py.File, path: Path) -> tuple[h5py.Dataset, TensorAttributes]:
    data = file.get("data")
    if not isinstance(data, h5py.Dataset) or data.ndim != 4:
        raise InputFileError(
            f"{path}: this HDF5 file has no data set 'data' of four axes (frames, channels, rows, columns), so it is "
            "not a tensor file; HDF5 files of single events have to be converted with `edgeclf dataset events` first."
        )
    found = {name: _plain(value) for name, value in data.attrs.items()}
    if missing := sorted({"events_to_tensor", "delta_t", "event_input_height", "event_input_width"} - found.keys()):
        raise InputFileError(f"{path}: the tensor file does not say how it was made: {', '.join(missing)} is missing.")
    if found.get("mode", "delta_t") != "delta_t":
        raise InputFileError(
            f"{path}: its frames hold a fixed number of events (mode {found['mode']!r}), and edgeclf needs frames of "
            "a fixed duration."
        )
    return data, TensorAttributes(
        preprocess=str(found["events_to_tensor"]),
        delta_t=int(found["delta_t"]),
        sensor_size=(int(found["event_input_width"]), int(found["event_input_height"])),
        start_ts=int(found.get("start_ts", 0)),
        preprocess_kwargs={name: value for name, value in found.items() if name not in _OWN_ATTRIBUTES},
        store_as_uint8=bool(found.get("store_as_uint8", False)),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def write_tensor_file(path: str | Path, frames: Iterable[NDArray[np.float32]], attributes: TensorAttributes) -> int:
    """Writes a tensor file, frame by frame, so that memory does not grow with the recording.

    Args:
        path: Where to; appears when it is complete.
        frames: Frames `[C, H, W]`, float32, all of one shape; at least one.
        attributes: How they were made.

    Returns:
        The number of frames written.

    Raises:
        InputFileError: Where there is no frame at all.
    """
    count = 0
    with written_whole(path) as temporary, h5py.File(temporary, "w") as file:
        data: h5py.Dataset | None = None
        for frame in frames:
            if data is None:
                data = file.create_dataset(
                    "data",
                    shape=(0, *frame.shape),
                    maxshape=(None, *frame.shape),
                    chunks=(1, *frame.shape),
                    dtype=np.uint8 if attributes.store_as_uint8 else np.float32,
                    compression="gzip",
                    compression_opts=1,
                )
            data.resize(count + 1, axis=0)
            data[count] = np.rint(frame * 255) if attributes.store_as_uint8 else frame
            count += 1
        if data is None:
            raise InputFileError(f"{path}: there is no frame to write; the recording holds no events.")
        data.attrs.update(
            {
                "events_to_tensor": attributes.preprocess,
                "delta_t": attributes.delta_t,
                "event_input_width": attributes.sensor_size[0],
                "event_input_height": attributes.sensor_size[1],
                "start_ts": attributes.start_ts,
                "shape": np.array(data.shape[1:]),
                "mode": "delta_t",
                "n_events": 0,
                "store_as_uint8": attributes.store_as_uint8,
                **attributes.preprocess_kwargs,
            }
        )
    return count
