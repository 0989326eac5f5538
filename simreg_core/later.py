"""Modules that are loaded when they are first used, for files whose settings are read where nothing is computed."""

from importlib import import_module
from typing import Any


class Later:
    """Stands for a module.  `torch = Later("torch")` is used as `import torch` is, but loads it with the first use."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
