from __future__ import annotations

import math
import re
from argparse import Namespace
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgeclf.utils_metrics import calculate_time_to_prediction, evaluate_preds_seq
from edgeclf_runtime.errors import EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file

HPARAMS = {
    "models": "ConvRNNClassifier",
    "classes": ["left", "right"],
    "height": 6,
    "width": 8,
    "delta_t": 10_000,
    "preprocess": "histo",
}


def recording(folder, name, frames):
    data = np.random.default_rng(frames).random((frames, 2, 6, 8)).astype(np.float32)
    path = folder / f"{name}.h5"
    write_tensor_file(path, list(data), TensorAttributes("histo", 10_000, (8, 6)))
    return path


def evaluated(tmp_path, predictions, labels, names=None, **options):
    """Runs the function on recordings of the lengths given, whose frames last 10 ms."""
    names = names or [f"rec_{i}" for i in range(len(labels))]
    given = defaultdict(list)
    for name, p, t in zip(names, predictions, labels, strict=True):
        path = recording(tmp_path / "data", name, len(t))
        for vector in (np.arange(1, len(t) + 1) * 10_000, p, t):
            given[str(path)].append(vector)
    preds, rights = [torch.tensor(p) for p in predictions], [torch.tensor(t) for t in labels]
    latencies = options.pop("latencies", None) or calculate_time_to_prediction(preds, rights).latency_seq
    return evaluate_preds_seq(preds, rights, given, HPARAMS, latencies, out=tmp_path / "worst", **options)


def test_the_worst_comes_first_and_ties_are_settled_by_the_time_to_prediction(tmp_path: Path):
    labels = [[1, 1, 1, 1]] * 5 + [[-1, -1]]
    predictions = [[1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [0, 0]]
    found = evaluated(tmp_path, predictions, labels)
    assert [worst.path.stem for worst in found] == ["rec_2", "rec_4", "rec_1", "rec_0", "rec_3"]
    assert [worst.accuracy for worst in found] == [0, 0.5, 0.75, 0.75, 1]
    assert [worst.latencies_ms for worst in found] == [(math.inf,), (30,), (20,), (10,), (10,)]
    assert {worst.frames for worst in found} == {4}


def test_a_gesture_never_recognised_is_worse_than_a_slow_one(tmp_path: Path):
    labels = [[1, 1, 0, 2, 2]] * 3
    predictions = [[0, 1, 0, 0, 2], [0, 0, 0, 2, 2], [1, 1, 0, 0, 0]]
    found = evaluated(tmp_path, predictions, labels, latencies=[(20.0, 20.0), [math.inf, 10.0], torch.tensor([10.0])])
    assert [worst.path.stem for worst in found] == ["rec_1", "rec_0", "rec_2"]


def test_writes_a_page_and_a_picture_of_each_and_nothing_else(tmp_path: Path):
    labels, predictions = [[1, 1, 1, 1, 0]] * 4, [[0, 0, 0, 1, 0]] * 4
    found = evaluated(tmp_path, predictions, labels, ["a", "b & <i>", "c é", "d"], worst=3)
    out = tmp_path / "worst"
    assert sorted(path.name for path in out.iterdir()) == ["01.png", "02.png", "03.png", "index.html"]
    assert [worst.picture for worst in found] == [out / name for name in ("01.png", "02.png", "03.png")]
    for worst in found:
        with Image.open(worst.picture) as image:
            assert image.size[0] == 1440
            assert len(image.convert("RGB").getcolors(1 << 24)) > 100
    page = (out / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'src="([^"]*)"', page) == ["01.png", "02.png", "03.png"]
    assert "2. b &amp; &lt;i&gt;" in page
    assert "40.0% of 5 labelled frames right; time to prediction: 40 ms" in page


def test_a_rerun_removes_pictures_that_the_page_does_not_show_and_nothing_else(tmp_path: Path):
    labels, predictions, out = [[1, 1]] * 4, [[0, 1]] * 4, tmp_path / "worst"
    evaluated(tmp_path, predictions, labels)
    assert (out / "04.png").is_file()
    (out / "17.png").touch()  # somebody's own
    evaluated(tmp_path, predictions, labels, worst=2)
    assert sorted(path.name for path in out.iterdir()) == ["01.png", "02.png", "17.png", "index.html"]


@pytest.mark.parametrize(
    ("latency", "says"),
    [((), "; no gesture"), ((math.inf, 12.5), "to prediction: never, 12.5 ms"), (math.nan, "to prediction: not known")],
)
def test_the_page_says_how_long_it_took(tmp_path: Path, latency, says):
    evaluated(tmp_path, [[0, 1]], [[0, 1]], latencies=[latency])
    assert says in (tmp_path / "worst" / "index.html").read_text()


def test_sequences_may_come_in_pieces_and_hyper_parameters_as_a_namespace(tmp_path: Path):
    path = recording(tmp_path, "a", 5)
    vectors = (torch.arange(1, 6) * 10_000, torch.tensor([0, 1, 1, 2, 0]), torch.tensor([0, 1, 1, 1, 0]))
    pieces = [[torch.tensor([1, 1]), torch.tensor([2])]]
    rights = [[torch.tensor([1, 1]), torch.tensor([1])]]
    (found,) = evaluate_preds_seq(
        pieces, rights, {str(path): vectors}, Namespace(**HPARAMS), [10.0], out=tmp_path / "worst"
    )
    assert (found.path, found.frames) == (path, 3)
    assert found.accuracy == pytest.approx(2 / 3)


def test_a_missing_file_is_a_sentence_before_anything_is_drawn(tmp_path: Path):
    path = recording(tmp_path, "a", 2)
    gone = tmp_path / "gone.h5"
    vectors = ([10_000, 20_000], [0, 1], [1, 1])
    preds, labels = [torch.tensor([1, 1]), torch.tensor([0, 1])], [torch.tensor([1, 2]), torch.tensor([1, 1])]
    with pytest.raises(InputFileError, match=r"gone\.h5.*is not there any more"):
        evaluate_preds_seq(
            preds, labels, {str(path): vectors, str(gone): vectors}, HPARAMS, [10.0, 20.0], out=tmp_path / "worst"
        )
    assert not (tmp_path / "worst").exists()


def test_what_does_not_fit_together_is_a_sentence(tmp_path: Path):
    path = str(recording(tmp_path, "a", 2))
    vectors = {path: ([10_000, 20_000], [0, 1], [1, 1])}
    two = [torch.tensor([0, 1])]
    for arguments, says in (
        (([], two, vectors, HPARAMS, [1.0]), "preds_seq has 0 entries"),
        ((two, [], vectors, HPARAMS, [1.0]), "labels_seq has 0 entries"),
        ((two, two, vectors, HPARAMS, []), "latency_seq has 0 entries"),
        ((two, two, {}, HPARAMS, [1.0]), "res_per_recording 0 recordings"),
        ((two, [torch.tensor([0])], vectors, HPARAMS, [1.0]), "2 predictions in preds_seq and 1 labels"),
        (([], [], {}, HPARAMS, []), "labelled frame"),
        ((two, [torch.tensor([-1, -1])], vectors, HPARAMS, [1.0]), "labelled frame"),
        ((two, two, {path: ([1, 2], [0, 9], [0, 0])}, HPARAMS, [1.0]), "predictions go from 0 to 9"),
        ((two, two, vectors, {"models": "ConvRNNClassifier"}, [1.0]), "are missing"),
        ((two, two, {path: ([1, 2, 3], [0, 0, 0], [0, 0, 0])}, HPARAMS, [1.0]), "3 frames of it were predicted"),
    ):
        with pytest.raises(EdgeclfError, match=says):
            evaluate_preds_seq(*arguments, out=tmp_path / "worst")
    with pytest.raises(UsageError, match="at least 1"):
        evaluate_preds_seq(two, two, vectors, HPARAMS, [1.0], worst=0)


def test_frames_may_come_from_elsewhere(tmp_path: Path):
    class Frames:
        closed = False

        def read(self, start, stop):
            return np.ones((2, 2, 6, 8), np.float32)[start:stop]

        def close(self):
            self.closed = True

    frames, path = Frames(), tmp_path / "a_td.dat"
    path.touch()
    two = [torch.tensor([0, 1])]
    asked = []
    (found,) = evaluate_preds_seq(
        two,
        two,
        {str(path): ([10, 20], [0, 1], [0, 1])},
        HPARAMS,
        [1.0],
        out=tmp_path / "worst",
        open_frames=lambda wanted: asked.append(wanted) or frames,
    )
    assert (asked, frames.closed) == ([path], True)
    assert found.picture.is_file()
