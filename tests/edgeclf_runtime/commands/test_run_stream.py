from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import pytest
import torch

FIELDS = [
    "stream", "source", "frame", "t_us", "class_id", "label", "score", "accepted", "probabilities", "reset",
    "latency_us",
]  # fmt: skip


def test_lines_on_standard_output(
    edgeclf, write_model, recording, random_events, by_loop, outputs_by_hand, lines_of, without_latency
):
    ended = edgeclf("run-stream", write_model(), recording, "--threshold", "0.4")

    events = random_events(600, 30_000, 1, start=120_000) + random_events(400, 20_000, 2, start=160_000)
    frames = torch.from_numpy(by_loop(events, 120_000, 180_000))
    _, probabilities = outputs_by_hand(torch.nn.functional.interpolate(frames, (12, 16), mode="area").numpy())
    labels = ("background", "paper", "rock", "scissors")
    best = probabilities.argmax(axis=1).tolist()
    assert ended.code == 0
    assert ended.out.count("\n") == 6
    found = lines_of(ended.out)
    assert [list(line) for line in found] == [FIELDS] * 6
    assert without_latency(found) == [
        {
            "stream": 0,
            "source": str(recording),
            "frame": k,
            "t_us": 130_000 + 10_000 * k,
            "class_id": best[k],
            "label": labels[best[k]],
            "score": pytest.approx(float(probabilities[k].max()), abs=1e-5),
            "accepted": best[k] != 0 and bool(probabilities[k].max() >= 0.4),
            "probabilities": pytest.approx(probabilities[k].tolist(), abs=1e-5),
            "reset": k == 0,
        }
        for k in range(6)
    ]
    assert all(type(line["latency_us"]) is int and 0 < line["latency_us"] < 10**6 for line in found)
    # Names as they are, not as \\u escapes: people read this.
    assert "a ä.dat" in ended.out


def test_summary_on_standard_error(edgeclf, write_model, recording, lines_of):
    ended = edgeclf("run-stream", write_model(), recording, "--device", "cpu", "--memory", "every:4")
    lines = ended.err.splitlines()
    counted = Counter(line["label"] for line in lines_of(ended.out))
    predictions = ", ".join(f"{label} {count}" for label, count in counted.most_common())
    assert lines[:4] == [
        f"{recording}: memory policy every 4 frames.",
        f"{'source':{len(str(recording))}}  frames  misses  drops  merges  resets  stalls  predictions",
        f"{recording}  6       0       0      0       2       0       {predictions}",
        "",
    ]
    assert lines[4].split() == ["µs", "p50", "p95", "p99", "max"]
    assert [line.split()[0] for line in lines[5:10]] == ["latency", "decode", "preprocess", "inference", "output"]
    assert re.fullmatch(r"6 frames in \d+\.\d\d s on cpu, \d+\.\d\d times the sensor's time", lines[10])
    assert len(lines) == 11


def test_quiet(edgeclf, write_model, recording, lines_of):
    ended = edgeclf("run-stream", write_model(), recording, "-q")
    assert (ended.code, ended.err, len(lines_of(ended.out))) == (0, "", 6)


def test_json_summary(edgeclf, write_model, recording, tensors, tmp_path, lines_of):
    path = tmp_path / "summary.json"
    ended = edgeclf("run-stream", write_model(), recording, tensors, "--device", "cpu", "--json", path)
    found = lines_of(ended.out)
    assert len(found) == 10
    summary = json.loads(path.read_text(encoding="utf-8"))
    assert list(summary) == ["device", "frames", "duration_s", "real_time_factor", "latency", "stages", "streams"]
    assert (summary["device"], summary["frames"]) == ("cpu", 10)
    assert summary["real_time_factor"] == pytest.approx(0.06 / summary["duration_s"], rel=1e-3)
    for i, (source, frames) in enumerate(((recording, 6), (tensors, 4))):
        assert summary["streams"][i] == {
            "source": str(source),
            "frames": frames,
            "predictions": Counter(line["label"] for line in found if line["stream"] == i),
            "misses": 0,
            "drops": 0,
            "merges": 0,
            "resets": 1,
            "stalls": 0,
            "damage": {},
            "memory": "never",
            "failure": None,
        }
    latencies = [line["latency_us"] for line in found]
    assert summary["latency"]["frames"] == 10
    assert summary["latency"]["p50_us"] == pytest.approx(np.median(latencies), rel=0.02, abs=1)
    assert summary["latency"]["max_us"] == pytest.approx(max(latencies), abs=1)
    # Frames of both streams go together while both last.
    assert {name: stage["frames"] for name, stage in summary["stages"].items()} == {
        "decode": 10, "preprocess": 10, "inference": 6, "output": 10,
    }  # fmt: skip
    for stage in summary["stages"].values():
        assert 0 < stage["p50_us"] <= stage["p95_us"] <= stage["p99_us"] <= stage["max_us"]


def test_streams_in_time_order_and_as_each_alone(edgeclf, write_model, recording, tensors, lines_of, without_latency):
    model = write_model()
    together = lines_of(edgeclf("run-stream", model, tensors, recording).out)
    assert [(line["frame"], line["stream"]) for line in together] == [
        (k, i) for k in range(6) for i, count in enumerate([4, 6]) if k < count
    ]
    for i, source in enumerate((tensors, recording)):
        alone = without_latency(lines_of(edgeclf("run-stream", model, source).out))
        assert without_latency(line for line in together if line["stream"] == i) == [
            line | {"stream": i} for line in alone
        ]


def test_start_and_duration(edgeclf, write_model, recording, lines_of):
    ended = edgeclf("run-stream", write_model(), recording, "--start-ts", "135000", "--max-duration-ms", "25")
    assert [line["t_us"] for line in lines_of(ended.out)] == [145_000, 155_000, 165_000]


@pytest.mark.parametrize("name", ["evt2", "evt3"])
def test_real_recordings(edgeclf, shared_data, write_model, name, lines_of):
    model = write_model(delta_t=1_000, sensor_size=(640, 480))
    ended = edgeclf(
        "run-stream", model, shared_data / "recordings" / f"{name}_sample.raw",
        *(["--sensor-size", 640, 480] if name == "evt2" else []),
    )  # fmt: skip
    assert ended.code == 0
    t = np.load(shared_data / "recordings" / f"{name}_sample.npz")["t"]
    assert [line["t_us"] for line in lines_of(ended.out)] == list(
        range(int(t[0]) // 1000 * 1000 + 1000, int(t[-1]) // 1000 * 1000 + 1001, 1000)
    )
    assert ("is squeezed into frames" in ended.err) == (name == "evt3")


@pytest.mark.parametrize(
    "options",
    [
        ["--threshold", "1.5"],
        ["--threshold", "x"],
        ["--device", "tpu"],
        ["--threads", "0"],
        ["--max-duration-ms", "0"],
        ["--sensor-size", "0", "5"],
        ["--no-such-option"],
    ],
)
def test_wrong_option(edgeclf, write_model, recording, options):
    ended = edgeclf("run-stream", write_model(), recording, *options)
    assert (ended.code, ended.out) == (2, "")
    assert options[0] in ended.error


def test_no_source_given(edgeclf, write_model):
    ended = edgeclf("run-stream", write_model())
    assert (ended.code, ended.out) == (2, "")
    assert "There is no SOURCE" in ended.error
    assert "--self-test" in ended.error


def test_help_has_a_worked_example(edgeclf):
    ended = edgeclf("run-stream", "--help")
    assert ended.code == 0
    assert "Example: edgeclf run-stream gestures.onnx recording.raw" in " ".join(ended.out.split())
    for option in (
        "--device", "--output", "--threshold", "--realtime", "--sensor-size", "--start-ts", "--max-duration-ms",
        "--threads", "--self-test", "--json", "--quiet", "--verbose",
    ):  # fmt: skip
        assert option in ended.out
