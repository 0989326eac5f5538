"""Freezing by order of execution, on networks whose order is known, and the rule's settings."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18 as torchvision_resnet18

from simreg_core import resnet18
from simreg_core.architectures import architecture
from simreg_core.defences import PartialTraining
from simreg_core.defences.partial import freeze, hold_statistics, in_order, parts, set_afresh

IMAGE = torch.zeros(1, 1, 16, 16)


class ShortcutFirst(nn.Module):
    """A block whose shortcut runs first and is defined first."""

    def __init__(self):
        super().__init__()
        self.skip = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4))
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.none = nn.Dropout()

    def forward(self, x):
        beside = self.skip(x)
        return self.second(self.first(self.none(x)).relu()) + beside


class HeadFirst(nn.Module):
    """A network whose head is defined before its block."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.body = nn.Sequential(ShortcutFirst())

    def forward(self, x):
        return self.head(self.body(x).mean(dim=(2, 3)))


def test_modules_stand_in_the_order_in_which_they_run():
    order = in_order(HeadFirst(), IMAGE)
    assert [*order] == ["body.0.first", "body.0.second", "body.0.skip.0", "body.0.skip.1", "head"]
    assert order["body.0.skip.1"] == ("body.0.skip.1.weight", "body.0.skip.1.bias")


def test_the_paper_s_network_has_the_cuts_of_the_source():
    """41 modules, so 40 cuts; of VGG16 27 and 26."""
    names = [*in_order(resnet18(width=2), IMAGE)]
    assert len(names) == 41
    assert names[:3] == ["stem.0", "stem.1", "stage1.0.conv1"]
    block = ["conv1", "bn1", "conv2", "bn2", "shortcut.0", "shortcut.1"]
    place = names.index("stage2.0.conv1")
    assert names[place : place + 6] == [f"stage2.0.{one}" for one in block]
    assert names[-1] == "head"
    other = [*in_order(torchvision_resnet18(), torch.zeros(1, 3, 32, 32))]
    assert len(other) == 41
    assert other.index("layer2.0.downsample.0") == other.index("layer2.0.bn2") + 1
    vgg = [*in_order(architecture("vgg16", (16, 16), width=1), IMAGE)]
    assert (len(vgg), vgg[-1]) == (27, "body.classifier")


@pytest.mark.parametrize("name", ["vgg", "vgg16", "convnext", "vit", "mlp"])
def test_every_parameter_of_any_network_has_one_place(name):
    network = architecture(name, (16, 16)).train()
    order = in_order(network, IMAGE)
    placed = [parameter for own in order.values() for parameter in own]
    assert sorted(placed) == sorted(name for name, _ in network.named_parameters())
    assert network.training
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_network_without_an_order_is_refused():
    class Aside(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Flatten(), nn.Linear(256, 2))
            self.aside = nn.Linear(2, 2)

        def forward(self, x):
            return self[1](self[0](x))

    with pytest.raises(ValueError, match=r"parameter 'aside.weight' is of no module that a forward pass runs"):
        in_order(Aside(), IMAGE)
    with pytest.raises(ValueError, match="a Sequential has no parameters, so there is nothing to freeze"):
        in_order(nn.Sequential(nn.ReLU()), IMAGE)


def test_parts_of_a_network():
    assert parts("abcd", cut=1) == (["a"], ["b", "c", "d"])
    assert parts("abcd", cut=4) == ([*"abcd"], [])
    assert parts("abcd", single=2) == (["a", "b", "d"], ["c"])
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match=rf"cut must lie in \[0, 4\], the network has 4 modules; got {wrong}"):
            parts("abcd", cut=wrong)
    with pytest.raises(ValueError, match=r"single must lie in \[0, 3\], the network has 4 modules; got 4"):
        parts("abcd", single=4)
    for both in ({}, {"cut": 1, "single": 1}):
        with pytest.raises(ValueError, match="give either a cut or a single module"):
            parts("abcd", **both)


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def trained_a_little(network, hold=False):
    """Two steps on random images."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for _ in range(2):
        network.train()
        if hold:
            hold_statistics(network)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.rand(8, 1, 16, 16)), torch.arange(8)).backward()
        optimizer.step()


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("early_is_frozen", [True, False])
def test_frozen_weights_stay_bit_for_bit_and_the_others_are_new(early_is_frozen, hold):
    torch.manual_seed(0)
    network = resnet18(width=2)
    trained_a_little(network)
    base = state_of(network)
    order = in_order(network, IMAGE)
    early, late = parts([*order], cut=12)
    kept, fresh = (early, late) if early_is_frozen else (late, early)
    set_afresh(network, fresh)
    begun = state_of(network)
    freeze(network, kept, order)
    trained_a_little(network, hold)
    after = state_of(network)
    for module in order:
        for parameter in order[module]:
            assert torch.equal(base[parameter], after[parameter]) == (module in kept)
            assert torch.equal(begun[parameter], after[parameter]) != (module in fresh)
    norms = [one for one in order if f"{one}.running_mean" in base]
    for module in norms:
        assert (begun[f"{module}.running_mean"] == 0).all() == (module in fresh)  # reset, or as stage one left it
        moved = not torch.equal(begun[f"{module}.running_var"], after[f"{module}.running_var"])
        assert moved == (module in fresh or not hold)


def test_a_cut_after_the_last_module_is_the_base_network():
    network = resnet18(width=2)
    base, order = state_of(network), in_order(network, IMAGE)
    kept, fresh = parts([*order], cut=len(order))
    set_afresh(network, fresh)
    freeze(network, kept, order)
    assert not fresh
    assert all(torch.equal(base[name], value) for name, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_module_that_cannot_be_set_afresh_is_named_before_any_changes():
    network = architecture("vit", (16, 16))
    before = state_of(network)
    with pytest.raises(ValueError, match=r"module 'body', a VisionTransformer, cannot be set afresh"):
        set_afresh(network, ["body.conv_proj", "body"])
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


class Of:
    """Stands for a parent experiment."""

    def __init__(self, code):
        self.adversarial = PartialTraining(code, 0.1)


def test_a_code_says_what_each_stage_does():
    letters = {"A1N2": ("A1", False), "N1A2": ("N1", True), "A2N1": ("N1", True), "N2A1": ("A1", False)}
    for code, (first, adversarial) in letters.items():
        rule = PartialTraining(code, 0.1, 3, cut=4, parent=Of(first))
        assert (rule.stage_one, rule.adversarial) == (first, adversarial)
        assert rule.passes() == (3 if adversarial else 0)
    assert PartialTraining("A1", 0.1).adversarial
    assert not PartialTraining("N1", 0.1).adversarial
    assert PartialTraining("A1", 0.1).stages(7)[0].ends_with == "last"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"code": "A1N1"}, "unknown code 'A1N1'; allowed: A1, N1, A1N2"),
        ({"code": "A1N2", "cut": 3}, "code 'A1N2' is stage two: it needs a parent, trained as 'A1'"),
        ({"code": "A2N1", "cut": 3, "parent": Of("A1")}, "needs a parent trained as 'N1', got 'A1'"),
        ({"code": "A1", "cut": 3}, "code 'A1' is stage one: it takes no cut"),
        ({"code": "A1N2", "parent": Of("A1")}, "give either a cut or a single module"),
        ({"code": "A1N2", "cut": 0, "parent": Of("A1")}, "a cut must be at least 1"),
        ({"code": "A1", "epsilon": 0}, r"epsilon must lie in \(0, 1\]"),
        ({"code": "A1", "steps": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        PartialTraining(**{"epsilon": 0.1, **settings})


def test_a_cut_that_leaves_a_part_empty_is_refused():
    rule = PartialTraining("A1N2", 0.1, cut=41, parent=Of("A1"))
    with pytest.raises(ValueError, match=r"cut must lie in \[1, 40\], so that both parts have modules; got 41"):
        rule.prepare(resnet18(width=2), IMAGE)


def test_a_rule_freezes_and_resets_the_right_part():
    for code, frozen in (("A1N2", range(5)), ("A2N1", range(5, 41))):
        network = resnet18(width=2)
        base = state_of(network)
        PartialTraining(code, 0.1, cut=5, parent=Of(code[2:] if code[1] == "2" else code[:2])).prepare(network, IMAGE)
        for place, (module, own) in enumerate(in_order(network, IMAGE).items()):
            for name in own:
                parameter = network.get_parameter(name)
                assert parameter.requires_grad == (place not in frozen)
                if module.endswith(("conv1", "conv2", "head")):
                    assert torch.equal(parameter, base[name]) == (place in frozen)
