"""What the tests of the runtime share: tiny exported models with their outputs by hand, and small recordings."""

from __future__ import annotations

import errno
import hashlib
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeclf.cli import main
from edgeclf_runtime.contract import METADATA_KEY, Contract, StateTensor

Array = NDArray[np.float32]
PlainEvents = Sequence[tuple[int, int, int, int]]

# Background without events, rock for negative ones, paper for positive ones, scissors for both.
_WEIGHTS = np.array([[-2, -3, 4, 2], [-1, 5, -2, 2.5]], np.float32)
_BIAS = np.array([0.5, -0.2, 0.0, 0.3], np.float32)
_DECAY = np.float32(0.5)

TINY = Contract(
    architecture="Tiny",
    labels=("background", "paper", "rock", "scissors"),
    delta_t=10_000,
    preprocess="histo",
    preprocess_kwargs={"max_incr_per_pixel": 2},
    sensor_size=(32, 24),
    frame_shape=(2, 12, 16),
    state=(StateTensor("acc", (2,)), StateTensor("conv.last", (2, 12, 16))),
    precision="fp32",
    opset=17,
    versions={"edgeclf": "0.1.0", "torch": "2.9"},
    checkpoint_sha256="ab" * 32,
    command="edgeclf export tiny.ckpt out",
)


@pytest.fixture
def tiny() -> Contract:
    """The contract of the tiny model: what it sees decays by half a frame, plus the mean of the frame before."""
    return TINY


def tiny_outputs(frames: Array, resets: Sequence[int] = (0,)) -> tuple[Array, Array]:
    """Returns logits and probabilities `[T, K]` of one stream's frames `[T, C, H, W]`, in float64 by hand."""
    logits = []
    acc, last = np.zeros(2), np.zeros(frames.shape[1:])
    for k, frame in enumerate(frames.astype(np.float64)):
        if k in resets:
            acc, last = np.zeros(2), np.zeros(frames.shape[1:])
        acc = float(_DECAY) * acc + frame.mean(axis=(1, 2))
        logits.append(acc @ _WEIGHTS + _BIAS + last.mean(axis=(1, 2)).sum())
        logits[-1][0] += last.max()  # softmax would not see what is added to all of them
        last = frame
    exp = np.exp(logits)
    return np.array(logits, np.float32), (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def vectors_by_hand() -> Callable[..., dict[str, Array]]:
    """`tiny_vectors`."""
    return tiny_vectors


@pytest.fixture
def outputs_by_hand() -> Callable[..., tuple[Array, Array]]:
    """`tiny_outputs`."""
    return tiny_outputs


def tiny_graph(contract: Contract, inputs_of: Contract | None = None, batch: str | int = "batch") -> onnx.ModelProto:
    """Returns the step graph of `contract`, without metadata; a stateless one where the contract has no state."""
    seen = contract if inputs_of is None else inputs_of
    size, channels = len(seen.labels), seen.frame_shape[0]

    types = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
    inner, edge = types[seen.state_type], types[seen.edge_type]

    def value(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, inner if "state." in name else edge, [batch, *shape])

    constants = {
        "weights": np.resize(_WEIGHTS, (channels, size)).astype(seen.state_type),
        "bias": np.resize(_BIAS, (size,)).astype(seen.state_type),
        "decay": np.array(_DECAY, seen.state_type),
        "first": np.eye(1, size, dtype=seen.state_type),
        "keep_vector": np.array([-1, 1], np.int64),
        "keep_image": np.array([-1, 1, 1, 1], np.int64),
    }
    inputs, outputs = [value("frames", *seen.frame_shape)], [value("logits", size), value("probabilities", size)]
    nodes = [
        helper.make_node("Cast", ["frames"], ["frames_inside"], to=inner),
        helper.make_node("ReduceMean", ["frames_inside"], ["mean"], axes=[2, 3], keepdims=0),
    ]
    if seen.state:
        inputs += [value("keep_memory")] if seen.keep_memory else []
        inputs += [value("state.acc", channels), value("state.conv.last", *seen.frame_shape)]
        outputs += [value("next_state.acc", channels), value("next_state.conv.last", *seen.frame_shape)]
        nodes += (
            [
                helper.make_node("Cast", ["keep_memory"], ["keep_inside"], to=inner),
                helper.make_node("Reshape", ["keep_inside", "keep_vector"], ["keep2"]),
                helper.make_node("Reshape", ["keep_inside", "keep_image"], ["keep4"]),
                helper.make_node("Mul", ["state.acc", "keep2"], ["acc"]),
                helper.make_node("Mul", ["state.conv.last", "keep4"], ["last"]),
            ]
            if seen.keep_memory
            else [
                helper.make_node("Identity", ["state.acc"], ["acc"]),
                helper.make_node("Identity", ["state.conv.last"], ["last"]),
            ]
        )
        nodes += [
            helper.make_node("Mul", ["acc", "decay"], ["decayed"]),
            helper.make_node("Add", ["decayed", "mean"], ["next_state.acc"]),
            helper.make_node("Identity", ["frames_inside"], ["next_state.conv.last"]),
            helper.make_node("MatMul", ["next_state.acc", "weights"], ["seen"]),
            helper.make_node("ReduceMean", ["last"], ["last_mean"], axes=[2, 3], keepdims=0),
            helper.make_node("ReduceSum", ["last_mean", "one"], ["last_sum"], keepdims=1),
            helper.make_node("Add", ["seen", "last_sum"], ["seen2"]),
            helper.make_node("ReduceMax", ["last"], ["last_max4"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Unsqueeze", ["last_max4", "one"], ["last_max"]),
            helper.make_node("Mul", ["last_max", "first"], ["to_first"]),
            helper.make_node("Add", ["seen2", "to_first"], ["unbiased"]),
        ]
        constants["one"] = np.array([1], np.int64)
    else:
        nodes.append(helper.make_node("MatMul", ["mean", "weights"], ["unbiased"]))
    nodes += [
        helper.make_node("Add", ["unbiased", "bias"], ["logits_inside"]),
        helper.make_node("Cast", ["logits_inside"], ["logits"], to=edge),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    used = {name for node in nodes for name in node.input}
    initializers = [onnx.numpy_helper.from_array(v, name) for name, v in constants.items() if name in used]
    graph = helper.make_graph(nodes, "step", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def tiny_vectors(contract: Contract, steps: int = 6) -> dict[str, Array]:
    """Returns golden vectors of the tiny model of two streams, or of its fixed number of them, by hand in float64."""
    streams = contract.batch or 2
    frames = np.random.default_rng(5).random((steps, streams, *contract.frame_shape)).astype(np.float32)
    if not contract.state:
        # A stream that starts anew with every frame has no memory either.
        by_stream = [tiny_outputs(frames[:, i], resets=range(steps)) for i in range(streams)]
    else:
        resets = [(0, 3) if i == 1 and contract.keep_memory else (0,) for i in range(streams)]
        by_stream = [tiny_outputs(frames[:, i], resets[i]) for i in range(streams)]
    logits, probabilities = (np.stack([found[k] for found in by_stream], axis=1) for k in range(2))
    vectors = {"frames": frames, "logits": logits, "probabilities": probabilities}
    if contract.state:
        if contract.keep_memory:
            vectors["keep_memory"] = np.ones((steps, streams), np.float32)
            for i, starts in enumerate(resets):
                vectors["keep_memory"][list(starts), i] = 0
        acc = [
            sum(0.5 ** (steps - 1 - k) * frames[k, i].astype(float).mean(axis=(1, 2)) for k in range(max(r), steps))
            for i, r in enumerate(resets)
        ]
        vectors |= {"next_state.acc": np.array(acc), "next_state.conv.last": frames[-1]}
    return vectors


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[..., Path]:
    """Writes the tiny model.

    `graph_of`, `metadata` and `graph_batch` make files that are not what they say. `vectors` stand beside it as its
    golden vectors; True: the right ones.
    """

    def write(
        name: str = "tiny.onnx",
        graph_of: Contract | None = None,
        metadata: dict[str, str] | None = None,
        graph_batch: str | int | None = None,
        vectors: dict[str, Array] | bool = False,
        **changes: Any,
    ) -> Path:
        contract = replace(TINY, **changes)
        model = tiny_graph(contract, graph_of, graph_batch or contract.batch or "batch")
        if vectors is not False:
            file = io.BytesIO()
            np.savez(file, **(tiny_vectors(contract) if vectors is True else vectors))
            contract = replace(contract, golden_sha256=hashlib.sha256(file.getvalue()).hexdigest())
            (tmp_path / f"{Path(name).stem}.golden.npz").write_bytes(file.getvalue())
        helper.set_model_props(model, {METADATA_KEY: contract.to_json()} if metadata is None else metadata)
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return write


def some_events(count: int, duration: int, seed: int, start: int = 0) -> PlainEvents:
    """Returns random events (t, x, y, p) of a sensor of 32×24, in time order."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(start, start + duration, count))
    columns = (t, rng.integers(0, 32, count), rng.integers(0, 24, count), rng.integers(0, 2, count))
    return [(int(a), int(b), int(c), int(d)) for a, b, c, d in zip(*columns, strict=True)]


@pytest.fixture
def random_events() -> Callable[..., PlainEvents]:
    """`some_events`."""
    return some_events


@pytest.fixture
def write_dat(tmp_path: Path) -> Callable[..., Path]:
    """Writes events (t, x, y, p) as a DAT file of a 32×24 sensor; `cut` leaves out so many bytes at its end."""

    def write(name: str, events: PlainEvents, cut: int = 0, size: tuple[int, int] = (32, 24)) -> Path:
        header = f"% Data file containing CD events\n% Version 2\n% Width {size[0]}\n% Height {size[1]}\n"
        words = [(t, x | y << 14 | p << 28) for t, x, y, p in events]
        data = header.encode() + b"\x0c\x08" + np.array(words, "<u4").tobytes()
        path = tmp_path / name
        path.write_bytes(data[: len(data) - cut])
        return path

    return write


def frames_by_loop(
    events: PlainEvents,
    start: int,
    stop: int,
    delta_t: int = 10_000,
    size: tuple[int, int] = (32, 24),
    limit: int = 2,
    preprocess: str = "histo",
) -> Array:
    """Returns event frames `[T, C, H, W]` at the sensor's size: every event added in turn, saturating in turn."""
    width, height = size
    frames = np.zeros(((stop - start) // delta_t, 2 if preprocess == "histo" else 1, height, width))
    values: dict[tuple[int, int, int, int], float] = {}
    for t, x, y, p in events:
        k = (t - start) // delta_t
        if preprocess == "histo":
            values[k, p, y, x] = min(values.get((k, p, y, x), 0.0) + 1, limit)
        else:
            values[k, 0, y, x] = min(max(values.get((k, 0, y, x), 0.0) + (1 if p else -1), -limit), limit)
    for place, value in values.items():
        frames[place] = value / limit
    return frames.astype(np.float32)


@pytest.fixture
def by_loop() -> Callable[..., Array]:
    """`frames_by_loop`."""
    return frames_by_loop


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one sentence of what went wrong; there is no other, and no traceback."""
        assert "Traceback" not in self.err
        assert self.err.count("Error: ") == 1
        return self.err.split("Error: ")[1].strip()


@pytest.fixture
def edgeclf(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs `edgeclf` with arguments, as its entry point does."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["edgeclf", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        return Ended(int(end.value.code or 0), out, err)

    return run


@pytest.fixture
def write_events_model(tmp_path: Path) -> Callable[[str, Contract, Array], Path]:
    """Writes a model that takes events and gives their mean, multiplied by weights `[4, 4]`, as logits."""

    def write(name: str, contract: Contract, weights: Array) -> Path:
        nodes = [
            helper.make_node("Cast", ["events"], ["values"], to=1),
            helper.make_node("ReduceMean", ["values"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ]
        outputs = [helper.make_tensor_value_info(name, 1, [1, 4]) for name in ("logits", "probabilities")]
        inputs = [helper.make_tensor_value_info("events", 7, ["n", 4])]
        graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(weights, "weights")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return write


class _FullDisk(io.FileIO):
    """A file on a disk that has room for a number of bytes, the last of which it takes by halves."""

    def __init__(self, path: Path, mode: str, room: int) -> None:
        super().__init__(path, mode)
        self._room = room

    def write(self, data: memoryview) -> int:
        room = self._room - self.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data[: min(len(data), max(1, room // 2))])


@pytest.fixture
def install_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts a package on the path that announces entry points, name to object of its module, as installed ones do."""
    modules = []

    def install(package: str, group: str, announced: dict[str, str], source: str) -> None:
        folder = tmp_path / package
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{package}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {package}:{value}" for name, value in announced.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")
        monkeypatch.syspath_prepend(folder)
        modules.append(package)

    yield install
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes files that are opened for writing from now on ones that hold so many bytes."""
    usual = Path.open

    def fill(room: int) -> None:
        monkeypatch.setattr(
            Path,
            "open",
            lambda path, mode="r", *rest, **options: (
                _FullDisk(path, mode, room) if "w" in mode else usual(path, mode, *rest, **options)
            ),
        )

    return fill
