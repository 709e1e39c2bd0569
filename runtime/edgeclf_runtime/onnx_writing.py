"""Small ONNX files, written as bytes: what is measured or tried on a device, which has no onnx package.

Own code, written from the description of Protocol Buffers' wire format (https://protobuf.dev/programming-guides/encoding)
and the field numbers of ONNX's messages (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). All tensors are of
float32. NumPy is not needed, as some of what is tried here is whether anything can be imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

_IR_VERSION = 7
_OPSET = 13
_FLOAT = 1
"""TensorProto.FLOAT."""
_INTS = 7
"""AttributeProto.INTS."""


def model_bytes(
    nodes: Iterable[bytes],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, Sequence[int]],
    weights: Iterable[bytes] = (),
) -> bytes:
    """Returns an ONNX file of one graph.

    Args:
        nodes: As `node_bytes` returns them, each after those whose outputs it takes.
        inputs: Names and shapes of what the graph takes.
        outputs: Names and shapes of what it gives.
        weights: As `tensor_bytes` returns them.
    """
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"g")  # node, name
    graph += b"".join(_field(5, tensor) for tensor in weights)  # initializer
    graph += b"".join(_field(11, _value(*value)) for value in inputs.items())
    graph += b"".join(_field(12, _value(*value)) for value in outputs.items())
    opset = _field(1, b"") + _number(2, _OPSET)  # domain, version
    return _number(1, _IR_VERSION) + _field(7, graph) + _field(8, opset)  # ir_version, graph, opset_import


def node_bytes(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Sequence[int]) -> bytes:
    """Returns a node, whose attributes are lists of whole numbers that are not negative."""
    node = b"".join(_field(1, name.encode()) for name in inputs) + b"".join(_field(2, o.encode()) for o in outputs)
    node += _field(4, operator.encode())  # op_type
    for name, values in attributes.items():
        ints = b"".join(_number(8, value) for value in values)
        node += _field(5, _field(1, name.encode()) + ints + _number(20, _INTS))  # name, ints, type
    return node


def tensor_bytes(name: str, shape: Sequence[int], data: bytes) -> bytes:
    """Returns a tensor of float32; `data` are its numbers in row-major order, little-endian."""
    dims = b"".join(_number(1, size) for size in shape)
    return dims + _number(2, _FLOAT) + _field(8, name.encode()) + _field(9, data)  # data_type, name, raw_data


def _value(name: str, shape: Sequence[int]) -> bytes:
    """Returns a ValueInfoProto: name and type, in that tensor_type, in it elem_type and shape."""
    dims = b"".join(_field(1, _number(1, size)) for size in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, _FLOAT) + _field(2, dims)))


def _number(field: int, value: int) -> bytes:
    """Returns a field of Protocol Buffers that holds a whole number."""
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    """Returns a field of Protocol Buffers that holds a text, bytes or a message."""
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Returns a number as seven bits a byte, lowest first, each but the last with its highest bit set."""
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)
