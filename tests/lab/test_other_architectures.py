"""Other architectures in the laboratory: trained, resumed, evaluated and sized like the ResNets."""

from contextlib import suppress

import pytest
import torch
from conftest import TINY
from torch import nn
from torch.nn import functional as F

from simreg_core.architectures import architecture
from simreg_core.lab import recipes, series
from simreg_core.lab.figures import figure
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.measuring.subject import trained_network
from simreg_core.lab.specs import Architecture, Experiment, SpecError, build, load_profile
from simreg_core.lab.store import Store
from simreg_core.lab.tensors import read_tensors
from simreg_core.lab.training import train
from simreg_core.lab.training.assembly import build_network
from simreg_core.model import BLOCKS
from simreg_core.names import LAYERS, WIDTHS

CPU = torch.device("cpu")


def smallest(profile, name):
    one = Architecture(name=name, width=4, learning_rate=0.02)
    sizes = profile.studies.changed(architectures=(one,), test_images=20, boundary_images=2)
    small = profile.changed(studies=sizes, regularizer=profile.regularizer.changed(alpha=0.01))
    return recipes.of_architecture(small, one)


@pytest.mark.parametrize("name", LAYERS)
def test_a_killed_run_resumes_to_the_same_weights(tiny, tmp_path, name):
    experiment = recipes.experiment(smallest(tiny, name), "S^Th", 0)
    undisturbed, killed = Store(tmp_path / "a"), Store(tmp_path / "b")
    train(experiment, undisturbed, CPU)
    epochs = []

    def kill(share):
        epochs.append(share)
        if len(epochs) == 2:  # the first report says what was done before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(experiment, killed, CPU, kill)
    train(experiment, killed, CPU)
    ours, theirs = (read_tensors(store.weights_path(experiment))[0] for store in (undisturbed, killed))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours | theirs)
    start = architecture(name, (16, 16), width=4).state_dict()
    assert {key: one.shape for key, one in ours.items()} == {key: one.shape for key, one in start.items()}


def test_an_architecture_is_attacked(tiny, store):
    base = smallest(tiny, "vit")
    experiment = recipes.experiment(base, "S^Th", 0)
    attacks = recipes.three_attacks(base)
    for one in (experiment, attacks[2].surrogate):
        assert one.network.name == "vit"
        train(one, store, CPU)
    for attack in attacks:
        assert len(evaluate(experiment, attack, store, CPU).values) >= 4
    network = trained_network(experiment, 10, store, CPU)
    assert not network.training


def test_the_study_has_none_and_threshold_of_each_with_a_surrogate_of_its_kind(tiny):
    blocks = figure("15_architectures").study(tiny).blocks
    assert [block.group for block in blocks] == ["vgg", "mlp"]
    for block in blocks:
        assert list(block.series) == [series.NONE, series.THRESHOLD]
        gaussian, _, fgsm, _, boundary = block.evaluations  # noise and FGSM under both protocols
        assert (gaussian.attack, boundary.attack) == ("gaussian", "boundary")
        assert fgsm.surrogate.network == block.series[series.NONE][0].network
        assert fgsm.surrogate.regularizer is None
        assert fgsm.surrogate.seed not in {one.seed for one in block.series[series.NONE]}
    vgg, mlp = (block.series[series.THRESHOLD][0] for block in blocks)
    assert (vgg.regularizer.alpha, vgg.optimization) == (tiny.regularizer.alpha, tiny.optimization)
    assert (mlp.regularizer.alpha, mlp.optimization.learning_rate) == (0.2, 0.05)


def test_widths_alphas_and_sizes_that_are_left_out(tiny):
    profile = tiny.changed(regularizer=tiny.regularizer.changed(size=(24, 36)))
    bare = recipes.of_architecture(profile, Architecture(name="mlp"))
    assert bare.network.width == WIDTHS["mlp"]
    assert bare.regularizer.size is None  # the task's
    alphas = [
        block.series[series.THRESHOLD][0].regularizer.alpha
        for block in figure("15_architectures").study(recipes.adapt(tiny, alpha=0.7)).blocks
    ]
    assert alphas == [0.7, 0.7]


def test_every_profile_that_ships_has_architectures():
    for name in ("quick", "cifar-small", "paper", "trimmed", "neural", "recorded", TINY):
        profile = load_profile(name)
        for one in profile.studies.architectures:
            for target in (series.NONE, series.THRESHOLD):
                recipes.experiment(recipes.of_architecture(profile, one), target, 0)  # refuses what does not fit


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [
        ({"name": "vit", "width": 5}, (16, 16), "width of 'vit' must be a positive multiple of 2, got 5"),
        ({"name": "vgg"}, (8, 8), "'vgg' takes images of at least 16x16, got 8x8"),
        ({"name": "mlp"}, (16, 24), "'mlp' takes images of one size: regularizer.size must be the task's"),
        ({"name": "resnet50"}, (16, 16), "network.name: got 'resnet50'"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_anything_is_trained(tiny, network, size, message):
    task, regularizer = tiny.task.changed(size=size), tiny.regularizer.changed(size=(16, 16))
    with pytest.raises(SpecError, match=message):
        build(Experiment, {"task": task, "regularizer": regularizer, "network": network})


@pytest.mark.parametrize(("task", "own"), [((16, 16), (32, 16)), ((17, 17), (17, 16))])
def test_too_few_columns_are_refused_in_bfloat16(tiny, task, own):
    """oneDNN's gradient of a strided convolution of a single column is wrong there; float32 is right."""
    parts = {
        "task": tiny.task.changed(size=task),
        "regularizer": tiny.regularizer.changed(size=own),
        "network": {"name": "torchvision-resnet18", "width": 4},
    }
    with pytest.raises(SpecError, match=r"'torchvision-resnet18' in bfloat16 takes .* at least 17 columns, got 16: "):
        build(Experiment, {**parts, "optimization": {"precision": "bfloat16"}})
    assert build(Experiment, parts).optimization.precision is None


def of_the_smallest_images(profile, name) -> Experiment:
    """In bfloat16."""
    for side in range(8, 40):
        parts = {"task": profile.task.changed(size=(side, side)), "network": {"name": name, "width": 16}}
        with suppress(SpecError):
            return build(Experiment, {**parts, "optimization": {"precision": "bfloat16"}})
    raise AssertionError(name)


@pytest.mark.parametrize("name", [*BLOCKS, *LAYERS])
def test_weight_gradients_in_bfloat16_are_right_for_the_smallest_images(tiny, name):
    """Of each convolution by itself, since rounding grows from layer to layer; nothing of them is left unwritten."""
    experiment = of_the_smallest_images(tiny, name)
    network, given = build_network(experiment, 10).to(memory_format=torch.channels_last), []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(lambda layer, inputs: given.append((layer, inputs[0])))
    generator = torch.Generator().manual_seed(0)
    network(torch.rand(16, 1, *experiment.task.size, generator=generator))
    assert all(x.shape[3] >= layer.stride[1] for layer, x in given if layer.kernel_size[1] > 1)
    assert given or name == "mlp"
    for layer, x in [*given]:  # the hook adds to it
        exact, rounded = (weight_gradient(layer, x, precision) for precision in (torch.float32, torch.bfloat16))
        assert F.cosine_similarity(rounded, exact, dim=0) > 0.99, (layer, x.shape)


def weight_gradient(layer, x, precision) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        y = layer(x.detach())
    there = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    dirty = [torch.full((layer.weight.numel() * n,), torch.nan, dtype=precision) for n in (1, 1, 2, 2, 4)]
    del dirty  # what is not written is then seen
    (found,) = torch.autograd.grad(y, layer.weight, there.to(y))
    return found.flatten().float()


def test_an_architecture_is_named_once_and_known(tiny):
    twice = {"name": "vgg"}
    with pytest.raises(SpecError, match="architectures names 'vgg' twice"):
        tiny.studies.changed(architectures=(twice, twice))
    with pytest.raises(SpecError, match="unknown architecture 'vit'; allowed: vgg, mlp"):
        recipes.base_of(tiny, architecture="vit")
