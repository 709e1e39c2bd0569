from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgeclf.data.dataset import recordings
from edgeclf.data.plan import SequentialPlan
from edgeclf.data.sequential import RecordingDataset, VideoInfo
from edgeclf.evaluation import LogitsCollector, RecordingLogits, evaluate, unroll_batch
from edgeclf.hyperparameters import HyperParameters
from edgeclf.models.feed_forward import FeedForwardClassifier
from edgeclf_runtime.tensor_file import TensorFile

SHAPE = (2, 48, 48)


def sequential_dataset(recordings, shape, *arguments, **named) -> RecordingDataset:
    plan = SequentialPlan(list(map(len, recordings)), *arguments, **named)
    return RecordingDataset(recordings, shape, plan)


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
        results = evaluate(model, sequential_dataset(found, SHAPE, batch_size, num_tbins, seed))
        assert [result.name for result in results] == sorted(alone)
        for result, recording in zip(results, found, strict=True):
            torch.testing.assert_close(result.logits, alone[result.name], rtol=1e-4, atol=1e-5)
            assert result.labels.tolist() == recording.labels.tolist()
            assert result.path == str(recording.path)
            assert result.end_us.tolist() == [10_000 * (k + 1) for k in range(len(recording))]


def test_evaluating_makes_no_graph_and_leaves_the_model_alone(blobs: Path, hyper, build) -> None:
    model = build(hyper("ConvRNN"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = recordings(blobs, "val", model_labels(hyper), 10_000, "histo")
    once = evaluate(model, sequential_dataset(found, SHAPE, 2, 3))
    again = evaluate(model, sequential_dataset(found, SHAPE, 2, 3))
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
    later = [VideoInfo("/x/a_td.dat", 0, 3, 0, (7, 9, 12)), VideoInfo("/x/b.h5", 2, 1, 0)]
    collector.add(batch | {"video_infos": later}, logits)
    first, second = collector.recordings()
    assert (first.name, first.labels.tolist()) == ("a", [0, 1, -1])
    assert first.logits.tolist() == [[0, 1], [4, 5], [8, 9]]
    assert (second.name, second.labels.tolist()) == ("b", [0, 1, 5])
    assert second.logits.tolist() == [[0, 1], [4, 5], [2, 3]]
    assert not first.logits.requires_grad
    assert (first.path, first.end_us.tolist()) == ("/x/a_td.dat", [7, 9, 12])
    assert (second.path, second.end_us) == ("/x/b.h5", None)


# --- rows that fill a batch up, and windows


class Watched(FeedForwardClassifier):
    """Remembers how many frames its network has seen."""

    def __init__(self, num_ev_reps: int) -> None:
        super().__init__(
            nn.Sequential(nn.Flatten(), nn.Linear(2 * num_ev_reps * 4 * 4, 3)), 2 * num_ev_reps, 3, num_ev_reps
        )
        self.seen: list[int] = []
        self.model.register_forward_hook(lambda _, given, __: self.seen.append(len(given[0])))


def windows(frames: int, present: list[bool]) -> dict:
    rows = len(present)
    inputs = torch.rand(frames, rows, 2, 4, 4)
    inputs[:, [row for row in range(rows) if not present[row]]] = 0
    return {
        "inputs": inputs,
        "labels": torch.zeros(1, rows, dtype=torch.long),
        "mask_keep_memory": torch.zeros(rows, 1, 1, 1),
        "frame_is_labeled": torch.ones(1, rows, dtype=torch.bool),
        "video_infos": [VideoInfo("a.h5", 5, 1, 0) if there else VideoInfo("", 0, 0, 0) for there in present],
    }


@pytest.mark.parametrize("frames", [1, 3])
def test_a_window_gives_the_logits_of_its_last_frame_and_the_network_runs_on_no_other(frames: int) -> None:
    model, batch = Watched(frames), windows(frames, [True, False, True])
    stale = {name: torch.rand_like(value) for name, value in model.initial_state(3, 4, 4).items()}
    for memory in (None, stale):
        model.seen.clear()
        logits, _ = unroll_batch(model, batch, memory)
        assert model.seen == [2]
        expected = model(batch["inputs"])[-1:]
        torch.testing.assert_close(logits[:, [0, 2]], expected[:, [0, 2]])
        assert logits.shape == (1, 3, 3)
        assert not logits[:, 1].any()


def test_a_recurrent_model_runs_through_a_window(hyper, build) -> None:
    model = build(hyper("ConvRNN"))
    batch = windows(4, [True, True])
    batch["inputs"] = torch.rand(4, 2, 2, 48, 48)
    with torch.inference_mode():
        logits, _ = unroll_batch(model, batch, None)
        torch.testing.assert_close(logits, model(batch["inputs"])[-1:])


def test_frames_after_a_recordings_end_leave_no_trace(hyper_of_each: HyperParameters, build) -> None:
    """In training, batch normalisation sees the recordings' frames alone: three of one row, one of the other."""
    frames = torch.rand(3, 2, 2, 48, 48)
    batch = {
        "inputs": frames,
        "labels": torch.zeros(3, 2, dtype=torch.long),
        "mask_keep_memory": torch.zeros(2, 1, 1, 1),
        "frame_is_labeled": torch.ones(3, 2, dtype=torch.bool),
        "video_infos": [VideoInfo("a.h5", 0, 3, 0), VideoInfo("b.h5", 0, 1, 0)],
    }
    garbage = frames.clone()
    garbage[1:, 1] = 100
    of_models = []
    for inputs in (frames, garbage):
        torch.manual_seed(0)
        model = build(hyper_of_each).train()
        seen: list[int] = []
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.register_forward_hook(lambda _, given, __, seen=seen: seen.append(len(given[0])))
        torch.manual_seed(1)  # of dropout
        logits, _ = unroll_batch(model, batch | {"inputs": inputs}, None)
        assert set(seen) <= {4}
        of_models.append([logits[:, 0], logits[:1, 1], *model.buffers()])
    for found, right in zip(*of_models, strict=True):
        torch.testing.assert_close(found, right, rtol=0, atol=0)


@pytest.mark.parametrize("memory", [False, True])
def test_a_batch_without_a_row_does_not_reach_the_network(hyper_of_each: HyperParameters, build, memory: bool) -> None:
    model = build(hyper_of_each).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = {
        "inputs": torch.zeros(4, 2, 2, 48, 48),
        "labels": torch.full((4, 2), -1),
        "mask_keep_memory": torch.zeros(2, 1, 1, 1),
        "frame_is_labeled": torch.zeros(4, 2, dtype=torch.bool),
        "video_infos": [VideoInfo("", 0, 0, 0)] * 2,
    }
    state = {name: torch.rand_like(value) for name, value in model.initial_state(2, 48, 48).items()}
    logits, after = unroll_batch(model, batch, state if memory else None)
    assert torch.equal(logits, torch.zeros(4, 2, 3))
    assert after.keys() == state.keys()
    assert all(torch.equal(after[name], torch.zeros_like(state[name])) for name in state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_recordings_shared_by_several_processes_are_the_same_recordings(blobs: Path, hyper, build) -> None:
    model = build(hyper("ConvRNN"))
    found = recordings(blobs, "test", model_labels(hyper), 10_000, "histo")
    alone = evaluate(model, sequential_dataset(found, SHAPE, 2, 3))
    shared = [
        result
        for rank in range(4)
        for result in evaluate(model, sequential_dataset(found, SHAPE, 2, 3, rank=rank, world_size=4))
    ]
    for one, other in zip(alone, sorted(shared, key=lambda result: result.path), strict=True):
        assert one.path == other.path
        torch.testing.assert_close(one.logits, other.logits, rtol=1e-4, atol=1e-5)


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
