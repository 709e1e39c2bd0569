"""The contract: everything that a device needs to know about a model, as one JSON document inside its file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from edgeclf_runtime.errors import ContractError
from edgeclf_runtime.precision import PRECISIONS, Precision

CONTRACT_VERSION = 1
METADATA_KEY = "edgeclf"
"""Key of the document in ONNX's metadata, and its name among TorchScript's extra files."""

FRAMES = "frames"
EVENTS = "events"
KEEP_MEMORY = "keep_memory"
LOGITS = "logits"
PROBABILITIES = "probabilities"

BACKGROUND = "background"
"""The label of the output that means: nothing that the classifier knows is being shown."""


def background_index(labels: Sequence[str]) -> int | None:
    """Returns which of a classifier's outputs is the background; None for one without.

    Args:
        labels: Name of each output, in order.

    Example:
        >>> background_index(("paper", "background"))
        1
    """
    return labels.index(BACKGROUND) if BACKGROUND in labels else None


FloatType = Literal["float32", "float16"]
"""Element type of a tensor that goes into a graph or comes out of it."""


@dataclass(frozen=True)
class StateTensor:
    """One tensor of a model's memory.

    Attributes:
        name: Its name in the model, e.g. `conv2.0.h`.
        shape: Its shape without the batch axis.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def input_name(self) -> str:
        """The graph's input that takes it."""
        return f"state.{self.name}"

    @property
    def output_name(self) -> str:
        """The graph's output that gives it back."""
        return f"next_state.{self.name}"


@dataclass(frozen=True)
class Contract:
    """What travels inside an exported file.

    Attributes:
        architecture: The classifier's class name.
        labels: Name of each output.
        delta_t: Duration of an event frame in µs.
        preprocess: Name of the preprocessing.
        preprocess_kwargs: Its arguments.
        sensor_size: Width and height of the sensor that it was trained for; None where the checkpoint does not say.
        frame_shape: Channels, rows and columns of a frame.
        state: The memory's tensors; empty for a model without memory.
        precision: Of weights and arithmetic.
        opset: ONNX operator set; None for other formats.
        versions: Versions of what made the file, by package.
        checkpoint_sha256: Digest of the checkpoint.
        batch: Number of streams of every step; None: any.
        takes: What the first input is: `frames`, or the `events` of one stream's slice.
        keep_memory: Whether the graph has the input that clears a stream's state; only where there is state.
        edge_type: Type of `frames`, `keep_memory`, `logits` and `probabilities`.
        state_type: Type of the state.
        golden_sha256: Digest of the golden vectors beside the file; empty where there are none.
        command: The command that made the file, without folders.
    """

    architecture: str
    labels: tuple[str, ...]
    delta_t: int
    preprocess: str
    preprocess_kwargs: Mapping[str, Any]
    sensor_size: tuple[int, int] | None
    frame_shape: tuple[int, int, int]
    state: tuple[StateTensor, ...]
    precision: Precision
    opset: int | None
    versions: Mapping[str, str] = field(default_factory=dict)
    checkpoint_sha256: str = ""
    batch: int | None = None
    takes: Literal["frames", "events"] = "frames"
    keep_memory: bool = True
    edge_type: FloatType = "float32"
    state_type: FloatType = "float32"
    golden_sha256: str = ""
    command: str = ""

    @property
    def streams_frames(self) -> bool:
        """Whether this runtime can stream with it: it takes frames, and its memory, if any, can be cleared."""
        return self.takes != EVENTS and (not self.state or self.keep_memory)

    @property
    def input_names(self) -> list[str]:
        """The graph's inputs, in order."""
        keep = [KEEP_MEMORY] if self.state and self.keep_memory else []
        return [self.takes, *keep, *(tensor.input_name for tensor in self.state)]

    @property
    def output_names(self) -> list[str]:
        """The graph's outputs, in order."""
        return [LOGITS, PROBABILITIES, *(tensor.output_name for tensor in self.state)]

    def to_json(self) -> str:
        """Returns the document."""
        channels, height, width = self.frame_shape
        return json.dumps(
            {
                "contract_version": CONTRACT_VERSION,
                "architecture": self.architecture,
                "labels": list(self.labels),
                "delta_t": self.delta_t,
                "preprocessing": {"name": self.preprocess, "arguments": dict(self.preprocess_kwargs)},
                "sensor_size": None
                if self.sensor_size is None
                else {"width": self.sensor_size[0], "height": self.sensor_size[1]},
                "frame_size": {"channels": channels, "height": height, "width": width},
                "state": [
                    {"name": s.name, "input": s.input_name, "output": s.output_name, "shape": list(s.shape)}
                    for s in self.state
                ],
                "inputs": self.input_names,
                "outputs": self.output_names,
                "batch": self.batch,
                "precision": self.precision,
                "edge_type": self.edge_type,
                "state_type": self.state_type,
                "opset": self.opset,
                "versions": dict(self.versions),
                "checkpoint_sha256": self.checkpoint_sha256,
                "golden_sha256": self.golden_sha256,
                "command": self.command,
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: str) -> Contract:
        """Reads the contract out of a file's metadata.

        Args:
            metadata: The file's metadata by key.
            source: The file's name, for errors.

        Raises:
            ContractError: Where there is none, or one of a version that this edgeclf does not know.
        """
        if METADATA_KEY not in metadata:
            raise ContractError(
                f"{source}: this model was not exported by edgeclf: it carries no '{METADATA_KEY}' metadata; "
                "export its checkpoint with `edgeclf export`."
            )
        try:
            found = json.loads(metadata[METADATA_KEY])
            version = found["contract_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(source) from error
        if type(version) is not int or not _is_sound(found):
            raise _damaged(source)
        if version != CONTRACT_VERSION:
            raise ContractError(
                f"{source}: its contract is of version {version}, and this edgeclf knows version {CONTRACT_VERSION}; "
                "install the edgeclf that made it, or export the checkpoint again."
            )
        try:
            sensor, frame = found["sensor_size"], found["frame_size"]
            inputs = found.get("inputs", [FRAMES, KEEP_MEMORY])
            return cls(
                architecture=found["architecture"],
                labels=tuple(found["labels"]),
                delta_t=found["delta_t"],
                preprocess=found["preprocessing"]["name"],
                preprocess_kwargs=found["preprocessing"]["arguments"],
                sensor_size=None if sensor is None else (sensor["width"], sensor["height"]),
                frame_shape=(frame["channels"], frame["height"], frame["width"]),
                state=tuple(StateTensor(s["name"], tuple(s["shape"])) for s in found["state"]),
                precision=cast("Precision", _PRECISION_OF.get(found["precision"], found["precision"])),
                opset=found["opset"],
                versions=found["versions"],
                checkpoint_sha256=found["checkpoint_sha256"],
                # What edgeclf did not write at first has the value that those files had.
                batch=found.get("batch"),
                takes="events" if EVENTS in inputs else "frames",
                keep_memory=KEEP_MEMORY in inputs or not found["state"],
                edge_type=found.get("edge_type", "float32"),
                state_type=found.get("state_type", "float32"),
                golden_sha256=found.get("golden_sha256", ""),
                command=found.get("command", ""),
            )
        except (KeyError, TypeError) as error:
            raise _damaged(source) from error


_PRECISION_OF = {"float32": "fp32"}
"""What edgeclf 0.1 wrote at first."""


def _is_sound(found: Any) -> bool:
    """Whether every field that the runtime computes with, where it is there, has a value of its type.

    A field that is missing, or one of a later version, is not judged here.
    """
    if found["contract_version"] != CONTRACT_VERSION:
        return True

    def is_size(value: object) -> bool:
        return type(value) is int and value >= 1

    labels, preprocessing = found.get("labels", []), found.get("preprocessing", {})
    sizes = [found.get("sensor_size") or {}, found.get("frame_size", {})]
    return (
        isinstance(labels, list)
        and all(isinstance(label, str) for label in labels)
        and is_size(found.get("delta_t", 1))
        and isinstance(preprocessing, dict)
        and isinstance(preprocessing.get("name", ""), str)
        and isinstance(preprocessing.get("arguments", {}), dict)
        and all(isinstance(size, dict) and all(map(is_size, size.values())) for size in sizes)
        and isinstance(found.get("versions", {}), dict)
        and isinstance(found.get("precision", ""), str)
        and _PRECISION_OF.get(found.get("precision"), found.get("precision", "fp32")) in PRECISIONS
        and all(found.get(name, "float32") in get_args(FloatType) for name in ("edge_type", "state_type"))
        and (found.get("batch") is None or is_size(found["batch"]))
        and isinstance(found.get("inputs", []), list)
        and all(isinstance(found.get(name, ""), str) for name in ("golden_sha256", "command"))
    )


def _damaged(source: str) -> ContractError:
    return ContractError(f"{source}: its edgeclf contract is damaged; export the checkpoint again.")
