from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgeclf.data.dataset import recordings
from edgeclf.data.sequential import SequentialDataset, VideoInfo
from edgeclf.evaluation import LogitsCollector, RecordingLogits, evaluate
from edgeclf.hyperparameters import HyperParameters
from edgeclf_runtime.tensor_file import TensorFile

SHAPE = (2, 48, 48)


def test_batches_of_any_shape_give_the_logits_of_each_recording_alone(
    blobs: Path, hyper_of_each: HyperParameters, build
) -> None:
    model = build(hyper_of_each)
    found = recordings(blobs, "test", hyper_of_each.labels, 10_000, "histo")
    alone = {}
    for recording in found:
        with TensorFile(recording.path) as file, torch.inference_mode():
            alone[recording.path.stem] = model(torch.from_numpy(file.read(0, 99))[:, None])[:, 0]
    assert len({len(logits) for logits in alone.values()}) > 1
    for batch_size, num_tbins, seed in ((1, 1, None), (2, 3, None), (3, 4, 1), (2, 50, None), (9, 5, 0)):
        results = evaluate(model, SequentialDataset(found, SHAPE, batch_size, num_tbins, seed))
        assert [result.name for result in results] == sorted(alone)
        for result, recording in zip(results, found, strict=True):
            torch.testing.assert_close(result.logits, alone[result.name], rtol=1e-4, atol=1e-5)
            assert result.labels.tolist() == recording.labels.tolist()


def test_evaluating_makes_no_graph_and_leaves_the_model_alone(blobs: Path, hyper, build) -> None:
    model = build(hyper("ConvRNN"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = recordings(blobs, "val", model_labels(hyper), 10_000, "histo")
    once = evaluate(model, SequentialDataset(found, SHAPE, 2, 3))
    again = evaluate(model, SequentialDataset(found, SHAPE, 2, 3))
    assert all(torch.equal(a.logits, b.logits) for a, b in zip(once, again, strict=True))
    assert not once[0].logits.requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def model_labels(hyper) -> tuple[str, ...]:
    return hyper("ConvRNN").labels


def test_the_collector_leaves_out_what_fills_a_batch_up() -> None:
    collector = LogitsCollector()
    logits = torch.arange(12.0).view(3, 2, 2).requires_grad_()
    labels = torch.tensor([[0, 5], [1, 5], [-1, 5]])
    infos = [VideoInfo("/x/b.h5", 0, 2, 0), VideoInfo("", 0, 0, 0)]
    batch = {"labels": labels, "video_infos": infos}
    collector.add(batch, logits)
    collector.add(batch | {"video_infos": [VideoInfo("/x/a.h5", 0, 3, 0), VideoInfo("/x/b.h5", 2, 1, 0)]}, logits)
    first, second = collector.recordings()
    assert (first.name, first.labels.tolist()) == ("a", [0, 1, -1])
    assert first.logits.tolist() == [[0, 1], [4, 5], [8, 9]]
    assert (second.name, second.labels.tolist()) == ("b", [0, 1, 5])
    assert second.logits.tolist() == [[0, 1], [4, 5], [2, 3]]
    assert not first.logits.requires_grad


def test_half_precision_logits_are_collected_as_float32() -> None:
    collector = LogitsCollector()
    batch = {"labels": torch.zeros(1, 1, dtype=torch.long), "video_infos": [VideoInfo("a.h5", 0, 1, 0)]}
    collector.add(batch, torch.ones(1, 1, 2, dtype=torch.bfloat16))
    assert collector.recordings()[0].logits.dtype == torch.float32


def test_the_result_for_the_kpis() -> None:
    result = RecordingLogits("a", torch.tensor([1, -1]), torch.tensor([[0.0, 1.0], [2.0, 0.0]])).result()
    assert result.predictions.tolist() == [1, 0]
    assert result.labels.tolist() == [1, -1]
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(2))
    assert result.probabilities[0, 1].item() == pytest.approx(1 / (1 + 2.718281828**-1))
