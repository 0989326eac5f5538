"""Attacks on classifiers, one family a file, and the checks of what they measure.

| attack | knowledge | norm | file | source |
| --- | --- | --- | --- | --- |
| `gaussian_noise`, `uniform_noise`, `salt_and_pepper_noise` | none | - | noise | |
| `fgsm_direction`, `transferred_fgsm` | gradients of another network | L-infinity | fgsm | Goodfellow et al. 2015 |
| `momentum_transfer` | gradients of other networks | L-infinity | transfer | Dong et al. 2018 |
| `boundary_attack` | decisions | L2, smallest | boundary | Brendel et al. 2018 |
| `hop_skip_jump` | decisions | L-infinity, L2, smallest | minimum_norm | Chen et al. 2020 |
| `square` | scores | L-infinity, L2 | autoattack | Andriushchenko et al. 2020 |
| `pgd` | gradients | L-infinity, L2 | pgd | Madry et al. 2018 |
| `minimum_norm` | gradients | L-infinity, L2, L0, smallest | minimum_norm | Pintor et al. 2021, Rony et al. 2019 |
| `deep_fool` | gradients | L-infinity, L2, smallest | minimum_norm | Moosavi-Dezfooli et al. 2016 |
| `carlini_wagner` | gradients | L2, smallest | minimum_norm | Carlini & Wagner 2017 |
| `autoattack` | gradients and scores | L-infinity, L2 | autoattack | Croce & Hein 2020 |

`door` checks the attacked network before an attack, `suspicion` the results after it.

Every attack takes images [n, c, h, w], float in [0, 1], and networks in eval mode that return logits, and leaves the
global random state, the networks' weights and their gradients as they are. Sizes are in pixel units: epsilon bounds the
largest change of a pixel under 'linf', the Euclidean length of the whole perturbation under 'l2'.

Two protocols, where an attack takes a `protocol`: 'released' computes what the authors' released code computes, quirks
included; 'strict' what a careful evaluator would do.

From `hop_skip_jump` on in the table labels [n] are the true classes, integers, and an image that the network
misclassifies without an attack is already fooled: it comes back unchanged.

Every attack raises ValueError for an epsilon out of bounds and, where it asks a network, as `door.opened`. Those that
attack correctly classified images raise it where there is none. Those that follow gradients raise it where the logits
carry none and, except `pgd`, which counts them, where some are not finite. Those that search for the smallest
perturbation refuse a network that says that it draws random numbers.

foolbox and pyautoattack are imported when an attack that needs them is called.
"""

# a new attack: a file, a line here and a line in the table above; `as` marks a public name
from simreg_core.attacks import door as door
from simreg_core.attacks import suspicion as suspicion
from simreg_core.attacks.autoattack import AUTOATTACK_QUERIES as AUTOATTACK_QUERIES
from simreg_core.attacks.autoattack import AUTOATTACK_STEPS as AUTOATTACK_STEPS
from simreg_core.attacks.autoattack import AUTOATTACK_TARGETS as AUTOATTACK_TARGETS
from simreg_core.attacks.autoattack import autoattack as autoattack
from simreg_core.attacks.autoattack import square as square
from simreg_core.attacks.boundary import boundary_attack as boundary_attack
from simreg_core.attacks.fgsm import fgsm_direction as fgsm_direction
from simreg_core.attacks.fgsm import transferred_fgsm as transferred_fgsm
from simreg_core.attacks.minimum_norm import carlini_wagner as carlini_wagner
from simreg_core.attacks.minimum_norm import deep_fool as deep_fool
from simreg_core.attacks.minimum_norm import hop_skip_jump as hop_skip_jump
from simreg_core.attacks.minimum_norm import minimum_norm as minimum_norm
from simreg_core.attacks.noise import NOISES as NOISES
from simreg_core.attacks.noise import gaussian_noise as gaussian_noise
from simreg_core.attacks.noise import salt_and_pepper_noise as salt_and_pepper_noise
from simreg_core.attacks.noise import uniform_noise as uniform_noise
from simreg_core.attacks.pgd import PGDResult as PGDResult
from simreg_core.attacks.pgd import pgd as pgd
from simreg_core.attacks.result import NORMS as NORMS
from simreg_core.attacks.result import AttackResult as AttackResult
from simreg_core.attacks.transfer import momentum_transfer as momentum_transfer
