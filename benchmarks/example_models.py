"""The classifiers and event frames that benchmarks measure with: random weights, and frames of a real recording."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.benchmark.real_frames import equal_slices, scaled
from edgeclf_runtime.events import Events, open_recording
from edgeclf_runtime.frames import FrameMaker
from edgeclf_runtime.precision import Precision

if TYPE_CHECKING:  # the measured processes load no PyTorch
    from edgeclf.hyperparameters import ModelName

CLASSES = ("paper", "rock", "scissor")
ROOT = Path(__file__).parents[1]
DEFAULT_SAMPLES = Path(os.environ.get("EDGECLF_TEST_DATA", ROOT.parent / "shared" / "data"))


def recording_of(samples: Path) -> Path:
    """Returns the real EVT3 recording, else `samples/gestures.raw`."""
    evt3 = samples / "recordings" / "evt3_sample.raw"
    return evt3 if evt3.is_file() else ROOT / "samples" / "gestures.raw"


def event_frames(samples: Path, height: int, width: int, count: int) -> tuple[NDArray[np.float32], str]:
    """Returns `count` event frames `[count, 2, height, width]` and the name of the recording that they are of.

    The coordinates are scaled to the frame, and the whole recording's time is cut into equal slices.
    """
    path = recording_of(samples)
    recording = open_recording(path)
    events = Events.concatenate(scaled(recording, recording.sensor_size, (width, height)))
    pieces = equal_slices(events, count)
    make = FrameMaker("histo", {}, pieces[0].end_us - pieces[0].start_us, (width, height))
    return np.stack([make(piece) for piece in pieces]), path.name


def export_random(
    model: ModelName,
    folder: Path,
    size: tuple[int, int],
    frames: NDArray[np.float32] | None = None,
    num_ev_reps: int = 1,
    delta_t: int = 10_000,
) -> dict[Precision, Path]:
    """Writes a model with random weights as ONNX.

    Args:
        model: Its class.
        folder: Where to.
        size: Rows and columns of its frames.
        frames: What int8's ranges are chosen by, `[N, C, H, W]`; None: fp32 only.
        num_ev_reps: Frames that a feed-forward model looks at.
        delta_t: Duration of its frames in µs.
    """
    import torch

    from edgeclf.checkpoint import load_checkpoint
    from edgeclf.hyperparameters import HyperParameters, model_classes
    from edgeclf_export.formats import FORMATS, ExportJob, ExportOptions
    from edgeclf_export.step_graph import contract_of

    height, width = size
    hyper = HyperParameters(
        models=model,
        classes=model_classes(model, CLASSES),
        height=height,
        width=width,
        delta_t=delta_t,
        preprocess="histo",
        event_input_height=height,
        event_input_width=width,
        num_ev_reps=num_ev_reps,
    )
    torch.manual_seed(0)
    weights = {f"net.{name}": value for name, value in hyper.build_model().state_dict().items()}
    checkpoint = folder / f"{model}.ckpt"
    torch.save({"hyper_parameters": hyper.to_dict(), "state_dict": weights}, checkpoint)
    loaded = load_checkpoint(checkpoint)
    classifier = loaded.build_model()
    onnx = FORMATS["onnx"]
    written: dict[Precision, Path] = {}
    for precision in onnx.precisions if frames is not None else ("fp32",):
        path = folder / onnx.path(model, precision)
        contract = onnx.contract(replace(contract_of(loaded, classifier), precision=precision), ExportOptions())
        calibration = [frames] if precision == "int8" and frames is not None else []
        onnx.write(ExportJob(classifier, contract, calibration), path)
        written[precision] = path
    return written
