"""Attacks on classifiers, one family a file, and the checks of what they measure.

The imports of `attacks/__init__.py` are the table of attacks: what each knows of the network, its norm ('smallest'
where it looks for the smallest perturbation), and its source. `door` checks the attacked network before an attack,
`suspicion` the results after it.

Every attack takes images [n, c, h, w], float in [0, 1], and networks in eval mode that return logits, and leaves the
global random state, the networks' weights and their gradients as they are. Sizes are in pixel units: epsilon bounds the
largest change of a pixel under 'linf', the Euclidean length of the whole perturbation under 'l2'.

Two protocols, where an attack takes a `protocol`: 'released' computes what the authors' released code computes, quirks
included; 'strict' what a careful evaluator would do.

In `pgd`, `momentum_transfer`, the files `autoattack` and `minimum_norm` labels [n] are the true classes, integers, and
an image that the network misclassifies without an attack is already fooled: it comes back unchanged.

Every attack raises ValueError for an epsilon out of bounds and, where it asks a network, as `door.opened`. Those that
attack correctly classified images raise it where there is none. Those that follow gradients raise it where the logits
carry none and, except `pgd`, which counts them, where some are not finite. Those that search for the smallest
perturbation refuse a network that says that it draws random numbers.

foolbox and pyautoattack are imported when an attack that needs them is called.
"""

# a new attack: a file, and a line here; `as` marks a public name
from simreg_core.attacks import door as door, suspicion as suspicion
from simreg_core.attacks.apgd import apgd as apgd  # gradients; L-infinity, L2, L1; Croce & Hein 2020, 2021
from simreg_core.attacks.autoattack import (
    AUTOATTACK_QUERIES as AUTOATTACK_QUERIES,
    AUTOATTACK_STEPS as AUTOATTACK_STEPS,
    AUTOATTACK_TARGETS as AUTOATTACK_TARGETS,
    autoattack as autoattack,  # gradients and scores; L-infinity, L2; Croce & Hein 2020
    square as square,  # scores; L-infinity, L2; Andriushchenko et al. 2020
)
from simreg_core.attacks.boundary import (
    boundary_attack as boundary_attack,  # decisions; L2, smallest; Brendel et al. 2018
)
from simreg_core.attacks.fgsm import (
    fgsm_direction as fgsm_direction,  # gradients of another network; L-infinity; Goodfellow et al. 2015
    transferred_fgsm as transferred_fgsm,  # the same, shown to the attacked network
)
from simreg_core.attacks.minimum_norm import (
    carlini_wagner as carlini_wagner,  # gradients; L2, smallest; Carlini & Wagner 2017
    deep_fool as deep_fool,  # gradients; L-infinity, L2, smallest; Moosavi-Dezfooli et al. 2016
    hop_skip_jump as hop_skip_jump,  # decisions; L-infinity, L2, smallest; Chen et al. 2020
    minimum_norm as minimum_norm,  # gradients; L-infinity, L2, L0, smallest; Pintor et al. 2021, Rony et al. 2019
)
from simreg_core.attacks.noise import (
    NOISES as NOISES,
    gaussian_noise as gaussian_noise,  # nothing
    salt_and_pepper_noise as salt_and_pepper_noise,  # nothing
    uniform_noise as uniform_noise,  # nothing
)
from simreg_core.attacks.pgd import (
    PGDResult as PGDResult,
    pgd as pgd,  # gradients; L-infinity, L2; Madry et al. 2018
)
from simreg_core.attacks.result import NORMS as NORMS, AttackResult as AttackResult
from simreg_core.attacks.transfer import (
    momentum_transfer as momentum_transfer,  # of other networks; L-infinity; Dong et al. 2018
)
