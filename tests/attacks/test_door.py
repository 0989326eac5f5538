"""The door of every attack: each attack against each network, and each kind of input, that it must refuse or mend."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from attacked import attack_functions
from torch import nn
from torch.nn import functional as F

from simreg_core import attacks, defences
from simreg_core.attacks import door

AUTOATTACK = {"steps": 2, "targets": 1, "queries": 2, "seed": 0}
# a new attack is one more line: (network, images, labels) -> result
ATTACKS = {
    "fgsm_direction": attacks.fgsm_direction,
    "boundary_attack": lambda m, x, y: attacks.boundary_attack(m, x, steps=3, protocol="strict", seed=0, directions=20),
    "pgd": lambda m, x, y: attacks.pgd(m, x, y, 0.3, steps=3, seed=0),
    "pgd l2": lambda m, x, y: attacks.pgd(m, x, y, 2.0, norm="l2", steps=3, seed=0),
    "momentum_transfer": lambda m, x, y: attacks.momentum_transfer([m], x, y, 0.3, 2),
    "autoattack": lambda m, x, y: attacks.autoattack(m, x, y, 0.3, norm="linf", **AUTOATTACK),
    "autoattack l2": lambda m, x, y: attacks.autoattack(m, x, y, 2.0, norm="l2", **AUTOATTACK),
    "apgd": lambda m, x, y: attacks.apgd(m, x, y, 0.3, steps=3, seed=0),
    "apgd l1": lambda m, x, y: attacks.apgd(m, x, y, 5.0, norm="l1", steps=3, seed=0),
    "square": lambda m, x, y: attacks.square(m, x, y, 0.3, queries=5, seed=0),
    "square l2": lambda m, x, y: attacks.square(m, x, y, 2.0, norm="l2", queries=5, seed=0),
    "hop_skip_jump": lambda m, x, y: attacks.hop_skip_jump(m, x, y, steps=1, directions=20, seed=0),
    "minimum_norm": lambda m, x, y: attacks.minimum_norm(m, x, y, steps=3, seed=0),
    "minimum_norm l2": lambda m, x, y: attacks.minimum_norm(m, x, y, norm="l2", steps=3, seed=0),
    "minimum_norm l0": lambda m, x, y: attacks.minimum_norm(m, x, y, norm="l0", steps=3, seed=0),
    "carlini_wagner": lambda m, x, y: attacks.carlini_wagner(m, x, y, steps=2, binary_search_steps=1, seed=0),
    "deep_fool": lambda m, x, y: attacks.deep_fool(m, x, y, steps=3),
}
WITH_LABELS = [name for name in ATTACKS if name != "boundary_attack"]
UNDONE_BY_CHANCE = [
    *("boundary_attack", "hop_skip_jump", "minimum_norm", "minimum_norm l2", "minimum_norm l0"),
    *("carlini_wagner", "deep_fool"),
]


def test_every_attack_is_in_the_table():
    assert attack_functions() == {name.split()[0] for name in ATTACKS}


def test_every_attack_is_public_and_its_line_says_what_it_knows():
    table = Path(attacks.__file__).read_text()
    for name in attack_functions():
        assert callable(getattr(attacks, name))
        assert re.search(rf"{name} as {name},?  # \w", table), name


class Net(nn.Module):
    """Five classes on 2x6x6 images, by `change(logits, pixels)` of a linear network's logits."""

    def __init__(self, change=lambda logits, x: logits):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.weight = nn.Parameter(torch.randn(5, 72, generator=generator))
        self.change = change

    def forward(self, x):
        return self.change((x.flatten(1) - 0.5) @ self.weight.T, x)


def linear():
    return Net().eval()


@pytest.fixture
def images(generator):
    return 0.3 + 0.4 * torch.rand(6, 2, 6, 6, generator=generator)


@pytest.fixture
def labels(images):
    return linear()(images).argmax(dim=1)


def with_dropout(training):
    network = nn.Sequential(Net(), nn.Sequential(nn.Dropout(0.5), nn.Identity())).eval()
    network[1][0].train(training)
    return network


def with_batch_norm():
    network = nn.Sequential(nn.BatchNorm2d(2), Net()).eval()
    network[0].train()
    return network


def dead(value, image):
    """One logit of one of the images is not finite, whichever batch it comes in."""

    def change(logits, x):
        first = torch.rand(6, 2, 6, 6, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
        at = (x == first[image]).flatten(1).all(dim=1)[:, None] & (torch.arange(5) == 3)
        return logits.masked_fill(at, value)

    return change


class Forgetful(Net):
    """Another answer at each second pass, without a random number."""

    passes = 0

    def forward(self, x):
        self.passes += 1
        return super().forward(x) * (1 + self.passes % 2)


BAD = {
    "every logit NaN": (lambda: Net(lambda logits, x: logits * torch.nan), r"finite, 6 of 6 images gave NaN"),
    "one logit NaN": (lambda: Net(dead(torch.nan, 5)), "logits must be finite, 1 of 6"),
    "one logit infinite": (lambda: Net(dead(torch.inf, 2)), "logits must be finite, 1 of 6"),
    "one logit minus infinity": (lambda: Net(dead(-torch.inf, 0)), "logits must be finite, 1 of 6"),
    "one class": (lambda: Net(lambda logits, x: logits[:, :1]), r"at least 2 classes\], got \[6, 1\].*make two"),
    "one class, squeezed": (lambda: Net(lambda logits, x: logits[:, 0]), r"at least 2 classes\], got \[6\].*make two"),
    "no class": (lambda: Net(lambda logits, x: logits[:, :0]), r"at least 2 classes\], got \[6, 0\]"),
    "maps": (lambda: Net(lambda logits, x: logits[:, :, None, None]), r"got \[6, 5, 1, 1\] for 6 images"),
    "mean over images": (lambda: Net(lambda logits, x: logits.mean(dim=0)), r"got \[5\] for 6 images"),
    "tuple": (lambda: Net(lambda logits, x: (logits, None)), "must return logits, one float tensor .* got tuple"),
    "dictionary": (lambda: Net(lambda logits, x: {"logits": logits}), "must return logits.* got dict"),
    "decisions": (lambda: Net(lambda logits, x: F.one_hot(logits.argmax(dim=1), 5)), "got torch.int64"),
    "dropout left on": (lambda: with_dropout(True), r"'1.0' \(Dropout\) of the attacked model is in training mode"),
    "batch norm left on": (with_batch_norm, r"'0' \(BatchNorm2d\) .* training mode; call model.eval\(\)"),
    "noise": (
        lambda: Net(lambda logits, x: logits + 0.01 * torch.randn_like(logits)),
        "answer the same twice: the sam",
    ),
    "functional dropout": (lambda: Net(lambda logits, x: F.dropout(logits)), "same twice.*draws_random_numbers = True"),
    "memory": (Forgetful, "answer the same twice"),
    "other images": (lambda: nn.Conv2d(3, 5, 3), r"cannot take images \[6, 2, 6, 6\] torch.float32 on cpu: RuntimeErr"),
    "double weights": (lambda: Net().double(), "cannot take images .* torch.float32 .*RuntimeError: expected m"),
    "function": (lambda: lambda x: linear()(x), "must be a torch.nn.Module that returns logits, got function"),
}


def bad(name):
    network, message = BAD[name]
    network = network()
    if isinstance(network, nn.Module) and "left on" not in name:
        network.eval()
    return network, message


@pytest.mark.parametrize("network", BAD)
@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_no_classifier_is_refused(name, network, images, labels):
    network, message = bad(network)
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=message):
        ATTACKS[name](network, images, labels)
    assert torch.equal(torch.get_rng_state(), state)
    assert not isinstance(network, nn.Module) or all(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("network", BAD)
def test_every_surrogate_is_looked_at(network, images, labels):
    network, message = bad(network)
    with pytest.raises(ValueError, match=message):
        attacks.momentum_transfer([linear(), network], images, labels, 0.1, 1)


@pytest.mark.parametrize("network", BAD)
def test_accuracies_go_through_the_same_door(network, images):
    network, message = bad(network)
    with pytest.raises(ValueError, match=message):
        door.classifier(network, images)(images)


@pytest.mark.parametrize("count", [1, 2])
def test_one_logit_is_no_class_of_few_images_either(count, images, labels):
    for change in (
        lambda logits, x: logits[:, 0],
        lambda logits, x: logits[:, 0].squeeze(),
        lambda logits, x: logits[0],
    ):
        with pytest.raises(ValueError, match=r"\[n, at least 2 classes\]"):
            attacks.pgd(Net(change).eval(), images[:count], labels[:count] * 0, 0.1, steps=1, seed=0)


@pytest.mark.parametrize("name", ["boundary_attack", "pgd", "pgd l2", "autoattack", "square", "hop_skip_jump"])
def test_logits_that_die_under_the_attack_are_no_robustness(name, images, labels):
    def change(logits, x):
        return logits.masked_fill((x.flatten(1).amin(dim=1) < 0.28)[:, None], torch.nan)

    with pytest.raises(ValueError, match="logits must be finite"):
        ATTACKS[name](Net(change).eval(), images, labels)


@pytest.mark.parametrize(
    "name", [name for name in WITH_LABELS if name.split()[0] not in ("pgd", "square", "hop_skip_jump")]
)
def test_dead_gradients_are_no_robustness(name, images, labels):
    def change(logits, x):
        return logits + (x[:, 0, :1, :1] * 0).sqrt().flatten(1)  # adds zero; its gradient is 0 * infinity

    with pytest.raises(ValueError, match=r"gradients must be finite.* for 6 of 6 images"):
        ATTACKS[name](Net(change).eval(), images, labels)


class Noisy(Net):
    draws_random_numbers = True

    def forward(self, x):
        return super().forward(x + 0.02 * torch.randn_like(x))


@pytest.mark.filterwarnings("ignore:AutoAttack says")
@pytest.mark.parametrize("name", ATTACKS)
def test_a_network_that_says_that_it_draws_random_numbers(name, images, labels):
    network, state = nn.Sequential(nn.Identity(), Noisy()).eval(), torch.get_rng_state()
    if name in UNDONE_BY_CHANCE:
        with pytest.raises(ValueError, match=r"says that it draws random numbers; use pgd, or autoattack with version"):
            ATTACKS[name](network, images, labels)
    else:
        first, second = (made(ATTACKS[name](network, images, labels)) for _ in range(2))
        assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_autoattack_for_a_network_that_draws_random_numbers(images, labels):
    network = Noisy().eval()
    result = attacks.autoattack(network, images, labels, 0.2, norm="linf", version="rand", steps=3, seed=0)
    assert (linear()(result.adversarial).argmax(dim=1) != labels).float().mean() > 0.5


def made(result):
    return result if isinstance(result, torch.Tensor) else result.adversarial


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_and_the_callers_gradients_leave_each_other_alone(name, images, labels):
    network = linear()
    expected = made(ATTACKS[name](network, images, labels))
    for context, pixels in (
        (torch.no_grad(), images),
        (torch.enable_grad(), images.clone().requires_grad_()),
        (torch.enable_grad(), (images.clone().requires_grad_() * 1.0)),
    ):
        with context:
            enabled = torch.is_grad_enabled()
            result = ATTACKS[name](network, pixels, labels)
            assert torch.is_grad_enabled() == enabled
        assert torch.equal(made(result), expected)
        assert not made(result).requires_grad
        assert isinstance(result, torch.Tensor) or not result.l2.requires_grad
        assert pixels.grad_fn is not None or pixels.grad is None
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())
    network.weight.requires_grad_(False)
    assert torch.equal(made(ATTACKS[name](network, images, labels)), expected)
    assert not network.weight.requires_grad


@pytest.mark.parametrize("name", ATTACKS)
def test_inference_mode_is_refused_but_not_its_images(name, images, labels):
    network = linear()
    with torch.inference_mode():
        copies, weights = (images.clone(), labels.clone()), linear()
        with pytest.raises(ValueError, match=r"cannot run under torch.inference_mode\(\)"):
            ATTACKS[name](network, images, labels)
    assert torch.equal(made(ATTACKS[name](network, *copies)), made(ATTACKS[name](network, images, labels)))
    with pytest.raises(ValueError, match=r"the network was made under torch\.inference_mode"):
        ATTACKS[name](weights, images, labels)


@pytest.mark.parametrize("name", WITH_LABELS)
def test_integer_labels_of_any_type_are_taken(name, images, labels):
    network = linear()
    expected = made(ATTACKS[name](network, images, labels))
    kinds = [labels.to(kind) for kind in (torch.int32, torch.int16, torch.int8, torch.uint8)]
    for kind in (*kinds, labels.tolist(), labels.numpy(), labels.numpy().astype(np.int32)):
        assert torch.equal(made(ATTACKS[name](network, images, kind)), expected)


@pytest.mark.parametrize("name", WITH_LABELS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y.float(), r"labels must be integers, \[n\] int64, got torch.float32"),
        (lambda y: y > 0, "labels must be integers.* got torch.bool"),
        (lambda y: None, "labels must be integers.* got NoneType"),
        (lambda y: [str(each) for each in y], "labels must be integers.* got list"),
        (lambda y: y[:, None], r"labels must have shape \[6\], got \[6, 1\]"),
        (lambda y: F.one_hot(y, 5), r"labels must have shape \[6\], got \[6, 5\]"),
        (lambda y: y - 5, r"labels must lie in \[0, 4\] for this network"),
    ],
)
def test_other_labels_are_refused(name, change, message, images, labels):
    with pytest.raises(ValueError, match=message):
        ATTACKS[name](linear(), images, change(labels))


@pytest.mark.parametrize("name", ATTACKS)
def test_images_may_lie_in_memory_as_they_like(name, images, labels):
    network = linear()
    expected = made(ATTACKS[name](network, images, labels))
    for pixels in (
        images.to(memory_format=torch.channels_last),
        images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        images.transpose(2, 3).contiguous().transpose(2, 3),
        torch.cat([images, images], dim=1)[:, :2],
    ):
        assert not pixels.is_contiguous()
        assert torch.equal(made(ATTACKS[name](network, pixels, labels)), expected)


@pytest.mark.parametrize("name", ATTACKS)
def test_double_images_for_a_double_network(name, images, labels):
    result = made(ATTACKS[name](linear().double(), images.double(), labels))
    assert result.dtype == torch.float64
    assert result.isfinite().all()


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.numpy(), r"images must be a torch tensor \[n, c, h, w\], got ndarray"),
        (lambda x: list(x), r"images must be a torch tensor \[n, c, h, w\], got list"),
        (lambda x: x.half(), "images must be float32 or float64, got torch.float16"),
        (lambda x: x.bfloat16(), "images must be float32 or float64, got torch.bfloat16"),
        (lambda x: (255 * x).byte(), "divide uint8 by 255"),
        (lambda x: x[0], r"must have shape \[n, c, h, w\]"),
        (lambda x: x[:0], r"with n >= 1"),
        (lambda x: x * 255, r"pixels must lie in \[0, 1\]"),
        (lambda x: x.masked_fill(x > 0.69, torch.nan), r"pixels must lie in \[0, 1\], got \[nan"),
    ],
)
def test_other_images_are_refused(name, change, message, images, labels):
    with pytest.raises(ValueError, match=message):
        ATTACKS[name](linear(), change(images), labels)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("count", [1, 3])
def test_a_network_that_squeezes_is_attacked_like_another(name, count, images, labels):
    squeezing = Net(lambda logits, x: logits.squeeze()).eval()
    x, y = images[:count], labels[:count]
    assert torch.equal(made(ATTACKS[name](squeezing, x, y)), made(ATTACKS[name](linear(), x, y)))


@pytest.mark.parametrize(
    ("surrogates", "kind"), [(nn.Sequential(linear(), linear()), "Sequential"), (lambda x: x, "function")]
)
def test_a_lone_surrogate_is_no_list(surrogates, kind, images, labels):
    with pytest.raises(ValueError, match=f"surrogates must be a list of networks, got a {kind}"):
        attacks.momentum_transfer(surrogates, images, labels, 0.1, 1)


def test_the_network_is_asked_about_no_more_images_than_it_takes_at_once(images, labels):
    sizes = []
    network = Net(lambda logits, x: (sizes.append(len(x)), logits)[1]).eval()
    attacks.pgd(network, images, labels, 0.1, steps=2, seed=0, batch_size=3)
    assert max(sizes) == 3


def test_rounding_is_no_random_number(images):
    class Rounded(Forgetful):
        def forward(self, x):
            self.passes += 1
            return Net.forward(self, x) * (1 + 1e-6 * (self.passes % 2))

    assert door.classifier(Rounded().eval(), images)(images).shape == (6, 5)


def test_adversarial_training_does_not_pay_for_the_door(images, labels):
    passes = []
    network = Net(lambda logits, x: (passes.append(len(x)), logits)[1]).train()
    defences.pgd_adversarial_examples(network, images, labels, 0.1, 0.05, 4, torch.Generator().manual_seed(0))
    assert passes == [6] * 4
    passes.clear()
    defences.trades_loss(network, images, labels, 0.1, 0.05, 4, 6.0, torch.Generator().manual_seed(0))
    assert passes == [6] * (1 + 4 + 2)
