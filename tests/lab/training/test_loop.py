"""Training: bit-equal repeats, exact resume, the released quirks, and what is refused."""

import pytest
import torch

from simreg_core.lab import recipes
from simreg_core.lab.files import StoreError
from simreg_core.lab.image_files import DataError
from simreg_core.lab.store import Store
from simreg_core.lab.tensors import read_tensors
from simreg_core.lab.training import TrainingError, augment, build_network, build_regularizer, load_data, train

CPU = torch.device("cpu")


def weights(experiment, store):
    return read_tensors(store.weights_path(experiment))[0]


def assert_bit_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("target", ["none", "S^Th", "S^pixel"])
def test_two_runs_are_bit_equal_whatever_the_global_state(tiny, tmp_path, target):
    experiment = recipes.experiment(tiny, target, 0)
    runs = []
    for index in range(2):
        torch.manual_seed(index)
        store = Store(tmp_path / str(index))
        train(experiment, store, CPU)
        runs.append(weights(experiment, store))
    assert_bit_equal(*runs)


class Killed(Exception):
    pass


def train_until(experiment, store, epochs=1):
    """A training that is killed after so many epochs, its state written."""
    shares = []

    def kill(share):
        shares.append(share)
        if len(shares) == 1 + epochs:  # the first report says what was done before
            raise Killed

    with pytest.raises(Killed):
        train(experiment, store, CPU, kill)


@pytest.mark.parametrize("target", ["none", "S^Th"])
def test_a_killed_run_resumes_to_the_same_weights(tiny, tmp_path, target):
    longer = tiny.changed(optimization={**tiny.optimization.model_dump(), "epochs": 4})
    experiment, undisturbed = recipes.experiment(longer, target, 0), Store(tmp_path / "undisturbed")
    train(experiment, undisturbed, CPU)
    for epochs in (1, 2, 3):
        killed = Store(tmp_path / f"killed after {epochs}")
        train_until(experiment, killed, epochs)
        assert killed.resume_path(experiment).is_file()
        assert not killed.is_trained(experiment)
        train(experiment, killed, CPU)
        assert_bit_equal(weights(experiment, undisturbed), weights(experiment, killed))
        assert not killed.resume_path(experiment).exists()


def test_resuming_takes_up_pairs_means_and_augmentation(tiny, tmp_path):
    """With images that are augmented at every draw: the generator of that is the regularizer's too."""
    experiment = recipes.experiment(tiny, "S^Th", 0, augment_each="crop-flip")
    undisturbed, killed = Store(tmp_path / "a"), Store(tmp_path / "b")
    train(experiment, undisturbed, CPU)
    train_until(experiment, killed)
    state, _ = killed.load_resume(experiment)
    assert state["regularizer.pair_state"].dtype == torch.uint8
    train(experiment, killed, CPU)
    assert_bit_equal(weights(experiment, undisturbed), weights(experiment, killed))


def test_a_state_of_an_earlier_version_is_refused(tiny, store):
    experiment = recipes.experiment(tiny, "S^Th", 0)
    train_until(experiment, store)
    state, history = store.load_resume(experiment)
    del state["regularizer.pair_state"]
    store.save_resume(experiment, state, history)
    with pytest.raises(StoreError, match=r"resume.*'pair_state' is missing there"):
        train(experiment, store, CPU)


def test_training_learns(tiny, store):
    longer = tiny.changed(
        optimization={**tiny.optimization.model_dump(), "epochs": 8, "phase_epochs": 4},
        network={"name": "resnet10", "width": 8},
    )
    experiment = recipes.experiment(longer, "none", 0)
    train(experiment, store, CPU)
    import json

    history = json.loads((store.weights_path(experiment).parent / "history.json").read_text())
    assert history["epochs"][-1]["validation_accuracy"] > 0.8  # chance is 0.1
    assert history["best_loss"] == min(epoch["validation_loss"] for epoch in history["epochs"])


def test_the_untrained_state_counts_as_released(tiny, store):
    ruinous = tiny.changed(optimization={**tiny.optimization.model_dump(), "learning_rate": 3, "epochs": 1})
    experiment = recipes.experiment(ruinous, "none", 0)
    train(experiment, store, CPU)
    assert_bit_equal(weights(experiment, store), build_network(experiment, 10).state_dict())


def test_a_training_that_diverges_says_so(tiny, store):
    experiment = recipes.experiment(tiny, "S^Th", 0, alpha=1e30)
    with pytest.raises(TrainingError, match=f"training {experiment.key} diverged in epoch 1.*alpha may help"):
        train(experiment, store, CPU)
    assert not store.is_trained(experiment)


def test_a_corrupt_resume_file_is_named(tiny, store):
    experiment = recipes.experiment(tiny, "none", 0)
    path = store.resume_path(experiment)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not safetensors")
    with pytest.raises(StoreError, match=f"{path} is corrupt"):
        train(experiment, store, CPU)


def test_seeds_share_nothing_but_targets_share_their_start(tiny):
    none, threshold, other = (
        build_network(recipes.experiment(tiny, target, seed), 10).state_dict()
        for target, seed in (("none", 0), ("S^Th", 0), ("none", 1))
    )
    assert_bit_equal(none, threshold)
    assert not torch.equal(none["head.weight"], other["head.weight"])


def test_strict_keeps_validation_images_out_of_the_regularization_set(tiny):
    def overlap(protocol):
        experiment = recipes.experiment(tiny.changed(protocol=protocol), "S^Th", 0, count=300)
        data = load_data(experiment)
        held_out = {image.numpy().tobytes() for image in data.validation.images}
        return len([image for image in data.regularization.images if image.numpy().tobytes() in held_out])

    assert overlap("released") > 0
    assert overlap("strict") == 0


def test_a_corrupt_validation_image_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    for split in ("train", "validation"):
        folder = tmp_path / "mine" / split / "a"
        folder.mkdir(parents=True)
        (folder / "x.png").write_bytes(b"junk")
    experiment = recipes.experiment(tiny.changed(task={"images": "mine", "size": (8, 8)}), "none", 0)
    with pytest.raises(DataError, match=r"x\.png cannot be read"):
        load_data(experiment)


def test_sets_that_are_too_small(tiny):
    many = tiny.changed(task={"images": "photos", "size": (16, 16), "validation_images": 5000})
    with pytest.raises(DataError, match="validation_images is 5000, but 'photos' has 1000"):
        load_data(recipes.experiment(many, "none", 0))
    with pytest.raises(DataError, match=r"2000 images are asked for, but 'digits' has 1297"):
        load_data(with_task(recipes.experiment(tiny, "S^Th", 0, count=2000), train_images=None))
    greedy = tiny.changed(task=tiny.task.changed(train_images=None, validation_images=1297))
    with pytest.raises(DataError, match="validation_images is 1297"):
        load_data(recipes.experiment(greedy, "none", 0))


def with_task(experiment, **changes):
    return experiment.changed(task=experiment.task.changed(**changes))


def test_a_limited_training_set_is_balanced_and_the_same_for_every_seed(tiny):
    sets = [load_data(with_task(recipes.experiment(tiny, "S^Th", seed), train_images=200)) for seed in (0, 0, 1)]
    for own in sets:
        assert own.train.labels.bincount().tolist() == [20] * 10
        assert own.validation.labels.bincount().tolist() == [10] * 10
    assert sets[0].train.checksum == sets[1].train.checksum != sets[2].train.checksum
    together = [torch.cat([own.train.images, own.validation.images]).flatten(1) for own in sets]
    # each seed holds out other validation images of the same 300
    assert [len(torch.cat([together[0], one]).unique(dim=0)) for one in together] == [300] * 3
    own_images = sets[0].regularization.images.flatten(1)
    assert len(torch.cat([together[0], own_images]).unique(dim=0)) == 300


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": 1200}, "train_images is 1200 and validation_images 100, but 'digits' has 1297 training"),
        ({"train_images": 5, "validation_images": 4}, "9 images of 'digits' cannot hold each of its 10 classes"),
        ({"train_images": 1190}, "need 129 of class '0', but 'digits' has 128 of it"),
        ({"train_images": 200, "size": (8, 8)}, "regularizer.size 16x16 must be the task's, 8x8"),
    ],
)
def test_a_limited_training_set_that_cannot_be(tiny, changes, message):
    experiment = recipes.experiment(tiny, "S^Th", 0, size=(16, 16))
    with pytest.raises(DataError, match=message):
        load_data(with_task(experiment, **changes))


def test_augmentation(generator):
    pixels = torch.rand(200, 2, 8, 8, generator=generator)
    flipped = augment(pixels, "flip", generator)
    changed = (flipped != pixels).flatten(1).any(dim=1)
    assert 60 < changed.sum() < 140
    assert torch.equal(flipped[changed], pixels[changed].flip(3))
    cropped = augment(pixels, "crop-flip", generator)
    assert cropped.shape == pixels.shape
    # each crop is a window of the reflect-padded image or of its mirror image
    padded = torch.nn.functional.pad(pixels[:20], [4] * 4, mode="reflect")
    for image, source in zip(cropped, padded, strict=False):
        windows = source.unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        assert any(torch.equal(image, window) or torch.equal(image, window.flip(2)) for window in windows)
    assert augment(pixels, "none", generator) is pixels


def test_pairs_without_a_loss_change_batch_norm_statistics_alone(tiny, store):
    once = tiny.changed(optimization={**tiny.optimization.model_dump(), "epochs": 1, "phases": 1})
    plain, passed = recipes.experiment(once, "none", 0), recipes.experiment(once, "S^Th", 0, alpha=0.0)
    for experiment in (plain, passed):
        train(experiment, store, CPU)
    one, other = weights(plain, store), weights(passed, store)
    differ = {name.rpartition(".")[2] for name in one if not torch.equal(one[name], other[name])}
    assert differ == {"running_mean", "running_var", "num_batches_tracked"}


def test_control_targets(tiny, store):
    def targets(target):
        experiment = recipes.experiment(tiny, "S^Th", 0, target=target)
        network = build_network(experiment, 10)
        regularization = load_data(experiment).regularization
        return build_regularizer(network, experiment.regularizer, regularization, 0, store).sampler.targets

    whole, shuffled, zero = (targets(target) for target in ("threshold", "shuffled", "zero"))
    assert zero.count_nonzero() == 0
    assert whole.fill_diagonal_(0).count_nonzero() > 0
    assert not torch.equal(whole, shuffled)
    for value in (-1, 0, 1):  # the same numbers, of other pairs
        assert (whole == value).sum() == (shuffled.fill_diagonal_(0) == value).sum()
    rows = [sorted(matrix.abs().sum(dim=1).tolist()) for matrix in (whole, shuffled)]
    assert rows[0] == rows[1]


def test_bfloat16_trains_as_float32_does(tiny, tmp_path):
    """On the same pairs, so with the same similarity losses but for rounding, epoch after epoch; to the same end."""
    longer = tiny.changed(
        task=tiny.task.changed(train_images=300),
        optimization={**tiny.optimization.model_dump(), "epochs": 6, "phase_epochs": 5},
        network={"name": "resnet10", "width": 6},
    )
    fast = longer.changed(optimization={**longer.optimization.model_dump(), "precision": "bfloat16"})
    store, losses, ends = Store(tmp_path), [], []
    for profile in (longer, fast):
        experiments = [recipes.experiment(profile, "S^Th", seed) for seed in range(2)]
        for experiment in experiments:
            train(experiment, store, CPU)
        epochs = [store.history(experiment)["epochs"] for experiment in experiments]
        losses.append(torch.tensor([[epoch["similarity_loss"] for epoch in own] for own in epochs]))
        ends.append(torch.tensor([own[-1]["validation_accuracy"] for own in epochs]).mean())
    assert not torch.equal(*losses)
    assert (losses[0] - losses[1]).square().mean().sqrt() < 0.05 * losses[0].mean()
    assert min(ends) > 0.8  # chance is 0.1
    assert abs(ends[0] - ends[1]) < 0.08
