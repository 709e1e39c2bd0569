from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeclf_export.commands.demo import demo
from edgeclf_export.shipped import find_samples


def test_samples_are_small_enough_to_ship() -> None:
    samples = find_samples()
    files = [samples.checkpoint, samples.recording, *samples.dataset.rglob("*.*")]
    assert sum(path.stat().st_size for path in files) < 6_000_000


@pytest.mark.slow
def test_demo_prints_accuracy_latency_and_parity(tmp_path: Path) -> None:
    result = CliRunner().invoke(demo, ["--out", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "accuracy: " in result.stdout
    assert "p50 " in result.stdout
    assert "p99 " in result.stdout
    assert result.stdout.rstrip().endswith("parity: passed")
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    golden = ["gestures.golden.npz", "gestures.ts.golden.npz"]
    assert made == sorted([*golden, "gestures.onnx", "gestures.ts", "predictions.jsonl", "report.html"])
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert {"rock", "paper", "scissors", "background"} == {line["label"] for line in lines}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "data:image/svg+xml;base64," in page
    assert "http" not in page.replace("http-equiv", "")
