"""What tests of attacks share: the list of attacks, and a linear network about which everything is known."""

import inspect
import pkgutil
from importlib import import_module

import torch
from torch import nn
from torch.nn import functional as F

from simreg_core import attacks

DUAL = {"linf": 1, "l2": 2}


class Linear(nn.Module):
    """Five classes on 1x8x8 images, with what is known about them exactly."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.weight = nn.Parameter(torch.randn(5, 64, generator=generator))
        self.bias = -self.weight.detach().sum(dim=1) / 2  # a tie in the middle of the cube

    def forward(self, x):
        return x.flatten(1) @ self.weight.T + self.bias

    def distance(self, x, labels, norm):
        """Exact size of the smallest perturbation that fools, without the pixels' bounds, [n]; 0 if misclassified."""
        logits = self(x).detach()
        margin = logits.gather(1, labels[:, None]) - logits
        apart = (self.weight[labels][:, None] - self.weight).detach().norm(p=DUAL[norm], dim=2)
        other = F.one_hot(labels, 5) == 0
        return (margin / apart)[other].reshape(len(x), 4).amin(dim=1).clamp_min(0)


def fooled(model, result, labels):
    with torch.no_grad():
        return model(result.adversarial).argmax(dim=1) != labels


def attack_functions() -> set[str]:
    """The public functions of the files in `attacks/` that take a network to attack, or surrogates of it."""
    files = [import_module(f"simreg_core.attacks.{each.name}") for each in pkgutil.iter_modules(attacks.__path__)]
    return {
        name
        for file in files
        for name, function in vars(file).items()
        if inspect.isfunction(function) and function.__module__ == file.__name__ and not name.startswith("_")
        if {"seed", "surrogate"} & set(inspect.signature(function).parameters)
        if {"model", "surrogate", "surrogates"} & set(inspect.signature(function).parameters)
    }
