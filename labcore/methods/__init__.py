"""The methods, by name: one file each."""

from labcore.methods.base import Method
from labcore.methods.feature_extraction import FeatureExtraction
from labcore.methods.fine_tuning import FineTuning
from labcore.methods.joint import Joint
from labcore.methods.separate_copies import SeparateCopies

METHODS: dict[str, type[Method]] = {
    "feature_extraction": FeatureExtraction,
    "fine_tuning": FineTuning,
    "separate_copies": SeparateCopies,
    "joint": Joint,
}
