"""What fp32 promises, on simulated and on real recordings, of all four models with weights as after a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from edgeclf.commands.dataset import dataset as dataset_command
from edgeclf.data.labels import LABEL_MAP_FILE
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import evaluate
from edgeclf.hyperparameters import MODEL_NAMES, HyperParameters, ModelName
from edgeclf.models import Classifier
from edgeclf.training.options import hyperparameters_for
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_export.parity import ParityReport, check_parity
from edgeclf_export.parity.report import Side
from edgeclf_export.shipped import find_samples

pytestmark = pytest.mark.slow

DIGITS, OF_EACH, SIMULATED = 10, 3, 3
SMALL = {"feature_base": 4, "feature_channels_out": 16, "width_mul": 0.25}
FRAMES_SEEN = {"Mobilenetv2Classifier": 3, "SqueezenetClassifier": 3}
SPREAD = {"Mobilenetv2Classifier": 1.0}  # of the logits, else 3; its many layers add up more rounding
EQUAL = 1e-6
SAME = 1e-5  # probabilities that float32's rounding may tell apart, after a chain of layers


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of the sample data set, which are simulated; all of its classes are in each."""
    source, root = find_samples().dataset, tmp_path_factory.mktemp("gestures")
    (root / "test").mkdir()
    (root / LABEL_MAP_FILE).symlink_to(source / LABEL_MAP_FILE)
    for path in sorted((source / "test").glob("*.h5"))[:SIMULATED]:
        for name in (path.name, f"{path.stem}_bbox.npy"):
            (root / "test" / name).symlink_to(path.with_name(name))
    return root


@pytest.fixture(scope="module")
def nmnist(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nmnist")
    for digit in range(DIGITS):
        folder = root / "source" / "Test" / str(digit)
        folder.mkdir(parents=True)
        for path in sorted((shared_data / "nmnist" / "Train" / str(digit)).glob("*.bin"))[:OF_EACH]:
            (folder / path.name).symlink_to(path.resolve())
    arguments = ["nmnist", str(root / "source"), str(root / "made"), "--height-width", "48", "48", "-q"]
    ended = CliRunner().invoke(dataset_command, arguments, catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return root / "made"


def _see(model: Classifier, hyper: HyperParameters, folder: Path) -> None:
    """Gives the batch normalisations the statistics of the data, as training does."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over all batches
    model.train()
    with torch.no_grad():
        for batch in ClassificationDataModule(hyper.to_dict(), folder).sequences("test"):
            model(batch["inputs"])
    model.eval()


def _decide(model: Classifier, hyper: HyperParameters, folder: Path) -> None:
    """Gives the last layer weights by which classes take turns, and are named surely, as after a training."""
    found = evaluate(model, ClassificationDataModule(hyper.to_dict(), folder).sequences("test"))
    logits = torch.cat([recording.logits for recording in found])
    last = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))][-1]
    assert len(last.weight) == len(hyper.labels)
    assert last.bias is not None
    scale = SPREAD.get(hyper.models, 3.0) / logits.std(0).mean()
    with torch.no_grad():
        last.weight *= scale
        last.bias.copy_((last.bias - logits.mean(0)) * scale)


def _checkpoint(path: Path, name: ModelName, folder: Path) -> Path:
    torch.manual_seed(0)
    hyper = hyperparameters_for(folder, name, num_ev_reps=FRAMES_SEEN.get(name), **SMALL)
    model = hyper.build_model()
    _see(model, hyper, folder)
    _decide(model, hyper, folder)
    weights = {f"net.{name}": value for name, value in model.state_dict().items()}
    torch.save({"hyper_parameters": hyper.to_dict(), "state_dict": weights}, path)
    return path


def _by_rounding(report: ParityReport, output: int) -> float:
    """By how much an AUROC, the share of pairs in order, differs because of pairs that rounding alone tells apart."""
    orders, close = [], []
    for side in (report.reference, report.exported):
        labels, scores = _labels_and_scores(side)
        ahead = scores[labels == output, output][:, None] - scores[(labels >= 0) & (labels != output), output]
        orders.append(ahead.sign())
        close.append(ahead.abs() <= SAME)
    turned = (orders[1] - orders[0])[close[0] & close[1]]
    return float(turned.sum()) / 2 / max(orders[0].numel(), 1)  # a tie is half in order


def _labels_and_scores(side: Side) -> tuple[torch.Tensor, torch.Tensor]:
    results = [recording.result() for recording in side.recordings]
    return torch.cat([result.labels for result in results]), torch.cat([result.probabilities for result in results])


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize("data", ["simulated", "nmnist"])
def test_kpis_are_equal_and_classes_the_same_but_for_ties(
    name: ModelName, data: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(data)
    checkpoint = _checkpoint(tmp_path / "a.ckpt", name, folder)
    exported = next(iter(export_checkpoint(ExportRequest(checkpoint, tmp_path / "out")))).path
    report = check_parity(checkpoint, exported, folder)
    assert report
    named = torch.cat([recording.logits for recording in report.exported.recordings]).argmax(1)
    assert len(named.unique()) >= 3  # else it would be easy to agree
    for kpi_name, kpi in report.kpis.items():
        label = kpi_name.removeprefix("auroc_")
        explained = _by_rounding(report, report.labels.index(label)) if label in report.labels else 0.0
        assert kpi.difference == pytest.approx(explained, abs=EQUAL), (kpi_name, kpi)
    assert report.disagreements == report.ties
    assert report.max_abs_logit_difference < 1e-4
    assert report.drift is not None
    assert report.drift.largest.max() < 1e-4
    assert report.drift.verdict == "even"
