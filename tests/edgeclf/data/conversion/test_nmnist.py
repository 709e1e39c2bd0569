from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeclf.data.conversion import FrameRecipe
from edgeclf.data.conversion.nmnist import NmnistFile, convert_nmnist, find_nmnist, fit_events, read_nmnist
from edgeclf.data.labels import read_labels
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.tensor_file import TensorFile


def plain_events(path: Path) -> list[tuple[int, int, int, int]]:
    """One event after the other, as the data set's page describes its 40 bits."""
    content = path.read_bytes()
    events = []
    for i in range(0, len(content), 5):
        x, y, *rest = struct.unpack(">BBBBB", content[i : i + 5])
        bits = rest[0] << 16 | rest[1] << 8 | rest[2]
        events.append((bits & 0x7FFFFF, x, y, bits >> 23))
    return events


def rows(events: Events) -> list[tuple[int, int, int, int]]:
    return list(zip(*(getattr(events, name).tolist() for name in "txyp"), strict=True))


@pytest.fixture
def real_files(shared_data: Path) -> list[Path]:
    return [sorted((shared_data / "nmnist" / "Train" / str(digit)).glob("*.bin"))[digit] for digit in range(10)]


def test_real_files_equal_a_plain_loop(real_files: list[Path]) -> None:
    for path in real_files:
        events = read_nmnist(path)
        assert rows(events) == plain_events(path)
        assert [events.t.dtype, events.x.dtype, events.y.dtype, events.p.dtype] == ["i8", "u2", "u2", "u1"]
        # What is known of the data set: three saccades of 100 ms, of both polarities, over most of the pixels.
        assert 250_000 < events.t[-1] < 350_000
        assert set(events.p.tolist()) == {0, 1}
        assert events.x.max() > 20
        assert events.y.max() > 20


def test_all_bits_of_the_time_and_events_out_of_order(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes([33, 1, 0xFF, 0xFF, 0xFF, 2, 33, 0x00, 0x01, 0x02, 5, 6, 0x80, 0x01, 0x02]))
    assert rows(read_nmnist(path)) == [(0x0102, 2, 33, 0), (0x0102, 5, 6, 1), (0x7FFFFF, 33, 1, 1)]


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "0 bytes"), (b"123456", "6 bytes"), (bytes([34, 0, 0, 0, 0]), "outside 34×34 pixels")]
)
def test_damaged_files_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(InputFileError, match=rf"a\.bin.*{says}"):
        read_nmnist(tmp_path / "a.bin")


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="cannot be read"):
        read_nmnist(tmp_path)


# --- frames


def converted(recording: NmnistFile, out: Path, height: int, width: int, fit: str) -> np.ndarray:
    recipe = FrameRecipe("histo", {"max_incr_per_pixel": 3.0}, 20_000)
    frames = convert_nmnist(recording, out, recipe, height, width, fit)
    with TensorFile(out / recording.split / f"{recording.name}.h5") as file:
        assert file.attributes.start_ts == 0
        assert len(file) == frames
        return file.read(0, frames)


@pytest.fixture
def plain(real_files: list[Path]) -> np.ndarray:
    """The frames of the digit 7 at 34×34, an event at a time."""
    events = plain_events(real_files[7])
    frames = np.zeros((events[-1][0] // 20_000 + 1, 2, 34, 34), np.float32)
    for t, x, y, p in events:
        frames[t // 20_000, p, y, x] = min(1, frames[t // 20_000, p, y, x] + 1 / 3)
    return frames


def test_frames_and_labels_of_a_real_file(tmp_path: Path, real_files: list[Path], plain: np.ndarray) -> None:
    recording = NmnistFile(real_files[7], 7, "val")
    frames = converted(recording, tmp_path, 34, 34, "pad")
    np.testing.assert_allclose(frames, plain, atol=1e-6)
    name = f"train_7_{real_files[7].stem}"
    assert sorted(path.name for path in (tmp_path / "val").iterdir()) == [f"{name}.h5", f"{name}_bbox.npy"]
    labels = read_labels(tmp_path / "val" / f"{name}_bbox.npy")
    assert labels.t.tolist() == [20_000 * k for k in range(len(plain))]
    assert set(labels.class_id.tolist()) == {7}


def test_pad_puts_the_digit_in_the_middle_of_zeros(tmp_path: Path, real_files: list[Path], plain: np.ndarray) -> None:
    frames = converted(NmnistFile(real_files[7], 7, "train"), tmp_path, 48, 61, "pad")
    expected = np.pad(plain, ((0, 0), (0, 0), (7, 7), (13, 14)))
    np.testing.assert_allclose(frames, expected, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(34, 34), (68, 102), (17, 34), (48, 64), (20, 40)])
def test_scale_repeats_pixels_and_shrinks_by_area(
    tmp_path: Path, real_files: list[Path], plain: np.ndarray, height: int, width: int
) -> None:
    frames = converted(NmnistFile(real_files[7], 7, "train"), tmp_path, height, width, "scale")
    factors = [-(-side // 34) for side in (height, width)]
    enlarged = torch.from_numpy(np.kron(plain, np.ones(factors, np.float32)))
    expected = torch.nn.functional.adaptive_avg_pool2d(enlarged, (height, width))
    np.testing.assert_allclose(frames, expected, atol=1e-6)


def test_scaled_events_stay_in_time_order(real_files: list[Path]) -> None:
    events, size = fit_events(read_nmnist(real_files[0]), 68, 68, "scale")
    assert size == (68, 68)
    assert np.all(np.diff(events.t) >= 0)


@pytest.mark.parametrize(("height", "width"), [(33, 34), (34, 20)])
def test_padding_never_cuts_off(real_files: list[Path], height: int, width: int) -> None:
    with pytest.raises(UsageError, match=f"{height}×{width} cannot hold 34×34.*--fit scale"):
        fit_events(read_nmnist(real_files[0]), height, width, "pad")


# --- splits


def make_files(root: Path, folder: str, digit: int, count: int) -> None:
    (root / folder / str(digit)).mkdir(parents=True)
    for i in range(count):
        (root / folder / str(digit) / f"{i:05}.bin").touch()


def split_counts(found: list[NmnistFile]) -> dict[tuple[int, str], int]:
    return dict(Counter((recording.digit, recording.split) for recording in found))


def test_train_alone_is_divided_digit_by_digit(tmp_path: Path) -> None:
    make_files(tmp_path, "Train", 3, 20)
    make_files(tmp_path, "Train", 8, 10)
    found = find_nmnist(tmp_path, 0.2, 0.1, seed=1)
    assert split_counts(found) == {
        (3, "val"): 4, (3, "test"): 2, (3, "train"): 14, (8, "val"): 2, (8, "test"): 1, (8, "train"): 7,
    }  # fmt: skip
    assert len({recording.path for recording in found}) == len({recording.name for recording in found}) == 30
    assert find_nmnist(tmp_path, 0.2, 0.1, seed=1) == found
    assert {(r.path, r.split) for r in find_nmnist(tmp_path, 0.2, 0.1, seed=2)} != {(r.path, r.split) for r in found}


def test_test_is_the_test_split(tmp_path: Path) -> None:
    make_files(tmp_path, "Train", 3, 10)
    make_files(tmp_path, "Test", 3, 10)
    found = find_nmnist(tmp_path, 0.2, 0.5, seed=0)
    assert split_counts(found) == {(3, "val"): 2, (3, "train"): 8, (3, "test"): 10}
    assert all(("Test" in recording.path.parts) == (recording.split == "test") for recording in found)
    assert len({recording.name for recording in found}) == 20


def test_test_alone_is_enough(tmp_path: Path) -> None:
    make_files(tmp_path, "Test", 0, 3)
    assert split_counts(find_nmnist(tmp_path, 0.1, 0.1, seed=0)) == {(0, "test"): 3}


def test_folders_that_are_none_of_nmnist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="neither a folder Train nor a folder Test"):
        find_nmnist(tmp_path, 0.1, 0.1, 0)
    (tmp_path / "Train").mkdir()
    with pytest.raises(InputFileError, match=r"hold no <digit>/<index>\.bin"):
        find_nmnist(tmp_path, 0.1, 0.1, 0)


def test_nothing_left_to_train_on_is_refused(tmp_path: Path) -> None:
    make_files(tmp_path, "Train", 0, 3)
    with pytest.raises(UsageError, match="leave nothing to train on"):
        find_nmnist(tmp_path, 0.6, 0.4, 0)
    with pytest.raises(UsageError, match="validation and test take all"):
        find_nmnist(tmp_path, 0.5, 0.49, 0)
