"""Find the class by which a method learns, by the method's name. This loads torch.

What can be told of a method without torch is in `labcore/configs/registry.py`.
"""

import importlib

from labcore.configs.method import MethodError
from labcore.configs.registry import ABOUT
from labcore.methods.base import Method


def learner(name: str) -> type[Method]:
    """The class by which a method learns. Raises MethodError where the method is not installed or has no class."""
    if name not in ABOUT:
        raise MethodError(f"The method {name!r} is not installed here; install it, or choose {', '.join(ABOUT)}.")
    about = ABOUT[name]
    found = getattr(importlib.import_module(f"{about.package}.learn"), about.learner, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise MethodError(f"The method {name!r} has no learner: there is no method {about.learner} in its learn.py.")
    return found
