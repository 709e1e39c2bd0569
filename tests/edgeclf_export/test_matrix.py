"""Every format, of every model, in every precision that it has, by the registry: exported, proved, put in place."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edgeclf_export.accuracy import DataSet
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_export.formats import FORMATS
from edgeclf_runtime.contract_file import read_contract
from edgeclf_runtime.golden import golden_path
from edgeclf_runtime.precision import Precision

_FILES = [(name, precision) for name, known in FORMATS.items() for precision in known.precisions]


@pytest.mark.slow
@pytest.mark.parametrize(("format_", "precision"), _FILES)
@pytest.mark.parametrize(
    "model", ["ConvRNNClassifier", "LeNetClassifier", "Mobilenetv2Classifier", "SqueezenetClassifier"]
)
def test_every_format_of_every_model(
    model: str,
    format_: str,
    precision: Precision,
    checkpoints: dict[str, Path],
    dataset: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # These networks were never trained, so that classes are told apart by less than int8 keeps: what counts here is
    # the validation, not the accuracy.
    data = DataSet(dataset, calibration_split="test", max_accuracy_drop=1.0)
    request = ExportRequest(checkpoints[model], tmp_path, (format_,), (precision,), data=data)
    with caplog.at_level(logging.INFO, logger="edgeclf_export"):
        (file,) = export_checkpoint(request)
    assert file.path == tmp_path / FORMATS[format_].path(model, precision)
    assert file.validation
    assert file.validation.steps >= 50
    assert file.validation.outputs.keys() == set(file.contract.output_names)
    assert (file.accuracy is None) == (precision == "fp32")
    assert golden_path(file.path).is_file()
    assert read_contract(file.path) == file.contract
    assert not list(tmp_path.glob(".*"))
    assert f"{file.path}: written in " in caplog.text
