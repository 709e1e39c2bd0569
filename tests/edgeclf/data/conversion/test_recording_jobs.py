from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgeclf.data.conversion import FrameRecipe
from edgeclf.data.conversion.recording_jobs import RecordingJob, _digest_of_ends, already_made, make_tensor_file
from edgeclf.data.labels import LabelEvents, write_box_labels
from edgeclf.data.raw_writer import write_recording
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.events import Events

MIB = 1 << 20


@pytest.fixture
def job(tmp_path: Path) -> RecordingJob:
    count = 50
    events = Events(
        np.arange(count, dtype=np.int64) * 100,
        np.arange(count).astype(np.uint16) % 8,
        np.zeros(count, np.uint16),
        np.ones(count, np.uint8),
    )
    write_recording(tmp_path / "a b.raw", [events], (8, 6))
    recipe = FrameRecipe("histo", {"max_incr_per_pixel": 2.0}, 1000)
    return RecordingJob(tmp_path / "a b.raw", tmp_path / "out" / "a b.h5", recipe)


def test_a_file_is_known_again(job: RecordingJob) -> None:
    assert already_made(job) is None
    made = make_tensor_file(job)
    assert (made.status, made.frames, made.problems) == ("written", 5, ())
    assert already_made(job) == replace(made, status="skipped")


@pytest.mark.parametrize("at", [-1, 0.5])
def test_another_recording_of_the_same_size_is_noticed(job: RecordingJob, at: float) -> None:
    make_tensor_file(job)
    content = bytearray(job.path.read_bytes())
    content[int(at * len(content)) if at > 0 else -1] ^= 1
    job.path.write_bytes(content)
    with pytest.raises(UsageError, match=r"a b\.h5: this tensor file was made otherwise .*\(recording_digest "):
        already_made(job)


@pytest.mark.parametrize("size", [0, 100, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 1, 3 * MIB])
def test_the_first_and_the_last_mebibyte_count(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    (tmp_path / "a").write_bytes(content)
    seen = content if size <= 2 * MIB else content[:MIB] + content[-MIB:]
    assert _digest_of_ends(tmp_path / "a") == hashlib.blake2b(seen, digest_size=16).hexdigest()


def test_a_default_spelled_out_is_no_other_way(job: RecordingJob) -> None:
    make_tensor_file(job)
    spelled_out = replace(job.recipe, preprocess_kwargs={"max_incr_per_pixel": 2, "downsampling_factor": 0})
    assert already_made(replace(job, recipe=spelled_out)) is not None


def test_a_file_of_another_edgeclf_with_more_arguments_is_made_otherwise(job: RecordingJob) -> None:
    make_tensor_file(job)
    with h5py.File(job.target, "a") as file:
        stated = file["data"].attrs["edgeclf"]
        file["data"].attrs["edgeclf"] = stated.replace('"n_events"', '"seed": 1, "n_events"')
    with pytest.raises(UsageError, match=r"a b\.h5: this tensor file was made otherwise .*\(with other arguments\)"):
        already_made(job)


@pytest.mark.parametrize(("name", "copied"), [("x.npy", "a b_bbox.npy"), ("x.npz", "a b_labels.npz")])
def test_labels_keep_their_form(job: RecordingJob, tmp_path: Path, name: str, copied: str) -> None:
    labels = tmp_path / name
    if labels.suffix == ".npz":
        np.savez(labels, ts=np.array([1]), labels=np.array([2]))
    else:
        write_box_labels(labels, LabelEvents(np.array([1]), np.array([2])), (6, 8))
    make_tensor_file(replace(job, box_labels=labels))
    assert (job.target.parent / copied).read_bytes() == labels.read_bytes()
