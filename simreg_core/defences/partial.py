"""Partial adversarial training: which layers carry robustness?  (Bakiskan 2022, chapter 3)

A code XaYb names two parts of a network, X the early and Y the late one, each trained adversarially (A) or naturally
(N). The part with digit 1 is trained in stage one, with the whole network, and then frozen; the part with digit 2 is
set afresh and trained in stage two. A1N2 so asks what early layers that were trained adversarially are worth.

In a training loop of your own:

    order = in_order(network, images[:1])
    names = list(order)
    set_afresh(network, names[cut:])
    freeze(network, names[:cut], order)
    ...                                  # a new optimizer; train as the letter with digit 2 says
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from simreg_core.defences.adversarial import STEP_SIZE, check_strength, pgd_adversarial_examples
from simreg_core.defences.base import TASK, Parent, Rule, Stage, cross_entropy
from simreg_core.later import Later

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = Later("torch")

batchnorm, networks = Later("torch.nn.modules.batchnorm"), Later("simreg_core.model")

SHORTCUTS = ("shortcut", "downsample", "skip")  # names of modules that stand beside the main branch of their block
Code = Literal["A1", "N1", "A1N2", "N1A2", "A2N1", "N2A1", "A1A2", "N1N2", "A2A1", "N2N1"]
CODES: tuple[Code, ...] = get_args(Code)[2:]  # of stage two; the last four are controls


def in_order(network: nn.Module, images: Tensor) -> dict[str, tuple[str, ...]]:
    """A network's modules with parameters, in the order in which a forward pass runs them.

    images: a batch that the network takes.  It is in eval mode for that pass, whose result is dropped.
    A shortcut (a module named as in SHORTCUTS) stands after the main branch of its block, whenever it runs; a module
    that runs several times stands where it runs first.
    Returns by the name of each module, as in `named_modules()`, the names of the parameters that are its own. Those of
    a part that its module uses without running it (the output projection of `nn.MultiheadAttention`) are the module's.
    Raises ValueError for a network without parameters, or with some that no module which runs has.
    """
    owners = {name: module for name, module in network.named_modules() if [*module.parameters(recurse=False)]}
    ran: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs, name=name: ran.append(name))
        for name, module in owners.items()
    ]
    try:
        with networks.in_eval_mode(network), torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    order = _shortcuts_last(list(dict.fromkeys(ran)))
    parameters: dict[str, list[str]] = {name: [] for name in order}
    for name, _ in network.named_parameters():
        parameters[_owner(name, parameters)].append(name)
    if not parameters:
        raise ValueError(f"a {type(network).__name__} has no parameters, so there is nothing to freeze")
    return {name: tuple(own) for name, own in parameters.items()}


def _shortcuts_last(order: list[str]) -> list[str]:
    """Each shortcut moved behind the last module of the main branch of its block."""
    for block in dict.fromkeys(block for name in order if (block := _block_of(name)) is not None):
        own = [name for name in order if _block_of(name) == block]
        main = [name for name in order if name.startswith(block) and name not in own]
        if main:
            order = [name for name in order if name not in own]
            after = order.index(main[-1]) + 1
            order[after:after] = own
    return order


def _block_of(name: str) -> str | None:
    """'stage2.0.' of 'stage2.0.shortcut.1'; None of a module outside a shortcut."""
    parts = name.split(".")
    inside = [place for place, part in enumerate(parts) if part in SHORTCUTS]
    return "".join(f"{part}." for part in parts[: inside[-1]]) if inside else None


def _owner(parameter: str, ran: Mapping[str, object]) -> str:
    """The innermost module that runs and has this parameter, itself or in a part."""
    module = parameter.rpartition(".")[0]
    while module not in ran:
        if not module:
            raise ValueError(f"parameter '{parameter}' is of no module that a forward pass runs: it has no place")
        module = module.rpartition(".")[0]
    return module


def parts(names: Sequence[str], cut: int | None = None, single: int | None = None) -> tuple[list[str], list[str]]:
    """The two parts of a network.  names: of its modules, in order, n of them.

    cut: the first `cut` modules and the others, 0 <= cut <= n.  single: all modules but this one, and this one,
    counted from 0.  One of the two must be given.
    Raises ValueError for a cut outside the modules, or where not exactly one of the two is given.
    """
    _check_one(cut, single)
    if cut is not None:
        if not 0 <= cut <= len(names):
            raise ValueError(f"cut must lie in [0, {len(names)}], the network has {len(names)} modules; got {cut}")
        return list(names[:cut]), list(names[cut:])
    last = len(names) - 1
    if single is None or not 0 <= single <= last:
        raise ValueError(f"single must lie in [0, {last}], the network has {len(names)} modules; got {single}")
    return [name for name in names if name != names[single]], [names[single]]


def _check_one(cut: int | None, single: int | None) -> None:
    if (cut is None) == (single is None):
        raise ValueError(f"give either a cut or a single module, got cut={cut} and single={single}")


def freeze(network: nn.Module, names: Iterable[str], order: Mapping[str, Iterable[str]]) -> None:
    """Stop the training of these modules' parameters.  order: of `in_order`.

    Batch norm among them keeps its weight and bias, but still normalizes by each batch and to follow it with its
    running statistics, as in the source; `hold_statistics` stops that too.
    """
    own = dict(network.named_parameters())
    for name in names:
        for parameter in order[name]:
            own[parameter].requires_grad_(False)


def set_afresh(network: nn.Module, names: Iterable[str]) -> None:
    """Give these modules new random weights, as when they were made; batch norm new statistics too.

    Global random numbers are used.
    Raises ValueError for a module that does not know how (it has no `reset_parameters`), before any is changed.
    """
    modules = {name: network.get_submodule(name) for name in names}
    for name, module in modules.items():
        if not hasattr(module, "reset_parameters"):
            kind = type(module).__name__
            raise ValueError(f"module '{name}', a {kind}, cannot be set afresh: it has no reset_parameters")
    for module in modules.values():
        module.reset_parameters()


def hold_statistics(network: nn.Module) -> None:
    """Put batch norms whose weight is frozen in eval mode: they use their running statistics and do not change them.

    To be called after each `network.train()`.
    """
    for module in network.modules():
        frozen = isinstance(module, batchnorm._BatchNorm) and module.weight is not None
        if frozen and not module.weight.requires_grad:
            module.eval()


@dataclass(frozen=True)
class PartialTraining(Rule):
    """One stage of partial adversarial training, see the top of this file.

    code: 'A1' or 'N1', stage one; or a code of stage two.
    epsilon, steps: of the PGD training of the parts with letter A, as of `PGDTraining`.
    cut, single: see `parts`; of stage two, and there each part has a module: 1 <= cut < n.
    statistics: of batch norm in the frozen part: 'follow', as in the source, or 'hold', see `hold_statistics`.
    parent: of stage two, the experiment of stage one with the letter that the digit 1 follows.
    The last weights count, not the best on validation images, as in the source.
    """

    code: Code
    epsilon: float
    steps: int = 10
    cut: int | None = None
    single: int | None = None
    statistics: Literal["follow", "hold"] = "follow"
    parent: Parent | None = None

    def __post_init__(self):
        check_strength(self.epsilon)
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.code not in get_args(Code):
            raise ValueError(f"unknown code '{self.code}'; allowed: {', '.join(get_args(Code))}")
        if len(self.code) == 2:
            if (self.cut, self.single, self.parent) != (None, None, None):
                raise ValueError(f"code '{self.code}' is stage one: it takes no cut, single module or parent")
            return
        _check_one(self.cut, self.single)
        if self.cut is not None and self.cut < 1:
            raise ValueError(f"a cut must be at least 1, got {self.cut}")
        if self.single is not None and self.single < 0:
            raise ValueError(f"a single module must be at least 0, got {self.single}")
        if self.parent is None:
            raise ValueError(f"code '{self.code}' is stage two: it needs a parent, trained as '{self.stage_one}'")
        theirs = getattr(getattr(self.parent, "adversarial", None), "code", None)
        if theirs != self.stage_one:
            raise ValueError(f"code '{self.code}' needs a parent trained as '{self.stage_one}', got '{theirs}'")

    @property
    def stage_one(self) -> str:
        """'A1' of 'N2A1'."""
        return self.code[:2] if self.code[1] == "1" else self.code[2:]

    @property
    def adversarial(self) -> bool:
        """Whether this stage trains adversarially."""
        return self.code[self.code.index("2") - 1 if len(self.code) == 4 else 0] == "A"

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        return (Stage(epochs, ends_with="last"),)

    def prepare(self, network: nn.Module, images: Tensor) -> None:
        if len(self.code) == 2:
            return
        order = in_order(network, images)
        early, late = parts(list(order), self.cut, self.single)
        if not early or not late:
            raise ValueError(f"cut must lie in [1, {len(order) - 1}], so that both parts have modules; got {self.cut}")
        kept, fresh = (early, late) if self.code[1] == "1" else (late, early)
        set_afresh(network, fresh)
        freeze(network, kept, order)

    def losses(
        self, network: nn.Module, x: Tensor, y: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        if self.statistics == "hold":
            hold_statistics(network)
        if self.adversarial:
            step = STEP_SIZE * self.epsilon / self.steps
            x = pgd_adversarial_examples(network, x, y, self.epsilon, step, self.steps, generator)
        return {TASK: cross_entropy(network, x, y)}

    def passes(self) -> float:
        return self.steps if self.adversarial else 0

    def words(self) -> str:
        where = (
            f", cut {self.cut}"
            if self.cut is not None
            else f", module {self.single}"
            if self.single is not None
            else ""
        )
        return f"partial adversarial training {self.code}{where}, epsilon {self.epsilon:g}"
