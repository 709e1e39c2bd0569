"""N-MNIST (Orchard et al. 2015): its own folders and files to Metavision's layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeclf.data.conversion.frames import FrameRecipe, convert_events
from edgeclf.data.dataset import Split
from edgeclf.data.labels import LabelEvents, write_box_labels
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events import Events

SIDE = 34
DIGITS = tuple("0123456789")

Fit = Literal["pad", "scale"]
"""How 34×34 pixels become frames of another size: in the middle of zeros, or stretched."""


@dataclass(frozen=True)
class NmnistFile:
    """One recording of N-MNIST: its file, the digit it shows, and the split it goes to."""

    path: Path
    digit: int
    split: Split

    @property
    def name(self) -> str:
        """A name that is unique in the whole data set."""
        return f"{self.path.parents[1].name.lower()}_{self.digit}_{self.path.stem}"

    def tensor_file(self, out: Path) -> Path:
        """Returns where its tensor file goes in the data set folder `out`."""
        return out / self.split / f"{self.name}.h5"


def read_nmnist(path: Path) -> Events:
    """Reads one `.bin`: 5 bytes an event, big-endian: x (8 bits), y (8), polarity (1), time in µs (23).

    Raises:
        InputFileError: Where the file is empty or cut short, or is something else.
    """
    try:
        raw = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputFileError(f"{path}: this file cannot be read ({error.strerror}).") from error
    if raw.size == 0 or raw.size % 5:
        raise InputFileError(
            f"{path}: its {raw.size} bytes are not a whole number of N-MNIST's 5-byte events, and at least one; "
            "it is damaged: copy it again, or remove it."
        )
    x, y, high, middle, low = raw.reshape(-1, 5).astype(np.int64).T
    if max(x.max(), y.max()) >= SIDE:
        raise InputFileError(f"{path}: it has events outside {SIDE}×{SIDE} pixels, so it is not an N-MNIST recording.")
    t = (high & 0x7F) << 16 | middle << 8 | low
    order = np.argsort(t, kind="stable")
    events = Events(t, x.astype(np.uint16), y.astype(np.uint16), (high >> 7).astype(np.uint8))
    return events[order]


def find_nmnist(root: Path, val_fraction: float, test_fraction: float, seed: int) -> list[NmnistFile]:
    """Finds the recordings in N-MNIST's folders `Train/<digit>/` and `Test/<digit>/` and assigns them to splits.

    `Test/` is the test split. Of each digit of `Train/`, `val_fraction` goes to validation and, where there is no
    `Test/`, `test_fraction` to the test; which ones, the seed says.

    Raises:
        InputFileError: Where there is no such folder or no recording.
        UsageError: Where nothing would be left to train on.
    """
    has_test = (root / "Test").is_dir()
    if not has_test and not (root / "Train").is_dir():
        raise InputFileError(f"{root}: there is neither a folder Train nor a folder Test in it, as N-MNIST has.")
    test_share = 0.0 if has_test else test_fraction
    if val_fraction + test_share >= 1:
        raise UsageError("The fractions for validation and test leave nothing to train on; make them smaller.")
    rng = np.random.default_rng(seed)
    found = []
    for digit in range(10):
        files = sorted((root / "Train" / str(digit)).glob("*.bin"))
        shuffled = [files[i] for i in rng.permutation(len(files))]
        n_val, n_test = round(val_fraction * len(files)), round(test_share * len(files))
        splits = _shares({"val": n_val, "test": n_test, "train": len(files) - n_val - n_test})
        found += [NmnistFile(path, digit, split) for path, split in zip(shuffled, splits, strict=True)]
        found += [NmnistFile(path, digit, "test") for path in sorted((root / "Test" / str(digit)).glob("*.bin"))]
    if not found:
        raise InputFileError(f"{root}: its folders Train and Test hold no <digit>/<index>.bin recordings.")
    if (root / "Train").is_dir() and not any(recording.split == "train" for recording in found):
        raise UsageError(
            f"{root}: of its few recordings in Train, validation and test take all; make their fractions smaller."
        )
    return found


def _shares(counts: Mapping[Split, int]) -> list[Split]:
    """Returns each split as often as `counts` says."""
    return [split for split, count in counts.items() for _ in range(count)]


def convert_nmnist(recording: NmnistFile, out: Path, recipe: FrameRecipe, height: int, width: int, fit: Fit) -> int:
    """Writes a recording's tensor file and label file; returns the number of frames.

    Args:
        recording: What to convert.
        out: The data set folder.
        recipe: How frames are made; its frame size is not used.
        height: Rows of a frame.
        width: Columns of a frame.
        fit: How 34×34 pixels become `height` × `width`.

    Raises:
        InputFileError: Where the recording is damaged.
        UsageError: Where it does not fit.
    """
    events, sensor_size = fit_events(read_nmnist(recording.path), height, width, fit)
    path = recording.tensor_file(out)
    frames = convert_events([events], sensor_size, path, replace(recipe, frame_size=(height, width)), start_ts=0)
    labels = LabelEvents(np.arange(frames, dtype=np.int64) * recipe.delta_t, np.full(frames, recording.digit, np.int64))
    write_box_labels(path.with_name(f"{recording.name}_bbox.npy"), labels, (height, width))
    return frames


def fit_events(events: Events, height: int, width: int, fit: Fit) -> tuple[Events, tuple[int, int]]:
    """Moves events of 34×34 pixels to a sensor from which frames of `height` × `width` are made by shrinking.

    `pad` puts them in the middle. `scale` repeats each event over the block of pixels that its pixel becomes, where
    frames are larger; where they are smaller, shrinking by area does it.

    Returns:
        The events, and the sensor's width and height.

    Raises:
        UsageError: Where padding would cut something off.
    """
    if fit == "pad":
        if min(height, width) < SIDE:
            raise UsageError(f"Frames of {height}×{width} cannot hold {SIDE}×{SIDE} pixels; use --fit scale.")
        x = events.x + np.uint16((width - SIDE) // 2)
        y = events.y + np.uint16((height - SIDE) // 2)
        return Events(events.t, x, y, events.p), (width, height)
    # Enlarging to a common multiple of both sizes would be exact, and huge; the next whole factor is enough for the
    # frame maker to shrink from.
    factor_x, factor_y = -(-width // SIDE), -(-height // SIDE)
    blocks = [
        Events(events.t, events.x * np.uint16(factor_x) + dx, events.y * np.uint16(factor_y) + dy, events.p)
        for dx, dy in _offsets(factor_x, factor_y)
    ]
    scaled = Events.concatenate(blocks)
    order: NDArray[np.intp] = np.argsort(scaled.t, kind="stable")
    return scaled[order], (SIDE * factor_x, SIDE * factor_y)


def _offsets(factor_x: int, factor_y: int) -> Iterator[tuple[np.uint16, np.uint16]]:
    return ((np.uint16(dx), np.uint16(dy)) for dy in range(factor_y) for dx in range(factor_x))
