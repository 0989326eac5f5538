"""A small network of parts, a regularizer of it, and what that warns of."""

import warnings

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from simreg_core import SimilarityRegularizer


class Parts(nn.Module):
    """A stem, and a body that runs as `how` says."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        x = self.stem(x)
        if self.how == "no_grad":
            with torch.no_grad():
                x = self.body(x)
        elif self.how == "detach":
            x = self.body(x.detach()).detach()
        else:
            x = checkpoint(self.body, x, use_reentrant=self.how == "reentrant")
        return self.head(x).mean((2, 3))


def warnings_of(regularizer, calls=2):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(calls):
            regularizer().backward()
    return [str(one.message) for one in caught]


def regularized(network, layers, images, **options):
    return SimilarityRegularizer(network, layers, images, targets="pixel", pairs_per_step=4, **options)
