"""Makes the samples: data set, checkpoint, short recording, picture, and the page that says how it went.

    python samples/make.py [--work DIR] [--epochs N] [--keep-checkpoint]

Everything follows from the seeds below; on another machine or with another torch the weights differ a little.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import lightning
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data.conversion import FrameRecipe
from edgeclf.data.raw_writer import write_recording
from edgeclf.data.synth import GESTURES, SAMPLE_CONFIG, simulate_recording
from edgeclf.data.synth.dataset import SENSOR_SIZE, SplitSizes, synthesise
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import evaluate
from edgeclf.training import TrainerOptions, hyperparameters_for, train
from edgeclf.utils_metrics import compute_kpis
from edgeclf_export.demo import export_sample, stream
from edgeclf_export.shipped import find_samples
from edgeclf_export.stream_picture import stream_picture

SAMPLES = Path(__file__).resolve().parent
PICTURE = SAMPLES.parent / "docs" / "images" / "demo.png"
SEED = 1
SIZES = SplitSizes(train=96, val=16, test=24)
SHIPPED = 6
RECORDING_SEED = 2
RECIPE = FrameRecipe("histo", {"max_incr_per_pixel": 5.0}, delta_t=20_000, frame_size=(64, 64))


def main() -> None:
    """Makes everything, and prints where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="where the data set and the training go; kept, and reused if there")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--keep-checkpoint", action="store_true", help="make only the recording and the picture anew")
    options = parser.parse_args()
    if not options.keep_checkpoint:
        make_checkpoint(options)
    ship_recording()
    draw_picture()


def make_checkpoint(options: argparse.Namespace) -> None:
    """Simulates the data set, trains, and ships the checkpoint, part of the data set, and the page."""
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        dataset = work / "gestures"
        if not dataset.is_dir():
            started = time.monotonic()
            for name in synthesise(dataset, SIZES, RECIPE, SEED, os.cpu_count() or 1):
                print(name, end=" ", flush=True)
            print(f"\nsimulated in {time.monotonic() - started:.0f} s")
        started = time.monotonic()
        hyper = hyperparameters_for(
            dataset, "ConvRNNClassifier", feature_base=4, feature_channels_out=32, lr=3e-3, wd=1e-2, num_tbins=16
        )
        result = train(
            dataset,
            work / "run",
            hyper,
            TrainerOptions(max_epochs=options.epochs, seed=SEED, progress_bar=sys.stderr.isatty()),
            overwrite=True,
        )
        minutes = (time.monotonic() - started) / 60
        checkpoint = ship_checkpoint(result.best)
        ship_dataset(dataset)
        write_page(kpis_of(checkpoint, dataset), minutes, options.epochs)


def ship_checkpoint(best: Path) -> Path:
    """Keeps what export needs of a checkpoint: hyper-parameters and weights, without the optimiser's state."""
    loaded = load_checkpoint(best)
    target = SAMPLES / "gestures.ckpt"
    weights = {f"net.{name}": value for name, value in loaded.weights.items()}
    torch.save({"hyper_parameters": loaded.hyperparameters.to_dict(), "state_dict": weights}, target)
    return target


def ship_dataset(dataset: Path) -> None:
    """Copies the first recordings of the test split."""
    target = SAMPLES / "gestures"
    shutil.rmtree(target, ignore_errors=True)
    (target / "test").mkdir(parents=True)
    shutil.copy(dataset / "label_map_dictionary.json", target)
    for path in sorted((dataset / "test").glob("*.h5"))[:SHIPPED]:
        shutil.copy(path, target / "test")
        shutil.copy(path.with_name(f"{path.stem}_bbox.npy"), target / "test")


def ship_recording() -> None:
    """Simulates a short recording of its own: rock, paper, scissors."""
    gestures = [GESTURES.index(name) for name in ("rock", "paper", "scissors")]
    recording = simulate_recording(RECORDING_SEED, gestures, SAMPLE_CONFIG)
    write_recording(SAMPLES / "gestures.raw", [recording.events], SENSOR_SIZE)


def kpis_of(checkpoint: Path, dataset: Path) -> dict[str, float]:
    """Returns the KPIs of the shipped checkpoint on the whole test split."""
    loaded = load_checkpoint(checkpoint)
    hyper = loaded.hyperparameters
    batches = ClassificationDataModule(hyper.to_dict(), dataset).sequences("test")
    results = [recording.result() for recording in evaluate(loaded.build_model(), batches)]
    return compute_kpis(results, hyper.labels, hyper.delta_t)


def write_page(kpis: dict[str, float], minutes: float, epochs: int) -> None:
    """Writes samples/README.md with what this run measured."""
    rows = "\n".join(f"| `{name}` | {value:.4f} |" for name, value in kpis.items())
    (SAMPLES / "README.md").write_text(
        f"""# The samples

Written by `python samples/make.py`, which simulates the data set, trains, and writes this page.

- `gestures.ckpt`: ConvRNN (`feature_base` 4, `feature_channels_out` 32) for 64×64 frames every 20 ms, trained for
  {epochs} epochs on {SIZES.train} simulated recordings; without the optimiser's state.
- `gestures.raw`: a short EVT3 recording, 320×320 pixels: rock, paper, scissors between pauses.
- `gestures/`: the first {SHIPPED} of the {SIZES.test} test recordings, for the demo's parity check.

Training took {minutes:.1f} minutes on {os.cpu_count()} cores (torch {torch.__version__}, Lightning
{lightning.__version__}). On the whole test split of {SIZES.test} recordings:

| KPI | value |
| --- | --- |
{rows}
""",
        encoding="utf-8",
    )


def draw_picture() -> None:
    """Streams the short recording through the exported checkpoint and draws it for the project's first page."""
    samples = find_samples()
    labels = load_checkpoint(samples.checkpoint).hyperparameters.labels
    with tempfile.TemporaryDirectory() as temporary:
        model = export_sample(samples, Path(temporary))
        streamed = stream(model, samples.recording, Path(temporary) / "predictions.jsonl")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    stream_picture(streamed.frames, streamed.predictions, labels).savefig(PICTURE, dpi=160)
    print(f"{SAMPLES}, {PICTURE}")


if __name__ == "__main__":
    main()
