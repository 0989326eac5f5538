"""Two attacks of foolbox 3.3.4, each with a fault mended."""

import eagerpy
from foolbox import attacks as foolbox_attacks

from simreg_core.attacks.ball import to_length


class HopSkipJump(foolbox_attacks.HopSkipJumpAttack):
    """HopSkipJump whose gradient estimates have length 1 for each image.

    Arguments as foolbox's.  Source: Chen, Jordan and Wainwright (2020), arXiv 1904.02144.
    """

    def approximate_gradients(self, *arguments):
        # foolbox 3.3.4 scales the gradients of a batch by their common length: each step is then too short
        gradients = super().approximate_gradients(*arguments)
        return eagerpy.astensor(to_length(gradients.raw, 1.0))


class L0FMN(foolbox_attacks.L0FMNAttack):
    """Fast minimum-norm attack under L0 whose projection stays inside the image.

    Arguments as foolbox's.  Source: Pintor et al. (2021), arXiv 2102.12827.
    """

    def project(self, x, x0, epsilon):
        # foolbox 3.3.4 looks one past the last value where all may change
        return super().project(x, x0, eagerpy.minimum(epsilon, x.raw[0].numel() - 1))
