"""HDF5 tensor files in Metavision's layout: one recording as event frames of one duration or one number of events.

Dataset `data` `[N, C, H, W]`, chunked a frame at a time, its attributes saying how the frames were made (see
`TensorAttributes`). Where frames hold a number of events, data set `last_timestamps` `[N]` says when each one's last
event came, in µs. Layout: Prophesee's documentation of Metavision ML's HDF5 tensor files.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.closing import Closing
from edgeclf_runtime.errors import DamagedInputError, InputFileError, UsageError
from edgeclf_runtime.files import written_whole
from edgeclf_runtime.hdf5_input import HDF5_ERRORS, hdf5_input, own_data_set, plain_attributes
from edgeclf_runtime.hdf5_output import hdf5_output
from edgeclf_runtime.preprocessing import canonical_arguments, effective_arguments

FrameMode = Literal["delta_t", "n_events"]
"""What ends a frame: its duration, or its number of events."""
FRAME_MODES: tuple[FrameMode, ...] = get_args(FrameMode)

PROVENANCE_ATTRIBUTE = "edgeclf"
"""Attribute that says what edgeclf made the file of, as a JSON document; files of other programs do not have it."""

LATEST_US = 1 << 60
"""Times beyond are no times."""

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
    PROVENANCE_ATTRIBUTE,
}


@dataclass(frozen=True)
class TensorAttributes:
    """How the frames of a tensor file were made.

    Attributes:
        preprocess: Name of the preprocessing (`events_to_tensor` in the file).
        delta_t: Duration of a frame in µs. Of no meaning where `mode` is `n_events`: as the file says, perhaps 0.
        sensor_size: Width and height of the sensor in pixels (`event_input_width`, `event_input_height`).
        start_ts: Time in µs, in the recording's own time, at which frame 0 starts; 0 where the file does not say,
            as in Metavision's.
        preprocess_kwargs: The preprocessing's arguments, an attribute each.
        store_as_uint8: Whether values 0 to 1 are stored as 0 to 255.
        mode: What ends a frame: `delta_t`, its duration, or `n_events`, its number of events.
        n_events: Events of a frame (the last one may hold fewer) where `mode` is `n_events`; else 0.
    """

    preprocess: str
    delta_t: int
    sensor_size: tuple[int, int]
    start_ts: int = 0
    preprocess_kwargs: Mapping[str, Any] = field(default_factory=dict)
    store_as_uint8: bool = False
    mode: FrameMode = "delta_t"
    n_events: int = 0

    def check_made_by(
        self,
        path: Path,
        preprocess: str,
        preprocess_kwargs: Mapping[str, Any],
        delta_t: int,
        mode: FrameMode = "delta_t",
        n_events: int = 0,
    ) -> None:
        """Raises unless frames made so are what a model takes.

        Arguments that the model leaves out have their defaults; those that the file does not state are not compared.

        Args:
            path: The tensor file, for the error.
            preprocess: Name of the preprocessing that the model takes.
            preprocess_kwargs: Its arguments.
            delta_t: Duration of the model's frames in µs; not compared where they hold a number of events.
            mode: What ends a frame of the model's.
            n_events: Events of a frame of the model's, where `mode` says so.

        Raises:
            UsageError: Where they are not.
        """
        by_count = mode == "n_events"
        made_with = canonical_arguments(self.preprocess, self.preprocess_kwargs)
        for what, has, takes in (
            ("were made by", self.preprocess, preprocess),
            ("end by", self.mode, mode),
            ("hold, in events,", self.n_events, n_events) if by_count else ("last, in µs,", self.delta_t, delta_t),
            *(
                (f"were made with {name}", made_with.get(name, value), value)
                for name, value in effective_arguments(preprocess, preprocess_kwargs).items()
            ),
        ):
            if has != takes:
                raise UsageError(
                    f"{path} does not fit the model: its frames {what} {has}, the model's {takes}; make the file "
                    "again with `edgeclf dataset events`."
                )


class TensorFile(Closing):
    """An open tensor file; a context manager.

    Attributes:
        path: The file.
        attributes: How its frames were made.
        shape: `(N, C, H, W)`.

    Args:
        path: The file to open for reading.
        attributes: What it said when it was opened before; it is not asked again, which takes longer than reading a
            few small frames. None: it is asked.

    Raises:
        InputFileError: Where it is not there, not HDF5, or not a tensor file.
    """

    def __init__(self, path: str | Path, attributes: TensorAttributes | None = None) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise InputFileError(f"{self.path}: this is a folder; give a tensor file (.h5) in it.")
        if not self.path.is_file():
            raise InputFileError(f"{self.path}: there is no such file.")
        try:
            self._open = contextlib.ExitStack()
            self._file, expect_numbers = self._open.enter_context(hdf5_input(self.path))
        except HDF5_ERRORS as error:
            raise InputFileError(
                f"{self.path}: this is not an HDF5 file, or it is damaged or cut short; make it again with "
                "`edgeclf dataset events`."
            ) from error
        try:
            self._data = _data_of(self._file, self.path)
            self.shape: tuple[int, int, int, int] = self._data.shape
            self.attributes = _attributes_of(self._data, self.path) if attributes is None else attributes
            if attributes is None:
                self.frame_ends()  # says so where the times are damaged
            expect_numbers()
        except InputFileError:
            self.close()
            raise
        except HDF5_ERRORS as error:  # h5py's, of damaged structures, and ours below
            self.close()
            raise InputFileError(
                f"{self.path}: what the tensor file says of itself cannot be read ({error}); make it again with "
                "`edgeclf dataset events`."
            ) from error

    def close(self) -> None:
        """Closes the file."""
        self._open.close()

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Returns frames `start` to `stop` (not included; cut at the end of the file), `[n, C, H, W]`.

        Raises:
            DamagedInputError: Where the file is damaged there, or holds values that are not finite.
        """
        stop = min(stop, len(self))
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what float32 does not hold is not finite
                frames = np.asarray(self._data[start:stop], np.float32)
        except HDF5_ERRORS as error:
            raise DamagedInputError(
                f"{self.path}: {_frames(start, stop)} cannot be read, as the file is damaged there; make it again with "
                "`edgeclf dataset events`."
            ) from error
        if not np.isfinite(frames).all():
            raise DamagedInputError(
                f"{self.path}: {_frames(start, stop)} holds values that are not finite, so it is damaged; make the "
                "file again with `edgeclf dataset events`."
            )
        return frames / np.float32(255) if self.attributes.store_as_uint8 else frames

    def frame_ends(self) -> NDArray[np.int64]:
        """Returns the first µs after each frame, in the recording's own time, `[N]`; none before the one before it."""
        made = self.attributes
        if made.mode == "n_events":
            return _last_timestamps(self._file, self.path, made.start_ts, len(self)) + 1
        return made.start_ts + made.delta_t * np.arange(1, len(self) + 1, dtype=np.int64)

    def provenance(self) -> Mapping[str, Any]:
        """Returns what the file was made of, as its writer put it; empty where the file does not say.

        Raises:
            InputFileError: Where it is damaged.
        """
        try:
            found = json.loads(plain_attributes(self._data).get(PROVENANCE_ATTRIBUTE, "{}"))
        except (*HDF5_ERRORS, RecursionError) as error:
            raise InputFileError(
                f"{self.path}: what the file says that it was made of is damaged; make it again with "
                "`edgeclf dataset events`."
            ) from error
        return found if isinstance(found, dict) else {}

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yields one frame after the other, `[C, H, W]`: files are chunked so, and every whole frame comes out."""
        for index in range(len(self)):
            yield self.read(index, index + 1)[0]


def _frames(start: int, stop: int) -> str:
    return f"frame {start}" if stop - start == 1 else f"one of the frames {start} to {stop - 1}"


def _data_of(file: h5py.File, path: Path) -> h5py.Dataset:
    data = own_data_set(file, "data")
    if data is None or data.ndim != 4 or data.dtype.kind not in "fiu":
        raise InputFileError(
            f"{path}: this HDF5 file has no data set 'data' of numbers with four axes (frames, channels, rows, "
            "columns), so it is not a tensor file; make one of a recording (.raw, .dat) with `edgeclf dataset events`."
        )
    return data


def _attributes_of(data: h5py.Dataset, path: Path) -> TensorAttributes:
    found = plain_attributes(data)
    mode = found.get("mode", "delta_t")
    if mode not in FRAME_MODES:
        raise InputFileError(
            f"{path}: its frames end by the mode {mode!r}, and edgeclf knows {' and '.join(FRAME_MODES)}; make it "
            "again with `edgeclf dataset events`."
        )
    needed = {"events_to_tensor", "event_input_height", "event_input_width", mode}
    if missing := sorted(needed - found.keys()):
        raise InputFileError(
            f"{path}: the tensor file does not say how it was made, as the attributes {', '.join(missing)} are "
            "missing; make it again with `edgeclf dataset events`."
        )
    for name in (mode, "event_input_width", "event_input_height"):
        if int(found[name]) < 1:
            raise ValueError(f"{name} is {found[name]}")
    for name, times in (("delta_t", len(data)), ("start_ts", 1)):
        if abs(int(found.get(name, 0))) * times > LATEST_US:
            raise ValueError(f"{name} is {found[name]}")
    return TensorAttributes(
        preprocess=str(found["events_to_tensor"]),
        delta_t=int(found.get("delta_t", 0)),
        sensor_size=(int(found["event_input_width"]), int(found["event_input_height"])),
        start_ts=int(found.get("start_ts", 0)),
        preprocess_kwargs={name: value for name, value in found.items() if name not in _OWN_ATTRIBUTES},
        store_as_uint8=bool(found.get("store_as_uint8", False)),
        mode=mode,
        n_events=int(found["n_events"]) if mode == "n_events" else 0,
    )


def _last_timestamps(file: h5py.File, path: Path, start_ts: int, frames: int) -> NDArray[np.int64]:
    """Reads when the last event of each frame came, in a file whose frames hold a number of events."""
    found = own_data_set(file, "last_timestamps")
    if found is None or found.dtype.kind not in "iu" or found.shape != (frames,):
        raise InputFileError(
            f"{path}: its frames hold a number of events, and no data set 'last_timestamps' of {frames} whole numbers "
            "says when each one's last event came; make it again with `edgeclf dataset events`."
        )
    times = found[:].astype(np.int64)
    if np.any(times[1:] < times[:-1]) or (frames and times[0] < start_ts):
        raise InputFileError(
            f"{path}: the times of its frames' last events (last_timestamps) run backwards, so the file is damaged; "
            "make it again with `edgeclf dataset events`."
        )
    return np.asarray(times, np.int64)


def write_tensor_file(
    path: str | Path,
    frames: Iterable[NDArray[np.float32]],
    attributes: TensorAttributes,
    last_timestamps: Sequence[int] | NDArray[np.int64] = (),
    provenance: Callable[[], Mapping[str, Any]] | None = None,
) -> int:
    """Writes a tensor file, frame by frame, so that memory does not grow with the recording.

    Args:
        path: Where to; appears when it is complete.
        frames: Frames `[C, H, W]`, float32, all of one shape; at least one.
        attributes: How they were made.
        last_timestamps: The time of each frame's last event in µs, where frames hold a number of events. It is looked
            at after the last frame, so it may grow as they are made.
        provenance: Returns what the file is made of, to be kept in it as JSON; called after the last frame.

    Returns:
        The number of frames written.

    Raises:
        InputFileError: Where there is no frame at all.
        EdgeclfError: Where the file cannot be written to its end, as on a full disk.
        ValueError: Where `last_timestamps` does not belong to the frames.
    """
    with written_whole(path) as temporary, hdf5_output(temporary, path) as (file, check):
        data = _write_frames(file, frames, attributes.store_as_uint8, check)
        if data is None:
            raise InputFileError(f"{path}: there is no frame to write; the recording holds no events.")
        count = len(data)
        if len(last_timestamps) != (count if attributes.mode == "n_events" else 0):
            raise ValueError(f"{len(last_timestamps)} last time-stamps for {count} frames, {attributes.mode}")
        if attributes.mode == "n_events":
            file.create_dataset("last_timestamps", data=np.asarray(last_timestamps, np.int64))
        data.attrs.update(_stored_attributes(attributes) | {"shape": np.array(data.shape[1:])})
        if provenance is not None:
            data.attrs[PROVENANCE_ATTRIBUTE] = json.dumps(provenance())
    return count


def _stored_attributes(attributes: TensorAttributes) -> dict[str, Any]:
    """Returns what a tensor file states of its frames, by the names that it has there; their shape left out."""
    return {
        "events_to_tensor": attributes.preprocess,
        "delta_t": attributes.delta_t,
        "event_input_width": attributes.sensor_size[0],
        "event_input_height": attributes.sensor_size[1],
        "start_ts": attributes.start_ts,
        "mode": attributes.mode,
        "n_events": attributes.n_events,
        "store_as_uint8": attributes.store_as_uint8,
        **attributes.preprocess_kwargs,
    }


def _write_frames(
    file: h5py.File, frames: Iterable[NDArray[np.float32]], as_uint8: bool, check: Callable[[], None]
) -> h5py.Dataset | None:
    """Writes the data set `data`; returns it, None where there are no frames."""
    data: h5py.Dataset | None = None
    for count, frame in enumerate(frames):
        if data is None:
            data = file.create_dataset(
                "data",
                shape=(0, *frame.shape),
                maxshape=(None, *frame.shape),
                chunks=(1, *frame.shape),
                dtype=np.uint8 if as_uint8 else np.float32,
                compression="gzip",
                compression_opts=1,
            )
        data.resize(count + 1, axis=0)
        data[count] = np.rint(frame * 255) if as_uint8 else frame
        check()
    return data
