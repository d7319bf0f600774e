"""The methods, by name: one file each."""

from labcore.methods.base import Method
from labcore.methods.ewc import EWC
from labcore.methods.feature_extraction import FeatureExtraction
from labcore.methods.fine_tuning import FineTuning
from labcore.methods.joint import Joint
from labcore.methods.lwf import LwF
from labcore.methods.packnet import PackNet
from labcore.methods.piggyback import Piggyback
from labcore.methods.separate_copies import SeparateCopies

METHODS: dict[str, type[Method]] = {
    "feature_extraction": FeatureExtraction,
    "fine_tuning": FineTuning,
    "separate_copies": SeparateCopies,
    "joint": Joint,
    "lwf": LwF,
    "ewc": EWC,
    "packnet": PackNet,
    "piggyback": Piggyback,
}
