from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

NAMES = {
    "edgeclf_runtime": (),
    "edgeclf_runtime.backends": (
        "Backend", "Device", "DeviceOptions", "Placement", "StreamMemory", "open_backend",
    ),
    "edgeclf_runtime.benchmark": (),
    "edgeclf_runtime.commands": (),
    "edgeclf_runtime.events": ("Events", "Recording", "open_recording"),
    "edgeclf_runtime.machine": (),
    "edgeclf_runtime.outputs": ("Hdf5Output", "JsonLinesOutput", "LiveLine", "PredictionOutput", "VideoOutput"),
    "edgeclf_runtime.preprocessing": (
        "ENTRY_POINT_GROUP", "Diff", "DiffQuantized", "EventCube", "Histo", "HistoQuantized",
        "MultiChannelTimeSurface", "Preprocessing", "TimeSurface", "area_resize", "canonical_arguments",
        "create_preprocessing", "effective_arguments", "preprocessing_names", "register_preprocessing",
    ),
    "edgeclf_runtime.session": (
        "Backend", "Classifier", "Device", "DeviceOptions", "Placement", "Predictions", "open_model",
        "optimised_graph",
    ),
    "edgeclf_runtime.sources": (
        "EventSource", "FrameSource", "IteratorSource", "Source", "SourceFactory", "open_source", "register_source",
        "source_names",
    ),
    "edgeclf_runtime.streaming": (
        "ClearEvery", "ClearOnLowActivity", "MemoryPolicy", "MemoryPolicyName", "NeverClear", "RunStatistics",
        "StreamOptions", "StreamPrediction", "StreamRun", "StreamStatistics", "WhenLate", "memory_policy",
        "run_streams",
    ),
}  # fmt: skip
"""What others may import, by module: to take a name from here is to break their programs."""

EXPORTED = [(module, name) for module, names in NAMES.items() for name in names]


@pytest.mark.parametrize("module", NAMES)
def test_exported_names(module):
    assert tuple(getattr(importlib.import_module(module), "__all__", ())) == NAMES[module]


def test_every_package_is_listed():
    root = Path(inspect.getfile(importlib.import_module("edgeclf_runtime"))).parent
    packages = {path.parent.relative_to(root.parent).as_posix().replace("/", ".") for path in root.rglob("__init__.py")}
    assert packages <= set(NAMES)


@pytest.mark.parametrize(("module", "name"), EXPORTED)
def test_every_class_and_function_says_what_it_is(module, name):
    exported = getattr(importlib.import_module(module), name)
    if inspect.isfunction(exported) or inspect.isclass(exported):
        assert exported.__doc__
    if inspect.isclass(exported):
        for attribute, value in vars(exported).items():
            if not attribute.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                assert value.__doc__, attribute
