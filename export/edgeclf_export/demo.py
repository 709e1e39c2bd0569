"""The main job on what the project ships: export, stream, check parity, report."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_export.parity import ParityCheck, ParityReport
from edgeclf_export.parity.page import write_parity_page
from edgeclf_export.shipped import Samples
from edgeclf_export.stream_picture import stream_picture
from edgeclf_runtime.files import written_whole
from edgeclf_runtime.frames import open_frames
from edgeclf_runtime.latency import LatencySummary
from edgeclf_runtime.session import Classifier
from edgeclf_runtime.streaming import StreamPrediction, StreamRun


@dataclass(frozen=True)
class StreamResult:
    """What streaming a recording gave."""

    predictions: list[StreamPrediction]
    frames: list[NDArray[np.float32]]
    latency: LatencySummary | None

    @property
    def counts(self) -> Counter[str]:
        """How many frames got each label."""
        return Counter(prediction.label for prediction in self.predictions)


def stream(model: Path, recording: Path, output: Path) -> StreamResult:
    """Streams a recording through a model; the predictions go to `output`, a JSON object a line."""
    predictions, frames = [], []
    with Classifier.load(model, "cpu") as classifier:
        run = StreamRun(classifier, [open_frames(recording, classifier.contract)])
        for prediction in run:
            assert run.frame is not None
            predictions.append(prediction)
            frames.append(run.frame)
    for failure in run.failures.values():
        raise failure
    with written_whole(output) as temporary:
        lines = [json.dumps(prediction.to_dict(), ensure_ascii=False) for prediction in predictions]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return StreamResult(predictions, frames, run.statistics.latency.summary())


def export_sample(samples: Samples, out: Path) -> Path:
    """Exports the sample checkpoint to ONNX and TorchScript; returns the ONNX file."""
    files = list(export_checkpoint(ExportRequest(samples.checkpoint, out, ("onnx", "torchscript"))))
    return files[0].path


def sample_parity(samples: Samples, model: Path) -> ParityCheck:
    """Returns the parity check of the exported sample on the sample data set."""
    return ParityCheck(samples.checkpoint, model, samples.dataset)


def write_demo_report(path: Path, samples: Samples, streamed: StreamResult, parity: ParityReport) -> None:
    """Writes the demo's page: the summary, the stream's picture, the KPIs."""
    facts = [
        ("checkpoint", samples.checkpoint.name),
        ("recording", samples.recording.name),
        ("frames", str(len(streamed.predictions))),
    ]
    if streamed.latency is not None:
        facts.append(("latency a frame", f"p50 {streamed.latency.p50_us:.0f} µs, p99 {streamed.latency.p99_us:.0f} µs"))
    picture = stream_picture(streamed.frames, streamed.predictions, parity.labels)
    caption = f"{samples.recording.name}: event frames, and the probability of each class over time."
    write_parity_page(path, parity, facts, (picture, caption))
