from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeclf_export.benchmark import advice
from edgeclf_export.benchmark.advice import AdviceRequest, advise
from edgeclf_export.benchmark.recommend import Choice
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_runtime.benchmark.candidates import Contender
from edgeclf_runtime.benchmark.results import Result
from edgeclf_runtime.benchmark.statistics import summed_up
from edgeclf_runtime.errors import DeviceError, InputFileError
from edgeclf_runtime.machine.providers import RuntimeReport

Measured = dict[Choice, Result]


@pytest.fixture(scope="module")
def model(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    return next(iter(export_checkpoint(ExportRequest(checkpoints["ConvRNNClassifier"], out)))).path


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Contender]:
    """What was given to be measured; each takes as long as it is far back, and the second fails."""
    seen: list[Contender] = []

    def measure(contenders: list[Contender], *_: object) -> tuple[list[Result], list[tuple[str, str]]]:
        seen.extend(contenders)
        results = [
            Result(one.setting, summed_up(np.full((2, 2, 2), 100.0 + k)), 1, 1, 1, 1, 1)
            for k, one in enumerate(contenders)
            if k != 1
        ]
        return results, [(contenders[1].setting.name, "It died.")]

    monkeypatch.setattr(advice, "measure", measure)
    monkeypatch.setattr(advice, "usable_cores", lambda: 6)
    found = {"CUDAExecutionProvider": None, "CPUExecutionProvider": None}
    monkeypatch.setattr(advice, "probe_runtime", lambda: RuntimeReport("onnxruntime", found))
    monkeypatch.setattr(advice, "_kpis", lambda *_: {"accuracy": 1.0})
    return seen


@pytest.fixture
def request_of(model: Path, dataset: Path, shared_data: Path) -> Callable[..., AdviceRequest]:
    recording = shared_data / "recordings" / "evt2_sample.raw"
    return lambda **given: AdviceRequest([model], dataset, recording, **given)


def unwatched(_what: str, _done: int, _of: int) -> None:
    pass


@pytest.mark.parametrize(
    ("device", "places"),
    [
        ("cpu", [("cpu", 1), ("cpu", 2), ("cpu", 4), ("cpu", 6)]),
        ("auto", [("cpu", 1), ("cpu", 2), ("cpu", 4), ("cpu", 6), ("cuda", 6)]),
    ],
)
def test_what_is_tried(
    request_of: Callable[..., AdviceRequest], tried: list[Contender], device: str, places: list[tuple[str, int]]
) -> None:
    found = advise(request_of(device=device), unwatched)
    assert [(one.setting.device, one.setting.threads) for one in tried] == places
    # What failed is left out, and each of the others keeps its own result.
    shown = {(row.choice.device, row.choice.threads or 6): row.result.latencies.p50_us for row in found.rows}
    assert shown == {place: 100.0 + k for k, place in enumerate(places) if k != 1}


def test_a_device_that_does_not_start(
    request_of: Callable[..., AdviceRequest], tried: list[Contender], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"CUDAExecutionProvider": "no driver", "CPUExecutionProvider": None}
    monkeypatch.setattr(advice, "probe_runtime", lambda: RuntimeReport("onnxruntime", found))
    with pytest.raises(DeviceError, match="does not start here: no driver"):
        advise(request_of(device="cuda"), unwatched)
    assert not tried


def test_a_data_set_that_is_not_there_is_found_first(
    model: Path, tmp_path: Path, shared_data: Path, tried: list[Contender]
) -> None:
    recording = shared_data / "recordings" / "evt2_sample.raw"
    with pytest.raises(InputFileError):
        advise(AdviceRequest([model], tmp_path / "no", recording), unwatched)
    assert not tried


def test_frames_are_decoded_once_a_file(
    request_of: Callable[..., AdviceRequest], tried: list[Contender], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    monkeypatch.setattr(advice, "event_frames", lambda *given: decoded.append(given))
    advise(request_of(), unwatched)
    assert len(decoded) == 1 < len(tried)
