"""The four classifiers, each a pure function of event frames and state.

The names and the constructors' arguments are those of Prophesee's Metavision ML classification API, and the layers
carry the names that its checkpoints use.
"""

from __future__ import annotations

from edgeclf.models.classifier import Classifier, State, StateSpec, detach_state, mask_state
from edgeclf.models.conv_rnn import ConvRNNClassifier
from edgeclf.models.lenet import LeNetClassifier
from edgeclf.models.mobilenet_v2 import Mobilenetv2Classifier
from edgeclf.models.squeezenet import SqueezenetClassifier

__all__ = [
    "Classifier",
    "ConvRNNClassifier",
    "LeNetClassifier",
    "Mobilenetv2Classifier",
    "SqueezenetClassifier",
    "State",
    "StateSpec",
    "detach_state",
    "mask_state",
]
