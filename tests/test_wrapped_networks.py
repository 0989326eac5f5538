"""The regularizer on networks inside torch.compile and DistributedDataParallel."""

import copy
import multiprocessing

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from simreg_core import SimilarityRegularizer

LAYERS = ["2", "5"]
PROCESSES = 2


def network_of(norm):
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 8, 3), norm(8), nn.ReLU(), nn.Conv2d(8, 8, 3), norm(8), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


def group_norm(channels):
    return nn.GroupNorm(2, channels)


def pixels():
    generator = torch.Generator().manual_seed(0)
    half = torch.rand(10, 1, 8, 8, generator=generator)
    x, y = torch.rand(8, 1, 8, 8, generator=generator), torch.randint(0, 3, (8,), generator=generator)
    return torch.cat([half, 1 - half]), x, y


def regularized(network, layers=LAYERS, **options):
    return SimilarityRegularizer(network, layers, pixels()[0], threshold=0.5, pairs_per_step=4, **options)


def train(network, regularizer, x, y, count=3):
    optimizer = torch.optim.SGD([*network.parameters(), *regularizer.parameters()], lr=0.05)
    losses = []
    for _ in range(count):
        loss = cross_entropy(network(x), y) + 0.1 * regularizer()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# torch.compile; 'aot_eager' traces forward and backward as the default does, and generates no code


class Counting:
    """A backend that counts what it compiles."""

    def __init__(self):
        self.compiled = 0

    def __call__(self, graph, inputs):
        self.compiled += 1
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)


def in_place(network, backend):
    network.compile(backend=backend)
    return network


def a_part(network, backend):
    return nn.Sequential(network[:3], torch.compile(network[3:6], backend=backend), network[6:])


COMPILED = {
    "wrapped": (lambda network, backend: torch.compile(network, backend=backend), LAYERS),
    "wrapped, its names": (lambda network, backend: torch.compile(network, backend=backend), ["_orig_mod.2", "5"]),
    "in place": (in_place, LAYERS),
    "a part": (a_part, ["0.2", "1._orig_mod.5"]),
}


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("used_before", [True, False], ids=["used before", "fresh"])
@pytest.mark.parametrize("how", COMPILED)
def test_a_compiled_network_trains_alike_and_is_compiled_once(how, used_before):
    _, x, y = pixels()
    plain = network_of(nn.BatchNorm2d)
    expected = train(plain, regularized(plain), x, y)
    wrap, layers = COMPILED[how]
    backend, network = Counting(), network_of(nn.BatchNorm2d)
    state = copy.deepcopy(network.state_dict())
    compiled = wrap(network, backend)
    if used_before:
        compiled(x)
        network.load_state_dict(state)
    regularizer = regularized(compiled, layers)
    assert train(compiled, regularizer, x, y, 1) == pytest.approx(expected[:1], rel=1e-5)
    once = backend.compiled
    assert once >= 1
    assert train(compiled, regularizer, x, y, 2) == pytest.approx(expected[1:], rel=1e-4)
    assert backend.compiled == once
    assert network[1].num_batches_tracked == 9  # three of the task's, and two halves of the pairs each step


def test_a_compiled_step_may_hold_the_regularizer():
    _, x, y = pixels()
    plain, network = network_of(nn.BatchNorm2d), network_of(nn.BatchNorm2d)
    expected = train(plain, regularized(plain), x, y, 2)
    regularizer = regularized(network)

    @torch.compile(backend="eager")  # what the regularizer does is cut into many graphs
    def loss_of(x, y):
        return cross_entropy(network(x), y) + 0.1 * regularizer()

    optimizer = torch.optim.SGD([*network.parameters(), *regularizer.parameters()], lr=0.05)
    losses = []
    for _ in range(2):
        loss = loss_of(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-4)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0


# DistributedDataParallel


class Whole(nn.Module):
    """Network, regularizer and loss in a single module: parallel as a whole, so that gamma is shared too."""

    def __init__(self, network, regularizer):
        super().__init__()
        self.network, self.regularizer = network, regularizer

    def forward(self, x, y):
        return cross_entropy(self.network(x), y) + 0.1 * self.regularizer()


def state_of(*modules):
    return [each.detach().clone() for module in modules for each in module.parameters()]


def of_the_network_inside(x, y):
    network = DistributedDataParallel(network_of(group_norm))
    regularizer = regularized(network)  # all processes draw the same pairs
    train(network, regularizer, x, y)
    return state_of(network, regularizer)


def with_batch_norm(x, y):
    network = DistributedDataParallel(network_of(nn.BatchNorm2d))
    regularizer = regularized(network, ["module.2", "module.5"])
    train(network, regularizer, x, y)
    return state_of(network, regularizer)


def as_a_whole(x, y):
    network = network_of(group_norm)
    task = DistributedDataParallel(Whole(network, regularized(network, seed=dist.get_rank())))  # other pairs each
    optimizer = torch.optim.SGD(task.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        task(x, y).backward()
        optimizer.step()
    return state_of(task)


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    _, x, y = pixels()
    mine = [part.chunk(PROCESSES)[rank] for part in (x, y)]
    found = {one.__name__: one(*mine) for one in (of_the_network_inside, with_batch_norm, as_a_whole)}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained_in_parallel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(rank, folder)) for rank in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("how", ["of_the_network_inside", "with_batch_norm", "as_a_whole"])
def test_processes_end_with_the_same_weights_and_gamma(how, trained_in_parallel):
    first, second = (each[how] for each in trained_in_parallel)
    assert all(map(torch.equal, first, second))
    (gamma,) = (each for each in first if each.shape == (len(LAYERS),))
    assert gamma.abs().sum() > 0


def test_two_processes_train_as_one_with_the_whole_batch(trained_in_parallel):
    _, x, y = pixels()
    network = network_of(group_norm)
    regularizer = regularized(network)
    train(network, regularizer, x, y)
    torch.testing.assert_close(trained_in_parallel[0]["of_the_network_inside"], state_of(network, regularizer))


def test_in_a_single_module_each_process_draws_pairs_of_its_own(trained_in_parallel):
    _, x, y = pixels()
    network = network_of(group_norm)
    both = [regularized(network, seed=seed) for seed in range(PROCESSES)]
    both[1].layer_logits = both[0].layer_logits
    optimizer = torch.optim.SGD([*network.parameters(), both[0].layer_logits], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        # DDP averages the gradients of the processes, and gives all of them the running means of the first
        (cross_entropy(network(x), y) + 0.1 * sum(one() for one in both) / PROCESSES).backward()
        optimizer.step()
        for name, mean in both[0].named_buffers():
            both[1].get_buffer(name).copy_(mean)
    found = dict(zip(("weights", "gamma"), (state_of(network), both[0].layer_logits.detach()), strict=True))
    (gamma,) = (each for each in trained_in_parallel[0]["as_a_whole"] if each.shape == (len(LAYERS),))
    torch.testing.assert_close(gamma, found["gamma"])
    weights = [each for each in trained_in_parallel[0]["as_a_whole"] if each.shape != (len(LAYERS),)]
    torch.testing.assert_close(weights, found["weights"])
