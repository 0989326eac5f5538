"""The kinds of evaluations, one row each: what is to be known of a kind beside the fields of its specification.

A new kind is one file of this folder, with its specification (a subclass of `Evaluation`) and its functions, and one
row in `KINDS`. A row without one of its facets is refused when this module is imported, and so is a specification
without a row.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from simreg_core.lab.image_files import count_images
from simreg_core.lab.measuring import (
    boundary,
    code_attacks,
    corruptions,
    cost,
    frequency_bias,
    front_end,
    hebbian,
    layer_weights,
    layers,
    logits,
    neural_vs_pixel,
    noise_and_fgsm,
    pair_similarity,
    polarization,
    sparse_codes,
    step_cost,
    white_box,
)
from simreg_core.lab.measuring.subject import Attacked, Images, Look, Measured, attacked_images, lacks_nothing
from simreg_core.lab.specs import (
    EVALUATIONS,
    AnyExperiment,
    BoundaryEvaluation,
    CodeAttacksEvaluation,
    CorruptionEvaluation,
    CorruptionSpectraEvaluation,
    CostEvaluation,
    Evaluation,
    FgsmEvaluation,
    FrequencyBiasEvaluation,
    FrontEndEvaluation,
    HebbianEvaluation,
    LayersEvaluation,
    LayerWeightsEvaluation,
    LogitsEvaluation,
    MinimumNormEvaluation,
    NeuralExperiment,
    NoiseEvaluation,
    PairSimilarityEvaluation,
    PolarizationEvaluation,
    SimilarityEvaluation,
    SparseCodesEvaluation,
    StepCostEvaluation,
    Trainable,
    TransferEvaluation,
    WhiteBoxEvaluation,
)

A_COMPARISON = 1000  # images of a recording or of a set that is shown, about: for an estimate only


class RegistryError(TypeError):
    """A kind of evaluation that lacks something, or has no row; the message names the kind and what it lacks."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of evaluation; every facet must be given.

    spec: its specification.
    subject: what is measured, a class with `of`, the experiments that it is made of, `opened(experiment, evaluation,
        store, device)` and `sets()`: `Attacked`, a network with images, or `Comparison`, responses with pixels.
    measure(subject): what comes of it.
    images(experiment, evaluation): the images that it needs; None: those of its recording.
    lacks(experiment, evaluation, look): a line for each thing that is missing or does not fit, found before anything
        is computed; `lacks_nothing` where any network of any task will do.
    passes(evaluation, images): its cost, how many images pass forwards through the network, about; of a `Comparison`,
        which passes none, multiplications.
    words(evaluation): for progress and status lists; short, without its protocol.
    strict: whether the protocol changes what is measured.

    What has to be trained before is found in the fields of the specification, see `Evaluation.surrogates_needed`.
    Raises RegistryError for a facet that is missing, or that cannot be what it should.
    """

    spec: type[Evaluation] = None
    subject: Any = None
    measure: Callable[[Any], Measured] = None
    images: Callable[[Any, Any], Images | None] = None
    lacks: Callable[[Any, Any, Look], Iterator[str]] = None
    passes: Callable[[Any, int], float] = None
    words: Callable[[Any], str] = None
    strict: bool = None

    def __post_init__(self):
        for facet in fields(self):
            value = getattr(self, facet.name)
            if value is None:
                raise RegistryError(f"the kind of evaluation {self._name} has no '{facet.name}'")
            if problem := _unfit(facet.name, value):
                raise RegistryError(f"the kind of evaluation {self._name}: '{facet.name}' {problem}, got {value!r}")

    @property
    def _name(self) -> str:
        """Of its specification or, without it, of what measures it."""
        return getattr(self.spec, "__name__", None) or f"measured by {getattr(self.measure, '__name__', self.measure)}"


ARGUMENTS = {"measure": 1, "images": 2, "lacks": 3, "passes": 2, "words": 1}  # of the facets that are functions


def _unfit(facet: str, value: Any) -> str:
    """Why a facet cannot be what it should, or ''."""
    if facet == "spec":
        fits = isinstance(value, type) and issubclass(value, Evaluation) and value is not Evaluation
        return "" if fits else "must be a subclass of Evaluation"
    if facet == "subject":
        missing = [name for name in ("of", "opened", "sets") if not hasattr(value, name)]
        return f"must have '{missing[0]}'" if missing else ""
    if facet == "strict":
        return "" if isinstance(value, bool) else "must be True or False"
    try:
        inspect.signature(value).bind(*range(ARGUMENTS[facet]))
    except TypeError:
        return f"must be a function that takes {ARGUMENTS[facet]} argument{'s' * (ARGUMENTS[facet] > 1)}"
    return ""


KINDS: dict[str, Kind] = {}  # by the names of `attack`


def register(*kinds: Kind) -> None:
    """Enter rows.  Raises RegistryError for a second row of the same specification."""
    for kind in kinds:
        for name in kind.spec.names():
            if name in KINDS and KINDS[name].spec is kind.spec:
                raise RegistryError(f"evaluation '{name}' ({kind.spec.__name__}) has a row already")
            KINDS[name] = kind


def check_complete(names: Iterable[str]) -> None:
    """Raise RegistryError for a specification without a row.  names: of evaluations."""
    for name in names:
        if name not in KINDS:
            spec = EVALUATIONS[name].__name__
            raise RegistryError(f"evaluation '{name}' ({spec}) has no row in simreg_core/lab/measuring/registry.py")


def kind_of(evaluation: Evaluation) -> Kind:
    """The row of an evaluation.  Raises RegistryError where it has none."""
    check_complete([evaluation.attack])
    return KINDS[evaluation.attack]


def misplaced(experiment: Trainable, evaluation: Evaluation) -> str:
    """Why an evaluation is not for an experiment of this class, or ''."""
    if isinstance(experiment, kind_of(evaluation).subject.of):
        return ""
    return f"evaluation '{evaluation.attack}' is not for a {type(experiment).__name__}"


def passes_of(experiment: AnyExperiment, evaluation: Evaluation) -> float:
    """The cost of an evaluation, see `Kind.passes`.

    Raises DataError where the images of a network's task are not there to be counted.
    """
    kind = kind_of(evaluation)
    if isinstance(experiment, NeuralExperiment):
        return kind.passes(evaluation, evaluation.images or A_COMPARISON)
    wanted = kind.images(experiment, evaluation)
    return kind.passes(evaluation, wanted.count or count_images(wanted.name, wanted.split))


def in_words(evaluation: Evaluation) -> str:
    """An evaluation for a reader: 'gaussian noise, strict'."""
    kind = kind_of(evaluation)
    strict = ", strict" if kind.strict and evaluation.protocol == "strict" else ""
    split = "" if evaluation.split == "test" else f", {evaluation.split} images"
    return f"{kind.words(evaluation)}{strict}{split}"


register(
    Kind(
        spec=NoiseEvaluation,
        subject=Attacked,
        measure=noise_and_fgsm.noise,
        images=attacked_images,
        lacks=lacks_nothing,
        passes=noise_and_fgsm.noise_passes,
        words=noise_and_fgsm.noise_words,
        strict=True,
    ),
    Kind(
        spec=FgsmEvaluation,
        subject=Attacked,
        measure=noise_and_fgsm.fgsm,
        images=attacked_images,
        lacks=lacks_nothing,
        passes=noise_and_fgsm.fgsm_passes,
        words=noise_and_fgsm.fgsm_words,
        strict=True,
    ),
    Kind(
        spec=BoundaryEvaluation,
        subject=Attacked,
        measure=boundary.boundary,
        images=attacked_images,
        lacks=lacks_nothing,
        passes=boundary.boundary_passes,
        words=boundary.boundary_words,
        strict=True,
    ),
    Kind(
        spec=CorruptionEvaluation,
        subject=Attacked,
        measure=corruptions.corruptions,
        images=attacked_images,
        lacks=corruptions.corruptions_lack,
        passes=corruptions.corruptions_passes,
        words=corruptions.corruptions_words,
        strict=False,
    ),
    Kind(
        spec=CorruptionSpectraEvaluation,
        subject=Attacked,
        measure=corruptions.corruption_spectra,
        images=attacked_images,
        lacks=corruptions.corruptions_lack,
        passes=corruptions.corruption_spectra_passes,
        words=corruptions.corruption_spectra_words,
        strict=False,
    ),
    Kind(
        spec=LayerWeightsEvaluation,
        subject=Attacked,
        measure=layer_weights.layer_weights,
        images=attacked_images,
        lacks=layer_weights.layer_weights_lacks,
        passes=layer_weights.layer_weights_passes,
        words=layer_weights.layer_weights_words,
        strict=False,
    ),
    Kind(
        spec=WhiteBoxEvaluation,
        subject=Attacked,
        measure=white_box.white_box,
        images=attacked_images,
        lacks=white_box.white_box_lacks,
        passes=white_box.white_box_passes,
        words=white_box.white_box_words,
        strict=False,
    ),
    Kind(
        spec=MinimumNormEvaluation,
        subject=Attacked,
        measure=white_box.minimum_norm,
        images=attacked_images,
        lacks=lacks_nothing,
        passes=white_box.minimum_norm_passes,
        words=white_box.minimum_norm_words,
        strict=False,
    ),
    Kind(
        spec=TransferEvaluation,
        subject=Attacked,
        measure=white_box.transfer,
        images=attacked_images,
        lacks=lacks_nothing,
        passes=white_box.transfer_passes,
        words=white_box.transfer_words,
        strict=False,
    ),
    Kind(
        spec=SimilarityEvaluation,
        subject=neural_vs_pixel.Comparison,
        measure=neural_vs_pixel.similarity,
        images=neural_vs_pixel.shown_images,
        lacks=neural_vs_pixel.similarity_lacks,
        passes=neural_vs_pixel.similarity_passes,
        words=neural_vs_pixel.similarity_words,
        strict=False,
    ),
    Kind(
        spec=FrequencyBiasEvaluation,
        subject=Attacked,
        measure=frequency_bias.frequency_bias,
        images=attacked_images,
        lacks=lacks_nothing,
        passes=frequency_bias.frequency_bias_passes,
        words=frequency_bias.frequency_bias_words,
        strict=False,
    ),
    Kind(
        spec=PairSimilarityEvaluation,
        subject=Attacked,
        measure=pair_similarity.pair_similarity,
        images=pair_similarity.pair_similarity_images,
        lacks=pair_similarity.pair_similarity_lacks,
        passes=pair_similarity.pair_similarity_passes,
        words=pair_similarity.pair_similarity_words,
        strict=False,
    ),
    Kind(
        spec=StepCostEvaluation,
        subject=step_cost.Step,
        measure=step_cost.step_cost,
        images=step_cost.step_cost_images,
        lacks=lacks_nothing,
        passes=step_cost.step_cost_passes,
        words=step_cost.step_cost_words,
        strict=False,
    ),
    Kind(
        spec=FrontEndEvaluation,
        subject=Attacked,
        measure=front_end.front_end,
        images=attacked_images,
        lacks=front_end.front_end_lacks,
        passes=front_end.front_end_passes,
        words=front_end.front_end_words,
        strict=False,
    ),
    Kind(
        spec=PolarizationEvaluation,
        subject=Attacked,
        measure=polarization.polarization,
        images=attacked_images,
        lacks=polarization.polarization_lacks,
        passes=polarization.polarization_passes,
        words=polarization.polarization_words,
        strict=False,
    ),
    Kind(
        spec=HebbianEvaluation,
        subject=Attacked,
        measure=hebbian.hebbian,
        images=attacked_images,
        lacks=hebbian.hebbian_lacks,
        passes=hebbian.hebbian_passes,
        words=hebbian.hebbian_words,
        strict=False,
    ),
    Kind(
        spec=LogitsEvaluation,
        subject=Attacked,
        measure=logits.logits,
        images=attacked_images,
        lacks=logits.logits_lacks,
        passes=logits.logits_passes,
        words=logits.logits_words,
        strict=False,
    ),
    Kind(
        spec=LayersEvaluation,
        subject=Attacked,
        measure=layers.layers,
        images=attacked_images,
        lacks=layers.layers_lacks,
        passes=layers.layers_passes,
        words=layers.layers_words,
        strict=False,
    ),
    Kind(
        spec=CodeAttacksEvaluation,
        subject=Attacked,
        measure=code_attacks.code_attacks,
        images=attacked_images,
        lacks=code_attacks.code_attacks_lack,
        passes=code_attacks.code_attacks_passes,
        words=code_attacks.code_attacks_words,
        strict=False,
    ),
    Kind(
        spec=SparseCodesEvaluation,
        subject=Attacked,
        measure=sparse_codes.sparse_codes,
        images=attacked_images,
        lacks=sparse_codes.sparse_codes_lack,
        passes=sparse_codes.sparse_codes_passes,
        words=sparse_codes.sparse_codes_words,
        strict=False,
    ),
    Kind(
        spec=CostEvaluation,
        subject=Attacked,
        measure=cost.cost,
        images=attacked_images,
        lacks=lacks_nothing,
        passes=cost.cost_passes,
        words=cost.cost_words,
        strict=False,
    ),
)
check_complete(EVALUATIONS)
