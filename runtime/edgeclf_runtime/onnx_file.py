"""What an ONNX file holds, read from its bytes: a device has no onnx package, and a damaged file may hold anything.

Own code, written from the description of Protocol Buffers' wire format (https://protobuf.dev/programming-guides/encoding)
and the field numbers of ONNX's messages (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Only what is asked
for here is looked at; weights are stepped over without being read, so a file's size does not matter.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from edgeclf_runtime.errors import InputFileError

MOST_FIELDS = 5_000_000
"""A file of more fields is refused rather than read for minutes; a large network has a few ten thousand."""
DEEPEST = 100
"""Messages inside each other that Protocol Buffers' own readers let through, ONNX Runtime's among them."""
LONGEST_NAME = 4096
"""Bytes of an operator's, a value's or a file's name."""
LONGEST_METADATA = 16 * 2**20
"""Bytes of one entry of the metadata."""


@dataclass(frozen=True)
class OnnxNode:
    """A node of a graph.

    Attributes:
        domain: Of its operator; empty for ONNX's own.
        op_type: The operator.
        inputs: Names of the values that it reads; empty where an optional one is left out.
        outputs: Names of those that it makes.
        graph: Which graph of the file it stands in, 0 for the outermost: names are unique in one graph only.
    """

    domain: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    graph: int = 0

    @property
    def operator(self) -> str:
        """The operator with its domain, e.g. `Conv` or `com.microsoft:FusedConv`."""
        return self.op_type if self.domain in ("", "ai.onnx") else f"{self.domain}:{self.op_type}"


@dataclass(frozen=True)
class OnnxValue:
    """An input or output of the graph.

    Attributes:
        name: Its name.
        type: Type of its elements, e.g. `float32`.
        shape: Its axes: a size, the name of a size that varies, or `?` for one that has none.
    """

    name: str
    type: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class OnnxFile:
    """What an ONNX file holds.

    Attributes:
        path: The file.
        nodes: The nodes of its graph and of the graphs inside those (of `If`, `Loop`, …). Not those of functions that
            the file defines: a node that calls one counts as itself.
        inputs: What the graph takes.
        outputs: What it gives.
        metadata: Its metadata by key.
        external_data: Other files that its weights lie in, as it names them, each once.
    """

    path: Path
    nodes: tuple[OnnxNode, ...]
    inputs: tuple[OnnxValue, ...]
    outputs: tuple[OnnxValue, ...]
    metadata: Mapping[str, str]
    external_data: tuple[str, ...]

    @property
    def operators(self) -> Counter[str]:
        """How many nodes there are of each operator."""
        return Counter(node.operator for node in self.nodes)


def read_onnx(path: str | Path) -> OnnxFile:
    """Reads what an ONNX file holds besides its weights.

    Raises:
        InputFileError: Where it is not there, or damaged, or not an ONNX file.
    """
    path = Path(path)
    if path.is_dir():
        raise InputFileError(f"{path}: this is a folder, not a model; give the .onnx file in it.")
    if not path.is_file():
        raise InputFileError(f"{path}: there is no such model file.")
    try:
        if path.stat().st_size == 0:
            raise _DamagedError("it is empty")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).model(path)
    except OSError as error:
        raise InputFileError(f"{path}: the model cannot be read ({error.strerror}).") from error
    except _DamagedError as error:
        raise InputFileError(
            f"{path}: it is damaged or not an ONNX model ({error}); export the checkpoint again."
        ) from error


def check_external_data(model: OnnxFile) -> None:
    """Raises where a file's weights lie anywhere but in files of its own folder, or of folders in that.

    A model that somebody else made could have any file that its user may read loaded as weights.

    Raises:
        InputFileError: Where a place is absolute (on whatever system), contains `..`, or leads out of the folder by a
            link; or where no file is there.
    """
    folder = model.path.parent
    for location in model.external_data:
        try:
            leads_out = _leads_out(location, folder)
            is_there = not leads_out and (folder / location).is_file()
        except (OSError, RuntimeError) as error:  # names that are too long, links that lead to themselves
            raise InputFileError(
                f"{model.path}: the file '{location}' with its weights cannot be read ({error}); export the checkpoint "
                "again."
            ) from error
        if leads_out:
            raise InputFileError(
                f"{model.path}: it wants its weights read from '{location}', which leads out of the model's folder, so "
                "it is not loaded; export the checkpoint again, and use models only of those whom you trust."
            )
        if not is_there:
            raise InputFileError(
                f"{model.path}: the file '{location}' with its weights is not there; copy it beside the model."
            )


def _leads_out(location: str, folder: Path) -> bool:
    windows = PureWindowsPath(location)  # takes both kinds of slash
    if "\0" in location or windows.drive or windows.root or ".." in windows.parts:
        return True
    return not (folder / location).resolve().is_relative_to(folder.resolve())


class _DamagedError(Exception):
    """The bytes are not those of an ONNX model; the message is a clause."""


class _Reader:
    """Reads the messages of one file; positions are offsets in it, and every message is a span of them."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._fields_left = MOST_FIELDS
        self._graphs = 0
        self._nodes: list[OnnxNode] = []
        self._external_data: dict[str, None] = {}

    def model(self, path: Path) -> OnnxFile:
        """Reads the whole file."""
        metadata: dict[str, str] = {}
        values: dict[int, list[OnnxValue]] = {11: [], 12: []}
        has_graph = False
        for number, start, stop, _ in self._messages(0, len(self._data)):
            if number == 7:  # graph; Protocol Buffers merge a message that comes twice
                has_graph = True
                self._graph(start, stop, 0, depth=1)
                for field, first, last, _ in self._messages(start, stop):
                    if field in values:
                        values[field].append(self._value(first, last))
            elif number == 14:  # metadata_props
                metadata |= [self._entry(start, stop, LONGEST_METADATA)]
            elif number == 20:  # training_info: two graphs, which a session does not run
                for field, first, last, _ in self._messages(start, stop):
                    if field in (1, 2):
                        self._graph(first, last, None, depth=2)
            elif number == 25:  # functions
                self._graph(start, stop, None, depth=1, nodes=7, attributes=11)
        if not has_graph:
            raise _DamagedError("it holds no graph")
        inputs, outputs = (tuple(found) for found in values.values())
        return OnnxFile(path, tuple(self._nodes), inputs, outputs, metadata, tuple(self._external_data))

    def _graph(
        self, start: int, stop: int, graph: int | None, depth: int, nodes: int = 1, attributes: int | None = None
    ) -> None:
        """Reads a GraphProto, or a FunctionProto by its field numbers; keeps the nodes where `graph` is given."""
        if depth > DEEPEST:
            raise _DamagedError("its graphs are nested too deeply")
        for number, first, last, _ in self._messages(start, stop):
            if number == nodes:
                self._node(first, last, graph, depth + 1)
            elif attributes is not None:
                if number == attributes:
                    self._attribute(first, last, graph, depth + 1)
            elif number == 5:  # initializer
                self._tensor(first, last)
            elif number == 15:  # sparse_initializer
                self._sparse_tensor(first, last)

    def _node(self, start: int, stop: int, graph: int | None, depth: int) -> None:
        texts: dict[int, list[str]] = {1: [], 2: [], 4: [""], 7: [""]}  # input, output, op_type, domain
        attributes = []
        for number, first, last, _ in self._messages(start, stop):
            if number in texts:
                texts[number].append(self._text(first, last))
            elif number == 5:
                attributes.append((first, last))
        if graph is not None:
            inputs, outputs = tuple(texts[1]), tuple(texts[2])
            self._nodes.append(OnnxNode(texts[7][-1], texts[4][-1], inputs, outputs, graph))
        for span in attributes:
            self._attribute(*span, graph, depth + 1)

    def _attribute(self, start: int, stop: int, graph: int | None, depth: int) -> None:
        for number, first, last, _ in self._messages(start, stop):
            if number in (5, 10):  # t, tensors
                self._tensor(first, last)
            elif number in (22, 23):  # sparse_tensor, sparse_tensors
                self._sparse_tensor(first, last)
            elif number in (6, 11):  # g, graphs
                self._graphs += 1
                self._graph(first, last, None if graph is None else self._graphs, depth + 1)

    def _sparse_tensor(self, start: int, stop: int) -> None:
        for number, first, last, _ in self._messages(start, stop):
            if number in (1, 2):  # values, indices
                self._tensor(first, last)

    def _tensor(self, start: int, stop: int) -> None:
        for number, first, last, _ in self._messages(start, stop):
            if number == 13:  # external_data, whatever data_location says
                key, value = self._entry(first, last, LONGEST_NAME)
                if key == "location":
                    self._external_data[value] = None

    def _entry(self, start: int, stop: int, longest: int) -> tuple[str, str]:
        """Reads a StringStringEntryProto."""
        texts = {1: "", 2: ""}
        for number, first, last, _ in self._messages(start, stop):
            if number in texts:
                texts[number] = self._text(first, last, longest)
        return texts[1], texts[2]

    def _value(self, start: int, stop: int) -> OnnxValue:
        """Reads a ValueInfoProto; a type that is not a tensor's has no shape."""
        name, kind = "", "no tensor"
        shape: list[int | str] = []
        for number, first, last, _ in self._messages(start, stop):
            if number == 1:
                name = self._text(first, last)
            elif number == 2:  # type
                for tensor, end in self._inside(first, last, 1):  # tensor_type
                    for field, begin, behind, element in self._fields(tensor, end):
                        if field == 1 and element is not None:  # elem_type
                            kind = _ELEMENT_TYPES.get(element, f"type {element}")
                        elif field == 2 and element is None:  # shape
                            shape += [self._axis(*axis) for axis in self._inside(begin, behind, 1)]
        return OnnxValue(name, kind, tuple(shape))

    def _axis(self, start: int, stop: int) -> int | str:
        """Reads a dimension: dim_value, or the name that dim_param gives it."""
        axis: int | str = "?"
        for number, first, last, size in self._fields(start, stop):
            if number == 1 and size is not None:
                axis = size
            elif number == 2 and size is None:
                axis = self._text(first, last)
        return axis

    def _inside(self, start: int, stop: int, wanted: int) -> Iterator[tuple[int, int]]:
        return ((first, last) for number, first, last, _ in self._messages(start, stop) if number == wanted)

    def _text(self, start: int, stop: int, longest: int = LONGEST_NAME) -> str:
        if stop - start > longest:
            raise _DamagedError(f"it holds a name of {stop - start} bytes")
        try:
            return self._data[start:stop].decode()
        except UnicodeDecodeError as error:
            raise _DamagedError(f"it holds a name that is no text: {error.reason}") from error

    def _messages(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int | None]]:
        """Gives the fields that have a length: messages, texts and blobs."""
        return (field for field in self._fields(start, stop) if field[3] is None)

    def _fields(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int | None]]:
        """Gives each field's number and span, and the value of one that is a varint."""
        position = start
        while position < stop:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise _DamagedError(f"it holds more than {MOST_FIELDS} fields")
            key, position = self._varint(position, stop)
            number, wire = key >> 3, key & 7
            first, value = position, None
            if wire == 0:
                value, position = self._varint(position, stop)
            elif wire == 2:
                length, first = self._varint(position, stop)
                position = first + length
            elif wire in _WIDTHS:
                position += _WIDTHS[wire]
            # Groups (3 and 4) are not used by ONNX. Of a key of more than 32 bits other readers drop the upper ones and
            # would see fields here that this one does not.
            if number == 0 or key >> 32 or wire not in (0, 2, *_WIDTHS):
                raise _DamagedError("its bytes are not those of Protocol Buffers")
            if position > stop:
                raise _DamagedError("it is cut short")
            if wire in (0, 2):  # ONNX has no field of fixed width that is wanted here
                yield number, first, position, value

    def _varint(self, position: int, stop: int) -> tuple[int, int]:
        """Returns a number of seven bits a byte, lowest first, and the position behind it."""
        value = 0
        for shift in range(0, 70, 7):
            if position >= stop:
                raise _DamagedError("it is cut short")
            byte = self._data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
        raise _DamagedError("its bytes are not those of Protocol Buffers")


_WIDTHS = {1: 8, 5: 4}
"""Bytes of a field of fixed width, by wire type."""

_ELEMENT_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip
"""ONNX's TensorProto.DataType."""
