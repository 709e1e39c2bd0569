from __future__ import annotations

import random
import tracemalloc
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeclf_runtime import onnx_file
from edgeclf_runtime.errors import InputFileError
from edgeclf_runtime.onnx_file import OnnxNode, OnnxValue, check_external_data, read_onnx
from edgeclf_runtime.session import Classifier


def nodes_by_onnx(graph):
    """Every node of a graph and of those inside it, as the onnx package reads them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from nodes_by_onnx(inner)


def counts_by_onnx(path):
    nodes = nodes_by_onnx(onnx.load(path, load_external_data=False).graph)
    return Counter(f"{node.domain}:{node.op_type}" if node.domain else node.op_type for node in nodes)


@pytest.fixture
def write(tmp_path):
    def write_bytes(content, name="a.onnx"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        return path

    return write_bytes


def value(name, *shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def branching_model():
    """An `If` whose one branch holds a `Loop`, whose body adds."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["so_far", "x"], ["sum"]),
            helper.make_node("Identity", ["going"], ["still_going"]),
        ],
        "body",
        [value("i", kind=TensorProto.INT64), value("going", kind=TensorProto.BOOL), value("so_far", 2)],
        [value("still_going", kind=TensorProto.BOOL), value("sum", 2)],
    )
    then = helper.make_graph(
        [helper.make_node("Loop", ["times", "", "x"], ["looped"], body=body)], "then", [], [value("looped", 2)]
    )
    fused = helper.make_node("FusedMatMul", ["n", "n"], ["o"], domain="com.microsoft")
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["n"]), fused], "other", [], [value("o", 2)])
    graph = helper.make_graph(
        [
            helper.make_node("Greater", ["x0", "x1"], ["which"]),
            helper.make_node("If", ["which"], ["y"], then_branch=then, else_branch=other),
        ],
        "main",
        [value("x", "n"), value("x0"), value("x1")],
        [value("y", 2)],
        [numpy_helper.from_array(np.array(3, np.int64), "times")],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    )


def test_counts_equal_those_of_the_onnx_package(write, write_model):
    for path in (write(branching_model()), write_model(), write_model("b.onnx", state=())):
        assert read_onnx(path).operators == counts_by_onnx(path)
    assert read_onnx(write(branching_model())).operators == {
        "Greater": 1, "If": 1, "Loop": 1, "Add": 1, "Identity": 1, "Neg": 1, "com.microsoft:FusedMatMul": 1,
    }  # fmt: skip


def test_counts_of_what_onnx_runtime_writes(write_model, tmp_path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(write_model()), options, providers=["CPUExecutionProvider"])
    found = read_onnx(tmp_path / "optimised.onnx")
    assert found.operators == counts_by_onnx(tmp_path / "optimised.onnx")
    assert sum(found.operators.values()) > 5


def test_nodes_of_graphs_inside_are_told_apart(write):
    found = {node.op_type: node for node in read_onnx(write(branching_model())).nodes}
    assert found["Loop"] == OnnxNode("", "Loop", ("times", "", "x"), ("looped",), found["Loop"].graph)
    graphs = [found[name].graph for name in ("If", "Loop", "Add", "Neg")]
    assert graphs[0] == 0
    assert len(set(graphs)) == 4
    assert found["Greater"].graph == 0


def test_inputs_outputs_and_metadata(write, write_model, tiny):
    found = read_onnx(write_model())
    assert found.inputs == (
        OnnxValue("frames", "float32", ("batch", 2, 12, 16)),
        OnnxValue("keep_memory", "float32", ("batch",)),
        OnnxValue("state.acc", "float32", ("batch", 2)),
        OnnxValue("state.conv.last", "float32", ("batch", 2, 12, 16)),
    )
    assert [output.name for output in found.outputs] == [*tiny.output_names]
    assert found.metadata == {"edgeclf": tiny.to_json()}
    graph = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["b"])],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.INT64, [None, 4]), value("s", kind=TensorProto.FLOAT16)],
        [helper.make_tensor_sequence_value_info("b", TensorProto.FLOAT, None)],
    )
    found = read_onnx(write(helper.make_model(graph)))
    assert found.inputs == (OnnxValue("a", "int64", ("?", 4)), OnnxValue("s", "float16", ()))
    assert found.outputs == (OnnxValue("b", "no tensor", ()),)


def test_functions_of_the_file_count_as_the_node_that_calls_them(write):
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    function = helper.make_function("mine", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], opsets)
    graph = helper.make_graph(
        [helper.make_node("Twice", ["a"], ["b"], domain="mine")], "g", [value("a", 2)], [value("b", 2)]
    )
    model = helper.make_model(graph, opset_imports=opsets, functions=[function])
    onnx.checker.check_model(model)
    assert read_onnx(write(model)).operators == {"mine:Twice": 1}


# Damaged files.


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"this is text\n", "not those of Protocol Buffers"),
        (b"\x08\x08", "it holds no graph"),
        (b"\x08\x08\x3a", "cut short"),
        (b"\x3a\x05\x00", "cut short"),
        (b"\x08" + b"\xff" * 20, "not those of Protocol Buffers"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "cut short"),  # a length of 2**63 - 1
        (b"\x3a\x04\x0a\x7f\x22\x00", "cut short"),  # a node that is longer than its graph
        (b"\x0d\x00\x00", "cut short"),
        (b"\x3b\x3c", "not those of Protocol Buffers"),
        (b"\x00\x00", "not those of Protocol Buffers"),
        (b"\x3a\x06\x0a\x04\x22\x02\xff\xfe", "no text"),
        # Readers that keep 32 bits of a key see a graph behind this one.
        (b"\x3a\x00\xba\x80\x80\x80\x10\x00", "not those of Protocol Buffers"),
    ],
)
def test_damaged(write, content, why):
    with pytest.raises(InputFileError, match=rf"a\.onnx: it is damaged or not an ONNX model \(.*{why}.*\); export"):
        read_onnx(write(content))


def test_files_that_are_cut(write, write_model):
    content = write_model().read_bytes()
    whole = read_onnx(write(content)).nodes
    for stop in range(0, len(content), 7):
        try:
            found = read_onnx(write(content[:stop]))
        except InputFileError:
            continue
        assert found.nodes == whole  # it was cut between the graph and what comes behind it


def test_random_damage_is_a_sentence_or_nothing(write):
    content = branching_model().SerializeToString()
    rng = random.Random(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 3, 20])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            read_onnx(write(bytes(damaged)))
        except InputFileError:
            refused += 1
    assert 50 < refused < 500


def length_of(content):
    size, out = len(content), b""
    while size > 127:
        out, size = out + bytes([size & 127 | 128]), size >> 7
    return out + bytes([size])


def test_graphs_nested_too_deeply(write):
    graph = b""
    for _ in range(20_000):
        attribute = b"\x32" + length_of(graph) + graph
        node = b"\x2a" + length_of(attribute) + attribute
        graph = b"\x0a" + length_of(node) + node
    with pytest.raises(InputFileError, match="nested too deeply"):
        read_onnx(write(b"\x3a" + length_of(graph) + graph))


def test_too_many_fields(write, monkeypatch):
    monkeypatch.setattr(onnx_file, "MOST_FIELDS", 1000)
    graph = b"\x0a\x00" * 998
    with pytest.raises(InputFileError, match="more than 1000 fields"):
        read_onnx(write(b"\x3a" + length_of(graph) + graph + b"\x08\x08"))
    graph = b"\x0a\x00" * 400
    assert read_onnx(write(b"\x3a" + length_of(graph) + graph)).operators == {"": 400}


def test_names_that_are_too_long(write):
    node = helper.make_node("A" * 5000, [], [])
    with pytest.raises(InputFileError, match="a name of 5000 bytes"):
        read_onnx(write(helper.make_model(helper.make_graph([node], "g", [], []))))


def test_weights_are_not_read(write):
    # A file with a hole of 3 GB for its weights: whoever read them would take that much memory and seconds.
    before = b"\x4a" + b"\x80\x80\x80\x80\x0c"  # raw_data of 0xC0000000 bytes
    size = 0xC0000000
    tensor = b"\x2a" + b"\x86\x80\x80\x80\x0c" + before
    graph = b"\x3a" + b"\x90\x80\x80\x80\x0c" + b"\x0a\x02\x22\x00" + tensor
    path = write(graph)
    with path.open("r+b") as file:
        file.truncate(len(graph) + size)
    tracemalloc.start()
    try:
        found = read_onnx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    path.unlink()
    assert found.operators == {"": 1}
    assert peak < 1_000_000


def test_not_a_file(tmp_path):
    with pytest.raises(InputFileError, match=r"b\.onnx: there is no such model file"):
        read_onnx(tmp_path / "b.onnx")
    with pytest.raises(InputFileError, match="this is a folder"):
        read_onnx(tmp_path)


# Weights in other files.


@pytest.fixture
def with_external_data(tmp_path, write_model):
    """Moves the tiny model's `weights` to another file and names it in the way that is asked for."""

    def move(location, where=None, into="initializer"):
        model = onnx.load(write_model())
        tensor = next(t for t in model.graph.initializer if t.name == "weights")
        raw = numpy_helper.to_array(tensor).tobytes()
        if where is not None:
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_bytes(raw)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in (("location", location), ("offset", "0"), ("length", str(len(raw)))):
            tensor.external_data.add(key=key, value=text)
        if into == "constant":
            moved = TensorProto()
            moved.CopyFrom(tensor)
            model.graph.initializer.remove(tensor)
            node = helper.make_node("Constant", [], ["weights"])
            node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(moved)
            model.graph.node.insert(0, node)
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        (folder / "m.onnx").write_bytes(model.SerializeToString())
        return folder / "m.onnx"

    return move


@pytest.mark.parametrize("location", ["weights.bin", "deeper/ä b.bin", "./weights.bin"])
def test_inside_the_folder(with_external_data, tmp_path, outputs_by_hand, location):
    path = with_external_data(location, tmp_path / "model" / location)
    assert read_onnx(path).external_data == (location,)
    frames = np.random.default_rng(0).random((3, 2, 12, 16)).astype(np.float32)
    with Classifier.load(path, "cpu") as classifier:
        found = [classifier.step(frame[None]).logits[0] for frame in frames]
    np.testing.assert_allclose(found, outputs_by_hand(frames)[0], rtol=1e-5, atol=1e-6)


OUTSIDE = [
    "/etc/hostname",
    "../w.bin",
    "a/../../w.bin",
    "C:\\w.bin",
    "C:w.bin",
    "\\\\host\\w.bin",
    "..\\w.bin",
    "\\w.bin",
]


@pytest.fixture
def opened(monkeypatch):
    """Which files ONNX Runtime was asked to open."""
    asked = []

    def session(path, *_arguments, **_options):
        asked.append(path)
        raise RuntimeError("opened")

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return asked


@pytest.mark.parametrize("into", ["initializer", "constant"])
@pytest.mark.parametrize("location", OUTSIDE)
def test_outside_of_the_folder(with_external_data, tmp_path, opened, location, into):
    path = with_external_data(location, tmp_path / "w.bin", into)
    with pytest.raises(InputFileError, match=r"m\.onnx: it wants its weights read from '") as raised:
        Classifier.load(path, "cpu")
    assert f"'{location}', which leads out of the model's folder" in str(raised.value)
    assert opened == []


@pytest.mark.parametrize("what", ["file", "folder"])
def test_link_out_of_the_folder(with_external_data, tmp_path, opened, what):
    location = "link" if what == "file" else "link/w.bin"
    path = with_external_data(location, tmp_path / "elsewhere" / "w.bin")
    (path.parent / "link").symlink_to(tmp_path / "elsewhere" / ("w.bin" if what == "file" else "."))
    with pytest.raises(InputFileError, match="leads out of the model's folder"):
        Classifier.load(path, "cpu")
    assert opened == []


def test_link_within_the_folder(with_external_data, tmp_path):
    path = with_external_data("link", tmp_path / "model" / "w.bin")
    (path.parent / "link").symlink_to("w.bin")
    check_external_data(read_onnx(path))


def test_folder_that_is_a_link(with_external_data, tmp_path):
    path = with_external_data("w.bin", tmp_path / "model" / "w.bin")
    (tmp_path / "other").symlink_to(path.parent)
    check_external_data(read_onnx(tmp_path / "other" / path.name))


# The second is how ONNX Runtime itself marks an address in memory.
@pytest.mark.parametrize("location", ["w.bin", "*/_ORT_MEM_ADDR_/*", "", "."])
def test_no_such_file(with_external_data, opened, location):
    with pytest.raises(InputFileError, match=r"with its weights is not there; copy it beside the model"):
        Classifier.load(with_external_data(location), "cpu")
    assert opened == []


def test_names_that_no_file_can_have(with_external_data):
    path = with_external_data("x" * 3000)
    with pytest.raises(InputFileError, match=r"with its weights (cannot be read|is not there)"):
        check_external_data(read_onnx(path))
    path = with_external_data("loop")
    (path.parent / "loop").symlink_to("loop")
    with pytest.raises(InputFileError, match=r"with its weights (cannot be read|is not there)"):
        check_external_data(read_onnx(path))


def external(location):
    tensor = TensorProto(name="t", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def test_every_place_that_a_tensor_can_stand_in(write):
    model = branching_model()
    graph = model.graph
    graph.initializer.append(external("1"))
    graph.sparse_initializer.add(values=external("2"), indices=external("3"))
    node = graph.node.add(op_type="X")
    node.attribute.add(name="t").t.CopyFrom(external("4"))
    node.attribute.add(name="ts").tensors.append(external("5"))
    node.attribute.add(name="s").sparse_tensor.values.CopyFrom(external("6"))
    node.attribute.add(name="ss").sparse_tensors.add(indices=external("7"))
    then = next(a.g for a in graph.node[1].attribute if a.name == "then_branch")
    then.initializer.append(external("8"))
    then.node[0].attribute[0].g.initializer.append(external("9"))
    node.attribute.add(name="gs").graphs.add(name="inner").initializer.append(external("10"))
    function = model.functions.add(name="f")
    function.node.add(op_type="Constant").attribute.add(name="value").t.CopyFrom(external("11"))
    function.attribute_proto.add(name="d").t.CopyFrom(external("12"))
    model.training_info.add().algorithm.initializer.append(external("13"))
    unmarked = external("14")
    unmarked.data_location = TensorProto.DEFAULT
    graph.initializer.append(unmarked)
    graph.initializer.append(external("1"))
    assert sorted(read_onnx(write(model)).external_data, key=int) == [str(i) for i in range(1, 15)]
