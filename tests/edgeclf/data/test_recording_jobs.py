from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgeclf.data.conversion import FrameRecipe
from edgeclf.data.labels import LabelEvents, write_box_labels
from edgeclf.data.raw_writer import write_recording
from edgeclf.data.recording_jobs import RecordingJob, already_made, make_tensor_file
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.events import Events


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
