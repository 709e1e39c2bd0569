"""Frames made inside the graph, against the runtime's and against a loop that adds the events one at a time."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn.functional import interpolate

from edgeclf_export.events_graph import frame_model, joined
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.preprocessing import area_resize, create_preprocessing, preprocessing_names
from edgeclf_runtime.slicing import slices

OPSET = 18
INT64 = np.iinfo(np.int64)


def contract_for(name, sensor_size, frame_size=None, **arguments):
    """Returns the contract of a model without memory; frames as the preprocessing makes them unless a size is given."""
    factor = arguments.get("downsampling_factor", 0)
    made = (sensor_size[1] >> factor, sensor_size[0] >> factor)
    return Contract(
        architecture="Mobilenetv2Classifier",
        labels=("background", "left"),
        delta_t=10_000,
        preprocess=name,
        preprocess_kwargs=arguments,
        sensor_size=sensor_size,
        frame_shape=(2 if name == "histo" else 1, *(frame_size or made)),
        state=(),
        precision="fp32",
        opset=OPSET,
        takes="events",
        batch=1,
    )


def session_of(model, options=None):
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def one_by_one(rows, contract):
    """The definition, in float64: a loop over the events that clips after each, then PyTorch's area interpolation."""
    width, height = contract.sensor_size
    factor = contract.preprocess_kwargs.get("downsampling_factor", 0)
    step = 1 / (contract.preprocess_kwargs.get("max_incr_per_pixel", 5.0) * 4**factor)
    frame = np.zeros((contract.frame_shape[0], height >> factor, width >> factor))
    for x, y, p, _ in rows.tolist():
        column, row = x >> factor, y >> factor
        if p not in (0, 1) or not (0 <= column < frame.shape[2] and 0 <= row < frame.shape[1]):
            continue
        if contract.preprocess == "histo":
            frame[p, row, column] = min(frame[p, row, column] + step, 1.0)
        else:
            frame[0, row, column] = min(max(frame[0, row, column] + (step if p else -step), -1.0), 1.0)
    return interpolate(torch.from_numpy(frame)[None], size=contract.frame_shape[1:], mode="area").numpy()


def by_the_runtime(rows, contract):
    """The runtime's frame of events that all lie in 16 bits and have a polarity of 0 or 1."""
    x, y, p, t = rows.T
    made = create_preprocessing(
        contract.preprocess, contract.sensor_size, contract.delta_t, **contract.preprocess_kwargs
    )
    events = Events(t.astype(np.int64), x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8))
    return area_resize(made(events, 0), *contract.frame_shape[1:])[None]


def assert_right(rows, contract):
    """Holds the graph's frame of these events against both."""
    model = frame_model(contract, OPSET)
    (frame,) = session_of(model).run(["frames"], {"events": rows})
    assert frame.dtype == np.float32
    assert frame.shape == (1, *contract.frame_shape)
    np.testing.assert_allclose(frame, one_by_one(rows, contract), rtol=0, atol=1e-6)
    np.testing.assert_allclose(frame, by_the_runtime(rows, contract), rtol=0, atol=3e-7)
    return frame


def table(x, y, p):
    rows = np.stack([np.asarray(x), np.asarray(y), np.asarray(p), np.arange(len(x))], axis=1)
    return rows.astype(np.int64)


@pytest.fixture(params=["histo", "diff"])
def name(request):
    return request.param


@pytest.mark.parametrize("downsampling_factor", [0, 1, 2])
@pytest.mark.parametrize("max_incr_per_pixel", [5, 1, 2.5, 0.4, 17.3])
# From a frame nearly empty to one where most pixels saturate, on a sensor that is no multiple of 4, events beyond it.
@pytest.mark.parametrize("count", [0, 1, 40, 6000])
def test_random_events(name, max_incr_per_pixel, downsampling_factor, count):
    rng = np.random.default_rng([count, downsampling_factor])
    x, y = rng.integers(0, 39, count), rng.integers(0, 24, count)
    # Each pixel prefers one polarity, or few would ever saturate.
    p = rng.random(count) < rng.random((24, 39))[y, x]
    contract = contract_for(
        name, (37, 22), max_incr_per_pixel=max_incr_per_pixel, downsampling_factor=downsampling_factor
    )
    frame = assert_right(table(x, y, p), contract)
    assert np.any(frame) == (count > 0)
    if count == 6000 and max_incr_per_pixel * 4**downsampling_factor <= 5:
        assert np.mean(np.abs(frame) == 1) > 0.02  # what is tested here is saturation


def test_hand_computed_saturation():
    # Twice the positive limit, then one negative event: at once one below the limit, and not at the limit.
    p = [1] * 6 + [0]
    frame = assert_right(table([2] * 7, [1] * 7, p), contract_for("diff", (4, 3), max_incr_per_pixel=3))
    assert frame[0, 0, 1, 2] == pytest.approx(2 / 3)
    frame = assert_right(table([2] * 7, [1] * 7, p), contract_for("histo", (4, 3), max_incr_per_pixel=3))
    assert frame[0, :, 1, 2].tolist() == pytest.approx([1 / 3, 1])


@pytest.mark.parametrize("count", [2, 3, 4, 5, 31, 32, 33, 3001])
@pytest.mark.parametrize("positive", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("max_incr_per_pixel", [1, 3.7])
def test_all_on_one_pixel(name, count, positive, max_incr_per_pixel):
    p = np.random.default_rng(count).random(count) < positive
    rows = table([9] * count, [6] * count, p)
    assert_right(rows, contract_for(name, (16, 12), max_incr_per_pixel=max_incr_per_pixel))


def test_several_hot_pixels_among_calm_ones(name):
    rng = np.random.default_rng(3)
    count = 12_007
    hot = rng.random(count) < 0.6
    x = np.where(hot, rng.integers(7, 10, count), rng.integers(0, 32, count))
    y = np.where(hot, 5, rng.integers(0, 24, count))
    assert_right(table(x, y, rng.random(count) < 0.52), contract_for(name, (32, 24), max_incr_per_pixel=4))


@pytest.mark.parametrize("downsampling_factor", [0, 1])
def test_through_both_ends_again_and_again(name, downsampling_factor):
    # Positive and negative events by turns in longer and longer runs, on two pixels against each other.
    p = np.repeat(np.arange(40) % 2, np.arange(40) * 4)
    x = np.arange(p.size) % 2 * 8
    rows = table(x, x // 2, p ^ (x == 8))
    assert_right(rows, contract_for(name, (16, 12), downsampling_factor=downsampling_factor))


# Whole ratios, others, one of each, one direction only, a single value, and overlaps.
@pytest.mark.parametrize(
    "frame_size", [(24, 32), (12, 8), (7, 9), (12, 9), (7, 8), (24, 15), (23, 32), (1, 1), (6, 31)]
)
@pytest.mark.parametrize("downsampling_factor", [0, 1])
def test_shrinking(name, frame_size, downsampling_factor):
    rng = np.random.default_rng(frame_size)
    x, y, p = (rng.integers(0, high, 9000) for high in (64, 48, 2))
    size = (64, 48) if downsampling_factor else (32, 24)
    rows = table(x % size[0], y % size[1], p)
    contract = contract_for(name, size, frame_size, max_incr_per_pixel=2.5, downsampling_factor=downsampling_factor)
    assert np.any(assert_right(rows, contract))


# Both ratios whole, neither, and the blocks' ratio.
@pytest.mark.parametrize(
    ("recording", "sensor_size", "frame_size", "arguments"),
    [
        ("evt2_sample", (640, 480), (120, 160), {}),
        ("evt2_sample", (640, 480), (64, 64), {"max_incr_per_pixel": 1.5, "downsampling_factor": 2}),
        ("evt3_sample", (1280, 720), (120, 160), {}),
        ("evt3_sample", (1280, 720), (224, 224), {"max_incr_per_pixel": 1.5}),
        ("evt3_sample", (1280, 720), (120, 160), {"downsampling_factor": 1}),
    ],
)
def test_real_recordings_shrunk_to_a_models_size(shared_data, name, recording, sensor_size, frame_size, arguments):
    with np.load(shared_data / "recordings" / f"{recording}.npz") as file:
        events = Events(file["t"].astype(np.int64), file["x"], file["y"], file["p"])
    contract = contract_for(name, sensor_size, frame_size, **arguments)
    pieces = list(slices([events], contract.delta_t))
    busiest = max(pieces, key=lambda piece: len(piece.events))
    assert len(busiest.events) > 5_000
    for piece in (pieces[0], busiest):
        e = piece.events
        rows = np.stack([e.x, e.y, e.p, e.t - piece.start_us], axis=1).astype(np.int64)
        assert_right(rows, contract)


@pytest.mark.parametrize("downsampling_factor", [0, 2])
def test_rows_outside_the_sensor_or_of_unknown_polarity_contribute_nothing(name, downsampling_factor):
    rng = np.random.default_rng(4)
    # Every pixel of the edges and corners, to which what lies outside is nearest, has events of both polarities.
    x, y, p = rng.integers(0, 10, 900), rng.integers(0, 6, 900), rng.integers(0, 2, 900)
    rows = table(x, y, p)
    contract = contract_for(name, (10, 6), downsampling_factor=downsampling_factor, max_incr_per_pixel=2)
    columns, lines = 10 >> downsampling_factor << downsampling_factor, 6 >> downsampling_factor << downsampling_factor
    values = (-1, INT64.min, INT64.max, 2**32, -(2**32), 2**16)
    stray = [
        *[(x, 0, 1) for x in (*values, columns)],
        *[(0, y, 0) for y in (*values, lines)],
        *[(0, 0, p) for p in (*values, 2)],
        (-1, -1, -1),
    ]  # fmt: skip
    where = rng.integers(0, len(rows) + 1, 40 * len(stray))
    padding = np.array([(*row, -1) for row in stray] * 40)
    (expected,) = session_of(frame_model(contract, OPSET)).run(None, {"events": rows})
    (padded,) = session_of(frame_model(contract, OPSET)).run(None, {"events": np.insert(rows, where, padding, axis=0)})
    np.testing.assert_array_equal(padded, expected)
    np.testing.assert_allclose(expected, one_by_one(rows, contract), rtol=0, atol=1e-6)
    (only_padding,) = session_of(frame_model(contract, OPSET)).run(None, {"events": padding})
    assert not only_padding.any()


def test_one_session_takes_any_number_of_events_and_remembers_nothing(name):
    contract = contract_for(name, (16, 12), max_incr_per_pixel=2)
    session = session_of(frame_model(contract, OPSET))
    rng = np.random.default_rng(6)
    for count in (500, 0, 3, 2000, 1, 0):
        rows = table(rng.integers(0, 16, count), rng.integers(0, 12, count), rng.integers(0, 2, count))
        (frame,) = session.run(None, {"events": rows})
        np.testing.assert_allclose(frame, one_by_one(rows, contract), rtol=0, atol=1e-6)


@pytest.mark.parametrize("opset", [16, 18, 21, 23])
@pytest.mark.parametrize("frame_size", [(12, 16), (4, 8), (5, 7)])
def test_checker_accepts_it_with_full_shape_inference(name, opset, frame_size):
    model = frame_model(contract_for(name, (16, 12), frame_size), opset)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    (given,), (made,) = inferred.graph.input, inferred.graph.output
    assert given.type.tensor_type.elem_type == onnx.TensorProto.INT64
    assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["event_count", 4]
    assert made.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [d.dim_value for d in made.type.tensor_type.shape.dim] == [1, 2 if name == "histo" else 1, *frame_size]


def test_no_node_and_no_constant_is_needless(name):
    model = frame_model(contract_for(name, (16, 12), max_incr_per_pixel=1), OPSET)
    kinds = [node.op_type for node in model.graph.node]
    assert not {"AveragePool", "MatMul", "Constant", "Identity"} & set(kinds)
    assert "Div" not in kinds[kinds.index("Reshape") :]  # by 1
    bodies = [a.g for node in model.graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    read = {value for graph in (model.graph, *bodies) for node in graph.node for value in node.input}
    read |= {value.name for graph in (model.graph, *bodies) for value in graph.output}
    initializers = {entry.name for entry in model.graph.initializer}
    made = {value for node in model.graph.node for value in node.output}
    # An operator must have all of its outputs: the events' time, and where the runs' maps end.
    assert (initializers | made) - read <= {"preprocess.t_column", "preprocess.total_nth"}


def test_no_loop_goes_over_the_events(tmp_path: Path):
    contract = contract_for("diff", (16, 12), max_incr_per_pixel=2)
    model = frame_model(contract, OPSET)
    count = 5000
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = session_of(model, options)
    session.run(None, {"events": table([3] * count, [4] * count, np.arange(count) % 3 > 0)})
    events = json.loads(Path(session.end_profiling()).read_text())
    rounds = sum(event["name"] == "preprocess.shift_out_kernel_time" for event in events)
    assert rounds == math.ceil(math.log2(count))


@pytest.mark.parametrize("preprocess", [n for n in preprocessing_names() if n not in ("histo", "diff")])
def test_other_preprocessings_are_refused(preprocess):
    with pytest.raises(UsageError, match=rf"histo and diff only.*{preprocess}"):
        frame_model(replace(contract_for("histo", (16, 12)), preprocess=preprocess), OPSET)


def test_what_cannot_be_is_refused(name):
    contract = contract_for(name, (16, 12))
    with pytest.raises(UsageError, match="--sensor-size WIDTH HEIGHT"):
        frame_model(replace(contract, sensor_size=None), OPSET)
    with pytest.raises(UsageError, match=r"16×12.*enlarged to the model's 17×12"):
        frame_model(replace(contract, frame_shape=(contract.frame_shape[0], 12, 17)), OPSET)
    with pytest.raises(UsageError, match=r"frames of 8×6.*enlarged to the model's 16×12"):
        frame_model(replace(contract, preprocess_kwargs={"downsampling_factor": 1}), OPSET)
    with pytest.raises(UsageError, match="max_incr_per_pixel must be"):
        frame_model(replace(contract, preprocess_kwargs={"max_incr_per_pixel": 0}), OPSET)
    with pytest.raises(UsageError, match="the model takes 3"):
        frame_model(replace(contract, frame_shape=(3, 12, 16)), OPSET)


def test_joined_before_another_graph_it_feeds_its_frames(name):
    contract = contract_for(name, (16, 12))
    step = onnx.helper.make_model(
        onnx.parser.parse_graph(
            f"step (float[1, {contract.frame_shape[0]}, 12, 16] frames, float[1] state) => (float[1] total)"
            "{ sum = ReduceSum <keepdims = 0> (frames) total = Add (sum, state) }"
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=10,
        producer_name="somebody",
    )
    kept = step.SerializeToString()
    model = joined(frame_model(contract, OPSET), step)
    onnx.checker.check_model(model, full_check=True)
    assert step.SerializeToString() == kept
    assert (model.ir_version, model.producer_name) == (10, "somebody")
    assert [given.name for given in model.graph.input] == ["events", "state"]
    rows = table([1, 2, 3], [4, 4, 4], [1, 1, 1])
    (total,) = session_of(model).run(None, {"events": rows, "state": np.array([7], np.float32)})
    assert total == pytest.approx(7 + 3 / 5)
