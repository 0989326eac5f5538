"""Each public function, given its argument in many forms: it agrees with the plain call, or a ValueError names it.

Forms and modes are combined at random, from a seed that is the function's name.
"""

import random
import re
import warnings
import zlib
from contextlib import contextmanager, nullcontext

import pytest
import torch
from attacks.test_door import ATTACKS, linear
from fake_gpu import GPU, fake_gpu
from torch import Tensor, nn

from simreg_core import (
    SimilarityRegularizer,
    attacks,
    corruptions,
    neural,
    other_similarities,
    pixel_similarity,
    spectra,
    threshold_targets,
)
from simreg_core.names import CORRUPTIONS


def in_inference_mode(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.clone()


ON_GPU = "on a GPU"  # all else is on the CPU
# the same values, otherwise stored or of another type: the plain result, or a ValueError
SAME = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x,
    "transposed": lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    "every second": lambda x: torch.stack([x, x], dim=-1)[..., 0],
    "requires grad": lambda x: x.clone().requires_grad_(),
    "a result": lambda x: x.clone().requires_grad_() * 1,
    "a parameter": lambda x: nn.Parameter(x),
    "of inference mode": in_inference_mode,
    "double": lambda x: x.double(),
    "half": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    ON_GPU: lambda x: x.to(GPU),
    "array": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "list of tensors": lambda x: list(x),
}
# not what is asked for: a ValueError
WRONG = {
    "empty": lambda x: x[:0],
    "an axis less": lambda x: x[0],
    "an axis more": lambda x: x[None],
    "NaN": lambda x: x.clone().index_fill_(0, torch.tensor([1]), torch.nan),
    "infinite": lambda x: x.clone().index_fill_(0, torch.tensor([0]), torch.inf),
    "complex": lambda x: x.to(torch.complex64),
    "none": lambda x: None,
    "text": lambda x: "images",
    "a number": lambda x: torch.tensor(0.5),
}
MODES = (torch.enable_grad, torch.no_grad, torch.inference_mode)
ROUNDING = {"half": 1e-2, "bfloat16": 1e-1}  # what the values lose already


def plain(result) -> list[Tensor]:
    """The numbers of a result."""
    if isinstance(result, Tensor):
        return [result.detach()]
    if isinstance(result, tuple | list):
        return [one for each in result for one in plain(each)]
    if isinstance(result, float | int):
        return [torch.tensor(float(result))]
    return plain([value for value in vars(result).values() if not isinstance(value, str)])


def fuzz(name: str, call, value: Tensor, named: str, same: dict = SAME, wrong: dict = WRONG) -> None:
    """call: of one argument.  value: a good one.  named: pattern that every message must have."""
    expected, chance, problems = plain(call(value)), random.Random(zlib.crc32(name.encode())), []
    for form, make in {**same, **wrong}.items():
        mode = chance.choice(MODES)
        problem = f"{form} under {mode.__name__}"
        try:
            with mode(), fake_gpu() if form == ON_GPU else nullcontext():
                found = [one.cpu() for one in plain(call(make(value)))]
        except ValueError as error:
            if not re.search(rf"{named}|inference_mode", str(error)):
                problems.append(f"{problem}: the message names nothing: {error}")
        except Exception as error:
            problems.append(f"{problem}: {type(error).__name__}: {error}")
        else:
            tolerance = ROUNDING.get(form, 1e-4)
            if form in wrong:
                problems.append(f"{problem}: taken")
            elif len(found) != len(expected) or not all(
                torch.allclose(a.double(), b.double(), tolerance, tolerance, equal_nan=True)
                for a, b in zip(found, expected, strict=True)
            ):
                problems.append(f"{problem}: another result")
    assert problems == []


@pytest.fixture
def pixels(generator):
    return 0.3 + 0.4 * torch.rand(6, 2, 6, 6, generator=generator)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


NOISES = {
    name: lambda x, name=name: getattr(attacks, name)(x, 0.1, protocol="strict", generator=seeded())
    for name in ("gaussian_noise", "uniform_noise", "salt_and_pepper_noise")
}


@pytest.mark.parametrize("name", [*ATTACKS, *NOISES])
def test_images_of_attacks(name, pixels):
    network = linear()
    labels = network(pixels).argmax(dim=1)
    call = NOISES[name] if name in NOISES else lambda x: ATTACKS[name](network, x, labels)
    # in another precision a search ends elsewhere, and other noise is drawn; that of attacks is refused
    others = {*ROUNDING, "double"} if name in NOISES else ROUNDING
    fuzz(name, call, pixels, "image|pixels", {one: SAME[one] for one in SAME if one not in others})


def test_images_and_direction_of_a_transferred_attack(pixels):
    """The direction was found before, on another network."""
    direction = torch.randint(-1, 2, pixels.shape, generator=seeded()).float()

    def call(x, direction=direction):
        return attacks.transferred_fgsm(x, direction, 0.1, protocol="strict")

    fuzz("transferred_fgsm", call, pixels, "image|pixels")
    fuzz("transferred_fgsm direction", lambda d: call(pixels, d), direction, "direction")


LABELS = {
    ON_GPU: lambda y: y.to(GPU),
    "list": lambda y: y.tolist(),
    "array": lambda y: y.numpy(),
    "every second": lambda y: torch.stack([y, y], dim=-1)[..., 0],
    "of inference mode": in_inference_mode,
    **{str(kind): lambda y, kind=kind: y.to(kind) for kind in (torch.uint8, torch.int8, torch.int16, torch.int32)},
}
WRONG_LABELS = {
    "float": lambda y: y.float(),
    "bool": lambda y: y > 0,
    "one-hot": lambda y: nn.functional.one_hot(y, 5),
    "a column": lambda y: y[:, None],
    "too few": lambda y: y[:-1],
    "too large": lambda y: y + 5,
    "negative": lambda y: y - 5,
    "none": lambda y: None,
    "text": lambda y: "labels",
    "a number": lambda y: 3,
}


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "boundary_attack"])
def test_labels_of_attacks(name, pixels):
    network = linear()
    labels = network(pixels).argmax(dim=1)
    fuzz(name, lambda y: ATTACKS[name](network, pixels, y), labels, "label", LABELS, WRONG_LABELS)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_images_of_corruptions(name, generator):
    gray = torch.randint(0, 256, (3, 1, 16, 16), generator=generator) / 255
    # to 256 levels, which half precision may miss by one
    same = {one: SAME[one] for one in SAME if one not in ROUNDING}
    fuzz(name, lambda x: corruptions.corrupt(x, name, 3, seeded()), gray, "image|pixels", same)


SIMILARITIES = {
    "pixel_similarity": pixel_similarity,
    **{
        name: lambda x, name=name: other_similarities.target_similarity(name, x)
        for name in ("euclidean", "ssim", "blurred", "untrained")
    },
}


@pytest.mark.parametrize("name", SIMILARITIES)
def test_images_that_are_compared(name, generator):
    fuzz(name, SIMILARITIES[name], torch.rand(5, 1, 16, 16, generator=generator), "image|pixels")


PAIR_NETWORK = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def regularized(images, targets="pixel", network=PAIR_NETWORK) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SimilarityRegularizer(network, ["0", "1"], images, targets=targets, pairs_per_step=4)().detach()


def test_images_and_targets_of_the_regularizer(generator):
    images = torch.rand(6, 1, 8, 8, generator=generator)
    fuzz("regularizer images", regularized, images, "image|pixels")
    targets = threshold_targets(pixel_similarity(images), 0.2)
    fuzz("regularizer targets", lambda t: regularized(images, t), targets, "target")


def symmetric(generator) -> Tensor:
    return pixel_similarity(torch.rand(6, 1, 8, 8, generator=generator))


REPEATS = (4, 6, 5)
NEURAL = {
    "response_similarity": (neural.response_similarity, lambda g: torch.rand(6, 5, generator=g), "responses"),
    "weights": (
        lambda w: neural.response_similarity(torch.rand(6, 5, generator=seeded(1)), w),
        lambda g: torch.rand(5, generator=g)[None, :][0],
        "weights",
    ),
    "reliability": (
        lambda r: neural.reliability(r, splits=3),
        lambda g: torch.rand(REPEATS, generator=g),
        "responses|repeats",
    ),
    "averaged_similarity": (lambda s: neural.averaged_similarity([s, s]), symmetric, "similarit"),
    "check_similarity": (neural.check_similarity, symmetric, "similarit"),
    "threshold_targets": (lambda s: threshold_targets(s, 0.2), symmetric, "similarity"),
    "similarity_correlation": (
        lambda s: neural.similarity_correlation(s, symmetric(seeded(2))),
        symmetric,
        "similarity|similarities|correlation",
    ),
    "correlation_interval": (
        lambda s: neural.correlation_interval(s, symmetric(seeded(2)), 20),
        symmetric,
        "similarity|similarities|correlation",
    ),
    "mantel_test": (
        lambda s: neural.mantel_test(s, symmetric(seeded(2)), 20),
        symmetric,
        "similarity|similarities|correlation",
    ),
    "neuron_weights": (lambda v: neural.neuron_weights(v, v), lambda g: torch.rand(5, generator=g), "reliab|correl"),
    "population": (
        lambda x: neural.GaborPopulation((8, 8), 4).rates(x),
        lambda g: torch.rand(5, 1, 8, 8, generator=g),
        "image|pixels",
    ),
}


@pytest.mark.parametrize("name", NEURAL)
def test_what_neural_takes(name):
    call, make, named = NEURAL[name]
    value = make(seeded())
    same, wrong = dict(SAME), dict(WRONG)
    if value.ndim == 1:
        same.pop("transposed")
        wrong["NaN"] = lambda x: x * torch.nan
        wrong["an axis less"] = lambda x: x[0]
    if name in ("weights", "neuron_weights"):
        wrong.pop("none")  # all neurons alike
    fuzz(name, call, value, named, same, wrong)


@pytest.mark.parametrize("name", ["rates", "predicted_similarity", "fit"])
def test_what_a_predictor_takes(name):
    images, responses = torch.rand(8, 1, 9, 9, generator=seeded()), torch.rand(2, 8, 3, generator=seeded(1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        predictor = neural.V1Predictor((9, 9), 3, channels=2, layers=0, kernel=5)
    if name == "rates":
        fuzz(name, predictor.rates, images, "image|pixels")
        return
    if name == "predicted_similarity":
        weights = torch.rand(3, generator=seeded(2))
        fuzz(name, lambda x: neural.predicted_similarity(predictor, x, weights), images, "image|pixels")
        other = WRONG | {"NaN": lambda x: x * torch.nan, "an axis less": lambda x: x[0]}
        same = {one: SAME[one] for one in SAME if one != "transposed"}
        other.pop("none")  # all neurons alike
        fuzz("weights", lambda w: neural.predicted_similarity(predictor, images, w), weights, "weights", same, other)
        return
    start = {key: tensor.clone() for key, tensor in predictor.state_dict().items()}

    def fit(given: dict) -> Tensor:
        predictor.load_state_dict(start)
        arguments = {"images": images, "responses": responses, "held_out": torch.arange(3), **given}
        return torch.tensor(neural.fit_predictor(predictor, **arguments, epochs=2).held_out_loss)

    fuzz("fit images", lambda x: fit({"images": x}), images, "image|pixels")
    fuzz("fit responses", lambda r: fit({"responses": r}), responses, "responses")


def test_counts_of_spikes_are_integers_and_are_taken():
    counts = torch.randint(0, 5, (4, 6, 5), generator=seeded())
    assert torch.equal(
        neural.response_similarity(counts[0]), neural.response_similarity(counts[0].to(torch.get_default_dtype()))
    )
    assert torch.equal(neural.reliability(counts).weights, neural.reliability(counts.double()).weights)


@contextmanager
def double_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


# what a user may have set; "meta" stands for "cuda": nothing that is made there has numbers
DEFAULTS = {"type": double_by_default, "device": lambda: torch.device("meta")}


def calls() -> dict:
    """Functions that take what is made here, before anything is set."""
    pixels, images = 0.3 + 0.4 * torch.rand(6, 2, 6, 6, generator=seeded()), torch.rand(6, 1, 9, 9, generator=seeded())
    network, normalized = linear(), nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    labels = network(pixels).argmax(dim=1)
    repeats, pair = torch.rand(4, 6, 5, generator=seeded()), [symmetric(seeded(seed)) for seed in (1, 2)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        predictor = neural.V1Predictor((9, 9), 5, channels=2, layers=0, kernel=5)
    held_out, start = torch.arange(3), {name: one.clone() for name, one in predictor.state_dict().items()}

    def fitted() -> float:
        predictor.load_state_dict(start)
        return neural.fit_predictor(predictor, images, repeats, held_out, epochs=2).held_out_loss[-1]

    return {
        **{name: lambda call=call: call(network, pixels, labels) for name, call in ATTACKS.items()},
        **{name: lambda call=call: call(pixels) for name, call in NOISES.items()},
        "transferred_fgsm": lambda: attacks.transferred_fgsm(pixels, (pixels - 0.5).sign(), 0.1, protocol="released"),
        "predicted_similarity": lambda: neural.predicted_similarity(predictor, images),
        **{name: lambda name=name: SIMILARITIES[name](images) for name in SIMILARITIES if name != "blurred"},
        "regularizer": lambda: regularized(images, network=normalized),
        "reliability": lambda: neural.reliability(repeats, splits=3),
        "interval": lambda: neural.correlation_interval(*pair, 20),
        "mantel": lambda: neural.mantel_test(*pair, 20),
        "population": lambda: neural.GaborPopulation((9, 9), 4).trials(images, 2, seeded()),
        "radial": lambda: spectra.cumulative_radial_profile(spectra.mean_power_spectrum(images)),
        "rates": lambda: predictor.rates(images),
        "fit": fitted,
    }


@pytest.mark.parametrize("default", DEFAULTS)
def test_torchs_defaults_do_not_matter(default):
    problems = []
    for name, call in calls().items():
        expected = plain(call())
        try:
            with DEFAULTS[default]():
                found = call()
        except Exception as error:
            problems.append(f"{name}: {type(error).__name__}: {error}")
        else:
            both = zip(expected, plain(found), strict=True)
            if not all(torch.allclose(a, b.to(a.dtype), 1e-4, 1e-4, equal_nan=True) for a, b in both):
                problems.append(f"{name}: another result")
    assert problems == []
