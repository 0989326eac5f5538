"""The sparse-coding front end against its formulas: dictionary, code, decoder, and every way of an attacker."""

import pytest
import torch
from torch import nn

from simreg_core import attacks
from simreg_core.attacks import suspicion
from simreg_core.defences import Dictionary, SparseCodingTraining, differentiated
from simreg_core.defences.polarizing import quantized, smooth_quantizer
from simreg_core.defences.sparse_coding import (
    MeanSparseCoder,
    RandomSparseCoder,
    SparseCoded,
    SparseCoder,
    coherence,
    drawing,
    is_flat,
    random_patches,
    sparse_coded,
    top,
    without_dropout,
)
from simreg_core.model import BLOCKS, ResNet

ATOMS, KEPT = 20, 4


@pytest.fixture(scope="module")
def pixels():
    """Smooth images, as natural ones are."""
    x = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(x, 16, mode="bilinear").clamp(0, 1)


@pytest.fixture(scope="module")
def dictionary(pixels):
    return Dictionary(ATOMS, 4, batches=20, batch_size=20).fit(pixels, torch.Generator().manual_seed(0))


def coder(dictionary, kind=SparseCoder, **settings):
    torch.manual_seed(0)
    return kind(dictionary, **{"kept": KEPT, "threshold": 0.1, "widths": (8, 4), **settings}).eval()


def coded(front_end, draws=1):
    torch.manual_seed(1)
    head = nn.Sequential(nn.Flatten(), nn.Linear(256, 5))
    return SparseCoded(front_end, head, draws).eval()


# the dictionary


def test_atoms_have_norm_one_and_do_not_depend_on_the_global_random_state(pixels, dictionary):
    assert dictionary.shape == (ATOMS, 16)
    torch.testing.assert_close(dictionary.norm(dim=1), torch.ones(ATOMS))
    settings = Dictionary(ATOMS, 4, batches=20, batch_size=20)
    torch.manual_seed(99)
    assert torch.equal(settings.fit(pixels, torch.Generator().manual_seed(0)), dictionary)
    assert not torch.equal(settings.fit(pixels, torch.Generator().manual_seed(1)), dictionary)


def test_every_patch_is_one_of_an_image(pixels, generator):
    patches = random_patches(pixels, 4, 30, generator)
    whole = nn.functional.unfold(pixels, 4).transpose(1, 2).reshape(-1, 16)
    assert all((whole == patch).all(dim=1).any() for patch in patches)
    colour = torch.rand(2, 3, 8, 8, generator=generator)
    assert random_patches(colour, 8, 5, generator).shape == (5, 192)
    assert all((colour.flatten(1) == patch).all(dim=1).any() for patch in random_patches(colour, 8, 5, generator))


def test_without_means_no_atom_sees_brightness(pixels, dictionary):
    centred = Dictionary(ATOMS, 4, 0.1, 20, 20, centred=True).fit(pixels, torch.Generator().manual_seed(0))
    torch.testing.assert_close(centred.sum(dim=1), torch.zeros(ATOMS), atol=1e-5, rtol=0)
    own = coder(centred)
    torch.testing.assert_close(own.projections(pixels), own.projections(0.5 + 0.5 * pixels) * 2, atol=1e-5, rtol=0)
    assert is_flat(dictionary).any()
    assert not is_flat(centred).any()


def test_coherence_and_flat_atoms_by_hand():
    flat = torch.full((1, 4), 0.5)
    other = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0], [0, 0, 1.0, 0]])
    largest, median = coherence(torch.cat([flat, other]))
    assert largest == 1
    assert median == pytest.approx(0.75)  # 0.5, 1, 1, 0.5
    assert is_flat(torch.cat([flat, other])).tolist() == [True, False, False, False]


# the encoder


def test_the_code_is_the_quantized_top_t(pixels, dictionary):
    own = coder(dictionary)
    projections = own.projections(pixels)
    assert projections.shape == (12, ATOMS, 7, 7)
    patch = pixels[3, 0, 4:8, 6:10].flatten()
    torch.testing.assert_close(projections[3, :, 2, 3], dictionary @ patch)
    chosen = own.select(projections)
    order = projections.abs().argsort(dim=1, descending=True)[:, :KEPT]
    assert ((chosen != 0).sum(dim=1) == KEPT).all()
    assert torch.equal(chosen.gather(1, order), projections.gather(1, order))
    code, sizes = own.code(pixels), dictionary.abs().sum(dim=1)[None, :, None, None]
    torch.testing.assert_close(code, sizes * quantized(chosen / sizes, 0.1))
    assert ((code == 0) | ((code.abs() - sizes).abs() < 1e-6)).all()
    assert (sizes >= 1 - 1e-6).all()
    assert (sizes <= 4 + 1e-6).all()  # sqrt(16)


def test_t_of_all_atoms_selects_all_and_the_code_is_odd(pixels, dictionary):
    whole = coder(dictionary, kept=ATOMS)
    projections = whole.projections(pixels)
    assert torch.equal(whole.select(projections), projections)
    own = coder(dictionary)
    assert torch.equal(own.code(-pixels), -own.code(pixels))
    lost = coder(dictionary, lose_signs=True)
    assert (lost.code(pixels) >= 0).all()
    assert torch.equal(lost.code(-pixels), lost.code(pixels))  # the released code's fault
    assert (own.code(pixels) < 0).any()


def test_a_flat_patch_against_a_flat_atom_has_its_gray_value():
    flat = torch.full((1, 16), 0.25)
    own = SparseCoder(flat, kept=1, threshold=0.1)
    z = own.projections(torch.full((1, 1, 16, 16), 0.7)) / own.sizes
    torch.testing.assert_close(z, torch.full((1, 1, 7, 7), 0.7))


def test_no_perturbation_moves_a_coefficient_by_more_than_epsilon_so_no_sign_flips(pixels, dictionary, generator):
    own, epsilon = coder(dictionary, threshold=0.03), 0.05  # beta = 0.6
    z, code = own.projections(pixels) / own.sizes, own.code(pixels)
    for k in range(ATOMS):
        e = epsilon * dictionary[k].sign().view(1, 1, 4, 4).repeat(1, 1, 4, 4)
        for side in (-1, 1):
            moved = own.projections(pixels + side * e) / own.sizes
            assert (moved - z).abs().max() <= epsilon + 1e-6
            assert not (own.code(pixels + side * e) * code < 0).any()
        torch.testing.assert_close(moved[:, k, ::2, ::2] - z[:, k, ::2, ::2], torch.full((12, 4, 4), epsilon))


# dropout


def test_dropout_leaves_a_share_does_not_rescale_and_draws_anew_at_test(pixels, dictionary):
    own = coder(dictionary, RandomSparseCoder, dropout=0.75, kept=8, threshold=1e-4)
    whole = SparseCoder.code(own, pixels)
    first, second = own.code(pixels), own.code(pixels)
    assert not torch.equal(first, second)
    assert ((first == 0) | (first == whole)).all()
    draws = torch.stack([(own.code(pixels) != 0).sum(dim=1).float().mean() for _ in range(30)])
    assert draws.mean().item() == pytest.approx(8 * 0.25, rel=0.05)
    assert own.draws_random_numbers
    assert not SparseCoder.draws_random_numbers


def test_the_copy_without_dropout_is_the_mean_of_draws(pixels, dictionary):
    network = coded(coder(dictionary, RandomSparseCoder, dropout=0.5, kept=8), draws=3)
    mean = without_dropout(network)
    assert isinstance(mean.front_end, MeanSparseCoder)
    torch.testing.assert_close(mean.front_end.code(pixels), 0.5 * SparseCoder.code(network.front_end, pixels))
    assert torch.equal(mean(pixels), mean(pixels))
    many = torch.stack([network.front_end.code(pixels) for _ in range(100)]).mean(dim=0)
    assert (many - mean.front_end.code(pixels)).abs().mean() < 0.1  # of 2; one draw is 0.7 off
    with pytest.raises(ValueError, match="a SparseCoder drops nothing"):
        without_dropout(coded(coder(dictionary)))


def test_logits_are_the_mean_softmax_of_draws(pixels, dictionary):
    network = coded(coder(dictionary, RandomSparseCoder, dropout=0.5, kept=8), draws=3)
    torch.manual_seed(5)
    expected = torch.stack([network.classifier(network.front_end(pixels)).softmax(dim=1) for _ in range(3)]).mean(dim=0)
    torch.manual_seed(5)
    torch.testing.assert_close(network(pixels).exp(), expected)
    with drawing(network, 1):
        torch.manual_seed(5)
        one = network(pixels)
    torch.manual_seed(5)
    assert torch.equal(one, network.classifier(network.front_end(pixels)))
    assert network.draws == 3
    still = coded(coder(dictionary), draws=3)
    with drawing(still, 40):
        assert still.draws == 1  # EOT over one draw is the plain attack


# the decoder


@pytest.mark.parametrize(
    ("side", "patch", "stride", "resized", "code"), [(32, 4, 2, False, 15), (160, 8, 4, True, 39), (16, 4, 4, False, 4)]
)
def test_decoders_give_images_of_the_same_size(side, patch, stride, resized, code, generator):
    atoms = nn.functional.normalize(torch.randn(6, 3 * patch**2, generator=generator), dim=1)
    own = coder(atoms, channels=3, patch=patch, stride=stride, resized=resized)
    x = torch.rand(1, 3, side, side, generator=generator)
    assert own.code(x).shape == (1, 6, code, code)
    out = own(x)
    assert out.shape == x.shape
    assert out.min() >= 0
    assert out.max() <= 1


# the backward passes


def gradient(own, x, weights, **ways):
    x = x.clone().requires_grad_()
    with differentiated(own, **ways):
        out = own.code(x)
    (found,) = torch.autograd.grad((out * weights).sum(), x)
    return out.detach(), found


def test_the_smooth_backward_pass_has_the_published_values():
    z = torch.tensor([0.0, 0.1, 0.3, 0.6], requires_grad=True)
    (slope,) = torch.autograd.grad(smooth_quantizer(z, 0.0941, 4.0).sum(), z)
    torch.testing.assert_close(slope, torch.tensor([3.483, 3.152, 1.398, 0.166]), atol=1e-3, rtol=0)


def test_a_selection_touches_exactly_the_atoms_of_its_way(dictionary, generator):
    own, projections = coder(dictionary), torch.randn(2, ATOMS, 3, 3, generator=generator)
    for way, count in (("kept", KEPT), ("top 2T", 2 * KEPT), ("top 5T", ATOMS), ("all", ATOMS), ("softmax", ATOMS)):
        x = projections.clone().requires_grad_()
        with differentiated(own, selection=way):
            chosen = own.select(x)
        assert torch.equal(chosen, projections * top(projections, KEPT))
        (found,) = torch.autograd.grad(chosen.sum(), x)
        assert ((found != 0).sum(dim=1) == count).all(), way
        if way in ("kept", "top 2T"):
            assert torch.equal(found, top(projections, count))


def test_draws_share_the_code_only_where_no_gradient_is_asked_for(pixels, dictionary, monkeypatch):
    own = coder(dictionary, RandomSparseCoder, dropout=0.5, kept=8)
    codes = []
    monkeypatch.setattr(SparseCoder, "code", lambda self, x, code=SparseCoder.code: codes.append(1) or code(self, x))
    found = []
    for x, count in ((pixels, 1), (pixels.clone().requires_grad_(), 3)):
        torch.manual_seed(5)
        codes.clear()
        found.append(torch.stack(list(own.draw(x, 3))))
        assert len(codes) == count
    torch.manual_seed(5)
    assert torch.equal(found[0], torch.stack([own(pixels) for _ in range(3)]))
    assert torch.equal(found[0], found[1])
    assert found[1].requires_grad
    assert not torch.equal(found[0][0], found[0][1])


@pytest.mark.parametrize("lose_signs", [False, True])
def test_every_way_gives_the_same_code_and_another_gradient(pixels, dictionary, lose_signs, generator):
    own = coder(dictionary, lose_signs=lose_signs)
    weights = torch.randn(1, ATOMS, 1, 1, generator=generator)
    found = {}
    for part in ("quantizer", "selection"):
        for way in own.ways[part]:
            code, found[way] = gradient(own, pixels, weights, **{part: way})
            assert torch.equal(code, own.code(pixels))
            assert found[way].isfinite().all()
            assert found[way].abs().sum() > 0
    different = [way for way in found if way not in ("tanh4", "kept", "top 5T", "top 10T", "all")]
    assert all(not torch.equal(found[way], found["tanh4"]) for way in different)
    assert torch.equal(found["kept"], found["tanh4"])  # the first of each


def test_the_whole_as_identity_and_the_decoder_without_bounds(pixels, dictionary, generator):
    own = coder(dictionary)
    weights = torch.randn(pixels.shape, generator=generator)

    def through(**ways):
        x = pixels.clone().requires_grad_()
        with differentiated(own, **ways):
            out = own(x)
        assert torch.equal(out, own(pixels))
        return torch.autograd.grad((out * weights).sum(), x)[0]

    assert torch.equal(through(coder="identity"), weights)
    with torch.no_grad():
        own.decoder.third.bias.fill_(-5.0)  # an image that is black everywhere
    assert not through().any()
    assert through(decoder="unbounded").any()
    with pytest.raises(ValueError, match=r"coder='learned' needs a surrogate; call learn"):
        through(coder="learned")


def test_a_learned_surrogate_gives_its_own_gradient(pixels, dictionary):
    own = coder(dictionary)
    with torch.no_grad():
        own.decoder.third.bias.fill_(0.5)
    begun = own.learn(pixels, steps=1, batch_size=12, seed=3)
    ended = own.learn(pixels, steps=40, batch_size=12, seed=3)
    assert ended < begun / 2
    assert not any(one.requires_grad for one in own.learned.parameters())
    x = pixels.clone().requires_grad_()
    with differentiated(own, coder="learned"):
        out = own(x)
    (found,) = torch.autograd.grad(out.sum(), x)
    y = pixels.clone().requires_grad_()
    torch.testing.assert_close(found, torch.autograd.grad(own.learned(y).sum(), y)[0])


def test_ways_of_the_random_front_end(pixels, dictionary):
    own = coder(dictionary, RandomSparseCoder, dropout=0.5, kept=8)
    weights = torch.ones(1, ATOMS, 1, 1)
    torch.manual_seed(2)
    drawn, found = gradient(own, pixels, weights, dropout="mean")
    torch.manual_seed(2)
    assert torch.equal(drawn, own.code(pixels))
    still = coder(dictionary, kept=8)
    torch.testing.assert_close(found, 0.5 * gradient(still, pixels, weights)[1])
    x = pixels.clone().requires_grad_()
    with differentiated(own, draw="unit", coder="identity"):
        (whole,) = torch.autograd.grad((own(x) * torch.arange(256.0).view(1, 1, 16, 16)).sum(), x)
    torch.testing.assert_close(whole.flatten(1).norm(dim=1), torch.ones(12))


def test_attacks_find_more_through_a_replaced_gradient_and_a_masked_one_is_flagged(pixels, dictionary):
    front_end = coder(dictionary)
    with torch.no_grad():
        front_end.decoder.third.bias.fill_(0.5)
    network = coded(front_end)
    labels = network(pixels).argmax(dim=1)

    class Masked(nn.Module):
        """The quantizer's own gradient, which is zero."""

        def forward(self, x):
            sizes = front_end.sizes
            chosen = front_end.select(front_end.projections(x))
            code = sizes * quantized(chosen / sizes, front_end.threshold)
            return network.classifier(front_end.decoder(code, (16, 16)).clamp(0, 1))

    masked = Masked().eval()
    assert torch.equal(masked(pixels), network(pixels))
    for own, flagged in ((masked, True), (network, False)):
        walked = attacks.pgd(own, pixels, labels, 0.3, steps=5, early_leave=False, seed=0)
        found = suspicion.suspicions(gradients=(walked.zero_gradients, walked.nan_gradients))
        assert bool(found) == flagged
    assert (network(walked.adversarial).argmax(dim=1) != labels).any()


@pytest.mark.parametrize("dropout", [0.0, 0.9])
def test_a_decoder_may_start_with_gray_images_and_all_else_as_without(dropout, pixels, dictionary):
    networks = []
    for start in (None, 0.5):
        torch.manual_seed(0)
        rule = SparseCodingTraining(ATOMS, kept=KEPT, widths=(6, 4), dropout=dropout, decoder_start=start)
        networks.append(sparse_coded(ResNet(BLOCKS["resnet10"], 1, 10, 2), rule))
        networks[-1].front_end.dictionary.copy_(dictionary)
    plain, gray = (network.state_dict() for network in networks)
    assert [name for name in plain if not plain[name].equal(gray[name])] == ["front_end.decoder.third.bias"]
    assert (networks[1].front_end(pixels) > 0).float().mean() > 0.9
