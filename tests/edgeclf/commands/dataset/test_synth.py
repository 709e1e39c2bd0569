from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeclf.data.dataset import recordings


@pytest.mark.slow
def test_synth(tmp_path: Path, run) -> None:
    out = tmp_path / "gesten é"
    ran = run(
        "dataset", "synth", out, "--recordings", 0, 1, 0, "--seed", 2, "--height-width", 32, 48, "--num-workers", 1,
        "--json", tmp_path / "said.json",
    )  # fmt: skip
    assert (ran.code, ran.out) == (0, ""), ran.err
    assert ran.err == f"{out}: 0 recordings for train, 1 for val, 0 for test\n"
    assert json.loads((tmp_path / "said.json").read_text()) == {
        "out": str(out), "seed": 2, "recordings": {"train": 0, "val": 1, "test": 0}, "names": ["gestures_0000"],
    }  # fmt: skip
    assert (out / "raw" / "val" / "gestures_0000.raw").is_file()
    (recording,) = recordings(out, "val", ("background", "paper", "rock", "scissors"), 20_000, "histo")
    assert recording.frame_shape == (2, 32, 48)
    assert len(set(recording.labels.tolist())) > 1


def test_wrong_usage_of_synth(tmp_path: Path, run) -> None:
    (tmp_path / "file").touch()
    for arguments, says in (
        ([tmp_path / "file", "--recordings", 1, 0, 0], "file"),
        ([tmp_path / "out", "--seed", -1], "--seed"),
        ([tmp_path / "out", "--store-as-uint8", "--preprocess", "diff"], "cannot be stored as uint8"),
        ([tmp_path / "out", "--height-width", 64, 321], "would have to be enlarged"),
        ([tmp_path / "out", "--recordings", 0, 0, 0], "A data set needs recordings"),
        ([tmp_path / "out", "--preprocess", "timesurface", "--max-incr-per-pixel", 2], "does not take max_incr"),
        ([tmp_path / "out", "--json", tmp_path / "file" / "a.json"], "file is no folder"),
    ):
        ran = run("dataset", "synth", *arguments)
        assert (ran.code, ran.out) == (2, ""), says
        assert says in ran.err
        assert [path.name for path in tmp_path.iterdir()] == ["file"], "nothing is made"
