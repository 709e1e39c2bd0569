from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from edgeclf.hyperparameters import MODEL_NAMES, HyperParameters, default_batch_size, model_classes, output_labels
from edgeclf.models import ConvRNNClassifier, LeNetClassifier, Mobilenetv2Classifier, SqueezenetClassifier
from edgeclf_runtime.errors import UsageError

LEAST = {
    "models": "ConvRNNClassifier",
    "classes": ["paper", "rock"],
    "height": 64,
    "width": 80,
    "delta_t": 10_000,
    "preprocess": "histo",
}


def read(**changes: Any) -> HyperParameters:
    return HyperParameters.from_mapping(LEAST | changes)


def test_what_is_not_said_has_its_default_and_what_is_not_known_is_ignored() -> None:
    found = read(of_the_future=[1], lr=None)
    assert found.classes == ("paper", "rock")
    assert (found.lr, found.preprocess_channels, found.num_ev_reps, found.preprocess_kwargs) == (1e-3, 2, 1, {})


def test_the_older_names() -> None:
    found = read(in_channels=1, max_incr_per_pixel=3.0)
    assert found.preprocess_channels == 1
    assert found.preprocess_kwargs == {"max_incr_per_pixel": 3.0}
    newer = read(
        in_channels=1, preprocess_channels=2, max_incr_per_pixel=3.0, preprocess_kwargs={"max_incr_per_pixel": 7}
    )
    assert newer.preprocess_channels == 2
    assert newer.preprocess_kwargs == {"max_incr_per_pixel": 7}


def test_numpy_values_become_plain_ones_that_json_can_hold() -> None:
    """Real checkpoints hold NumPy numbers; they go on into the contract, which is JSON."""
    found = read(
        delta_t=np.int64(20_000),
        lr=np.float32(0.5),
        height=np.uint16(64),
        width=torch.tensor(80),
        preprocess_kwargs={"max_incr_per_pixel": np.float32(2), "downsampling_factor": np.int32(1)},
    )
    assert json.loads(json.dumps(found.to_dict()))["preprocess_kwargs"] == {
        "max_incr_per_pixel": 2.0,
        "downsampling_factor": 1,
    }
    assert {type(getattr(found, name)) for name in ("delta_t", "height", "width")} == {int}
    older = read(max_incr_per_pixel=np.float32(2))
    assert json.dumps(older.to_dict())


def test_to_dict_reads_back_the_same() -> None:
    found = read(num_ev_reps=3, label_delta_t=50_000, use_label_freq=True, preprocess_kwargs={"max_incr_per_pixel": 2})
    stored = found.to_dict()
    assert stored.keys() == {field.name for field in fields(HyperParameters)}
    assert isinstance(stored["classes"], list)
    assert HyperParameters.from_mapping(stored) == found


@pytest.mark.parametrize("name", LEAST)
def test_a_missing_one_is_named(name: str) -> None:
    values = {key: value for key, value in LEAST.items() if key != name}
    with pytest.raises(UsageError, match=rf"here\.ckpt: the hyper-parameters {name} are missing"):
        HyperParameters.from_mapping(values, "here.ckpt")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("height", 0),
        ("height", "64"),
        ("width", 1.5),
        ("width", float("nan")),
        ("delta_t", -10),
        ("delta_t", True),
        ("num_tbins", 0),
        ("batch_size", [8]),
        ("label_delta_t", 0),
        ("lr", "fast"),
        ("lr", float("inf")),
        ("wd", -1),
        ("classes", "paper"),
        ("classes", []),
        ("classes", ["a", "a"]),
        ("classes", 3),
        ("preprocess_kwargs", [1]),
        ("use_label_freq", "false"),
        ("use_label_freq", 2),
        ("interpolate_labels", "no"),
        ("interpolate_labels", 0.5),
        ("n_events", -1),
        ("class_weights", np.array(1.0)),
        ("class_weights", np.ones((3, 1))),
    ],
)
def test_a_value_that_cannot_be_is_named(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"the hyper-parameter {name} is .*, but must be"):
        read(**{name: value})


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(UsageError, match="'ResNetClassifier', and edgeclf knows ConvRNNClassifier"):
        read(models="ResNetClassifier")


def test_the_background_is_output_0_of_recurrent_models_and_a_class_of_the_others() -> None:
    assert read().labels == ("background", "paper", "rock")
    assert read(models="LeNetClassifier").labels == ("background", "paper", "rock")
    whole = ["paper", "background", "rock"]
    assert read(models="SqueezenetClassifier", classes=whole).labels == tuple(whole)
    for model in ("ConvRNNClassifier", "LeNetClassifier", "Mobilenetv2Classifier", "SqueezenetClassifier"):
        assert output_labels(model, model_classes(model, ("a", "b"))) == ("background", "a", "b")


@pytest.mark.parametrize("value", [True, False, 1, 0, np.bool_(True), np.int64(0)])
def test_flags_are_true_or_false(value: Any) -> None:
    found = read(use_label_freq=value, interpolate_labels=value)
    assert found.use_label_freq is found.interpolate_labels is bool(value)


@pytest.mark.parametrize("value", [0, 0.0, np.int64(0), None])
def test_no_events_is_no_number_of_events(value: Any) -> None:
    assert read(n_events=value).n_events is None


def test_class_weights_may_be_numpys() -> None:
    assert read(class_weights=np.array([0.5, 1.0, 2.0], np.float32)).class_weights == (0.5, 1.0, 2.0)
    with pytest.raises(UsageError, match="2 class_weights and 3 outputs"):
        read(class_weights=np.ones(2))


def test_frames_have_one_duration_or_each_its_own() -> None:
    assert read(delta_t=20_000).frame_duration == 20_000
    assert read(mode="n_events", n_events=500).frame_duration is None


def test_the_sensors_size_is_known_or_not() -> None:
    assert read().sensor_size is None
    assert read(event_input_width=640).sensor_size is None
    assert read(event_input_width=640, event_input_height=480).sensor_size == (640, 480)


def test_the_network_is_the_one_described() -> None:
    conv = read(feature_base=4, feature_channels_out=8).build_model()
    assert isinstance(conv, ConvRNNClassifier)
    assert conv.conv1.module[0][0].weight.shape == (4, 2, 3, 3)
    assert conv.head.module[2].weight.shape == (3, 8, 3, 3)
    lenet = read(models="LeNetClassifier", feature_channels_out=8).build_model()
    assert isinstance(lenet, LeNetClassifier)
    assert lenet.head.module[2].weight.shape == (3, 8, 3, 3)
    mobile = read(models="Mobilenetv2Classifier", width_mul=0.5, num_ev_reps=3).build_model()
    assert isinstance(mobile, Mobilenetv2Classifier)
    assert mobile.model.features[0][0].weight.shape == (16, 6, 3, 3)
    squeeze = read(models="SqueezenetClassifier", num_ev_reps=2).build_model()
    assert isinstance(squeeze, SqueezenetClassifier)
    assert squeeze.model.features[0].weight.shape == (64, 4, 3, 3)
    assert (squeeze.channels, squeeze.num_classes, squeeze.num_ev_reps) == (2, 2, 2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"models": "LeNetClassifier", "height": 47}, "at least 48×48"),
        ({"preprocess": "diff"}, "diff makes 1 channels, and the hyper-parameter preprocess_channels is 2"),
        ({"preprocess": "sorcery"}, "no preprocessing called sorcery"),
        ({"preprocess_kwargs": {"spell": 1}}, "does not take these arguments"),
    ],
)
def test_a_network_that_cannot_be_is_a_sentence(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read(**changes).build_model()


def test_background_among_the_classes_of_a_recurrent_model_is_refused() -> None:
    values = {"models": "ConvRNNClassifier", "classes": ["background", "a"], "height": 48, "width": 48}
    with pytest.raises(UsageError, match="hold the background"):
        HyperParameters.from_mapping({**values, "delta_t": 10_000, "preprocess": "histo"})


@pytest.mark.parametrize(("value", "message"), [(None, "preprocess are missing"), (["histo"], "the name of a preproc")])
def test_a_preprocessing_that_is_no_name_is_a_sentence(value: object, message: str) -> None:
    values = {"models": "ConvRNNClassifier", "classes": ["a"], "height": 48, "width": 48, "delta_t": 10_000}
    with pytest.raises(UsageError, match=message):
        HyperParameters.from_mapping({**values, "preprocess": value})


def test_feed_forward_models_take_more_at_once() -> None:
    """Windows are single predictions, recordings are `num_tbins` each."""
    found = {name: default_batch_size(name) for name in MODEL_NAMES}
    assert found == {
        "ConvRNNClassifier": 8,
        "LeNetClassifier": 8,
        "Mobilenetv2Classifier": 64,
        "SqueezenetClassifier": 64,
    }
