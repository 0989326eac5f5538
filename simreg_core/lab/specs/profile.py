"""How big a study is."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from simreg_core.lab.specs.all_defences import SYSTEMS, DefencesStudy
from simreg_core.lab.specs.base import (
    Alpha,
    Count,
    Epsilons,
    Float,
    ImageSetName,
    Int,
    LearningRate,
    Seeds,
    Size,
    Spec,
    Width,
    twice,
)
from simreg_core.lab.specs.defence import CLAIMED_DEFENCES, AnyDefence
from simreg_core.lab.specs.dissertation import EpsilonEnd, PartialStudy, PolarizingStudy
from simreg_core.lab.specs.evaluation import more_than_attacked
from simreg_core.lab.specs.hebbian import HebbianStudy
from simreg_core.lab.specs.neural import Predictor, Simulated
from simreg_core.lab.specs.sparse_coding import SparseStudy
from simreg_core.lab.specs.training import Network, Optimization, Regularizer, Task
from simreg_core.names import DIRECTIONS, ArchitectureName, Protocol, TargetSimilarity

MAIN_SETTING, NEURAL_SETTING = "main", "S^neural"  # names of choices
COLOUR, CORRUPTIONS = "colour ", "corruptions "  # before the names of choices for these tasks
TABLE_SETTING = "table"  # of notebook 18


class EpsilonEnds(Spec):
    """Upper ends of the ten equal attack strengths, zero included."""

    gaussian: EpsilonEnd
    uniform: EpsilonEnd
    salt_and_pepper: EpsilonEnd
    fgsm: EpsilonEnd


class RegularizationSet(Spec):
    """A regularization set of a study; empty fields are the profile's own, but for an empty size: the task's size.

    statistics: of batch norm on pair batches, for a set that the task's statistics do not fit.
    """

    images: ImageSetName
    size: Size | None = None
    augment_once: Literal["none", "flip", "crop-flip"] | None = None
    count: Annotated[Int, Field(ge=2)] | None = None
    alpha: Alpha | None = None
    threshold: Annotated[Float, Field(gt=0, lt=1)] | None = None
    statistics: Literal["separate", "frozen"] | None = None

    def fields(self) -> dict:
        """What it changes of the profile's regularizer: the size always, since the profile's belongs to its images."""
        given = self.model_dump(exclude_none=True)
        return {**given, "size": self.size}


class StudyTask(Spec):
    """Another task for one study; a field that is None is the profile's."""

    task: Task
    network: Network | None = None
    optimization: Optimization | None = None
    epsilons: EpsilonEnds | None = None


class Variant(StudyTask):
    """Another task or depth, on which none, S^pixel and S^Th are compared.

    name: how the figure calls it.  note: what is not known from the paper.
    """

    name: str
    epsilons: EpsilonEnds
    regularization_set: RegularizationSet
    pixel_alpha: Alpha | None = None
    note: str = ""


class Architecture(Spec):
    """Another architecture on the profile's task, none and S^Th of it; empty fields are the profile's own.

    width: `names.WIDTHS` has the one where it is empty.
    """

    name: ArchitectureName
    width: Width | None = None
    alpha: Alpha | None = None
    learning_rate: LearningRate | None = None


class Design(Spec):
    """A part of the design of notebook 17: each of these losses, with each batch norm, with each set.

    losses: 'threshold' is S^Th, 'no_loss' passes the pairs without a loss.
    statistics: of batch norm on pair batches, see `batch_norm.normalized_by_part`.
    sets: 'own', the task's images; 'foreign', others. Each is the profile's regularization set, where that is of this
        kind, else the first of `regularization_sets` that is.
    """

    losses: Annotated[tuple[Literal["threshold", "pixel", "zero", "shuffled", "no_loss"], ...], Field(min_length=1)]
    statistics: Annotated[tuple[Literal["shared", "separate", "frozen"], ...], Field(min_length=1)]
    sets: Annotated[tuple[Literal["own", "foreign"], ...], Field(min_length=1)]


class OtherSimilarity(Spec):
    """A similarity of notebook 18.

    name: of `names.TARGET_SIMILARITIES`, from which targets are made with as many +1 and -1 as S^Th's; 'linear_cka', by
        which S^Th is compared with the network's maps; or 'low_pass': S^Th with blurred regularization images.
    alpha: None: S^Th's.  sigma: of the blur of 'low_pass', in pixels.
    """

    name: Literal[TargetSimilarity, "linear_cka", "low_pass"]
    alpha: Alpha | None = None
    sigma: Annotated[Float, Field(gt=0)] | None = None

    def faults(self) -> Iterator[str]:
        if (self.name == "low_pass") != (self.sigma is not None):
            yield f"'low_pass' needs sigma, and nothing else has one; got {self.name} with sigma {self.sigma}"

    def fields(self) -> dict:
        """What it changes of the profile's regularizer."""
        alpha = {} if self.alpha is None else {"alpha": self.alpha}
        if self.name == "low_pass":
            return {"low_pass": self.sigma, **alpha}
        return {"similarity" if self.name == "linear_cka" else "target_similarity": self.name, **alpha}


class MatchedAlphas(Spec):
    """alpha at which a control has S^Th's clean accuracy on validation images, of the profile's regularization set;
    None: not chosen yet, and not measured."""

    zero: Alpha | None = None
    shuffled: Alpha | None = None


class StudySizes(Spec):
    """How much of each figure a profile computes.

    test_images: attacked with noise and FGSM; None: all.  corruption_images: likewise.
    timed_image_counts: of 07 and 16, beside `image_counts`; None: those of `figures.kit_cost`.
    epsilons: see `EpsilonEnds`.  low_threshold: Th2 of S_double.  regularization_sets: of 04, 05 and 10.
    component_set: of 11.  colour_sets: of 09.  variants: of 12.  architectures: of 15.
    colour_task: of 09; None: the profile's task with three channels.
    corruption_task, corruption_sets: of 05; None: the profile's task, and `regularization_sets`.
    design, matched_alphas: of 17; S^Th of the profile and none are measured always. Without a design there is no 17.
    other_similarities, tabular: of 18; tabular: a task of a table, with an MLP. Without both there is no 18.
    """

    epsilons: EpsilonEnds
    test_images: Count | None = None
    boundary_images: Count
    boundary_repeats: Count
    boundary_directions: Annotated[Int, Field(ge=1, le=100_000)] = DIRECTIONS
    spectrum_images: Count
    spectrum_steps: Count
    spectrum_seeds: Annotated[Int, Field(ge=1, le=1000)]
    pairs_per_step: Annotated[tuple[Count, ...], Field(min_length=2)]
    image_counts: Annotated[tuple[Annotated[Int, Field(ge=2)], ...], Field(min_length=3)]
    timed_image_counts: Annotated[tuple[Annotated[Int, Field(ge=2)], ...], Field(min_length=1)] | None = None
    low_threshold: Annotated[Float, Field(gt=0, lt=1)]
    regularization_sets: Annotated[tuple[RegularizationSet, ...], Field(min_length=1)]
    component_set: RegularizationSet
    colour_sets: Annotated[tuple[RegularizationSet, ...], Field(min_length=1)]
    colour_task: StudyTask | None = None
    corruption_task: StudyTask | None = None
    corruption_sets: Annotated[tuple[RegularizationSet, ...], Field(min_length=1)] | None = None
    corruption_images: Count | None = None
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    architectures: Annotated[tuple[Architecture, ...], Field(min_length=1)]
    design: Annotated[tuple[Design, ...], Field(min_length=1)] | None = None
    matched_alphas: MatchedAlphas | None = None
    other_similarities: Annotated[tuple[OtherSimilarity, ...], Field(min_length=1)] | None = None
    tabular: Variant | None = None

    def faults(self) -> Iterator[str]:
        named: dict[str, list[str]] = {
            "regularization_sets": [one.images for one in self.regularization_sets],
            "colour_sets": [one.images for one in self.colour_sets],
            "corruption_sets": [one.images for one in self.corruption_sets or ()],
            "variants": [one.name for one in self.variants],
            "architectures": [one.name for one in self.architectures],
            "other_similarities": [one.name for one in self.other_similarities or ()],
        }
        for field, names in named.items():
            for name in twice(names):
                yield f"{field} names '{name}' twice; each is a curve of its own name"
        for field in ("pairs_per_step", "image_counts"):
            for number in twice(getattr(self, field)):
                yield f"{field} has {number} twice; each is a curve of its own"
        if self.colour_task is not None and self.colour_task.task.channels != 3:
            yield "colour_task.task.channels must be 3"
        if (self.other_similarities is None) != (self.tabular is None):
            yield "other_similarities and tabular belong together: notebook 18 has both"


class WhiteBoxStudy(Spec):
    """Notebooks 13 and 14 of a profile.

    epsilons: of PGD under 'linf', zero first and up to chance.  epsilon: one of them, at which attacks are compared.
    l2_epsilons: of PGD under 'l2'.  images: attacked.  minimum_images: by the minimum-norm attacks.
    autoattack_images: by AutoAttack, which is slow; None: none.
    steps, restarts, queries, autoattack_budget: see `WhiteBoxEvaluation`.
    minimum_steps: of minimum-norm attacks.  query_steps: of HopSkipJump.  transfer_steps: of transferred attacks.
    surrogates: networks that a transferred attack is made on.
    boundary_steps: of the boundary attack, in notebook 13.
    carlini_wagner_steps: of C&W beside it, where there is time.
    """

    epsilons: Annotated[Epsilons, Field(min_length=3)]
    epsilon: Annotated[Float, Field(gt=0, le=1)]
    l2_epsilons: Annotated[tuple[Annotated[Float, Field(ge=0)], ...], Field(min_length=2)]
    images: Count = 1000
    minimum_images: Count = 200
    autoattack_images: Count | None = None
    steps: Count = 40
    restarts: Count = 5
    queries: Count = 1000
    autoattack_budget: tuple[Count, Count, Count] | None = None
    minimum_steps: Count = 100
    query_steps: Count = 30
    transfer_steps: Count = 20
    surrogates: Count = 3
    boundary_steps: Annotated[tuple[Count, ...], Field(min_length=2)] = (50, 500, 5000, 25000)
    carlini_wagner_steps: Count | None = None

    def faults(self) -> Iterator[str]:
        if self.epsilon not in self.epsilons:
            yield f"epsilon {self.epsilon} must be one of epsilons; got {self.epsilons}"
        yield from more_than_attacked(self.autoattack_images, self.images)


class NeuralStudy(Spec):
    """The neural side of a profile.

    simulation, predictor: of the simulated recordings of notebook 01.  trial_counts: with which the predictor is set
    beside the trial average.  images: compared.  resamples, permutations: see `SimilarityEvaluation`.
    target: of S^neural in notebook 02: 'simulated', predictors fitted to `animals` simulated recordings, or the file of
    the published predictor.  alpha: of S^neural.
    """

    simulation: Simulated = Simulated()
    predictor: Predictor = Predictor()
    trial_counts: Annotated[tuple[Count, ...], Field(min_length=2)] = (1, 4, 16)
    animals: Annotated[Int, Field(ge=2)] = 4
    images: Annotated[Int, Field(ge=10)] = 400
    resamples: Annotated[Int, Field(ge=10)] = 1000
    permutations: Count = 999
    target: str = "simulated"
    alpha: Alpha

    def faults(self) -> Iterator[str]:
        if self.images > self.simulation.count:
            yield f"images={self.images} exceeds the {self.simulation.count} of the simulation"


class Selection(Spec):
    """The grid from which alpha and the threshold are chosen, on validation images (paper, v2 Fig. 4)."""

    alphas: Annotated[tuple[Alpha, ...], Field(min_length=1)]
    thresholds: Annotated[tuple[Annotated[Float, Field(gt=0, lt=1)], ...], Field(min_length=1)]
    seeds: Seeds


class Choice(Spec):
    """How α and Th of a setting were chosen, in words, and whether the selection criterion accepted them."""

    how: str
    accepted: bool = True


class Profile(Spec):
    """How big a study is.

    name: of the folder under figures/.  regularizer: the S^Th one; S^pixel differs in its target and `pixel_alpha`.
    seeds: number of training runs a curve, seeds 0, 1, ...; the FGSM surrogate has the first seed that no curve uses.
    main_seeds: of the curves behind the headline claims (02, 04, 05, 06), where that is more.
    neural: of notebook 01, and of S^neural in 02.  white_box: of 13 and 14.
    defences: to compare with in 14, by the names of their curves: a rule, `{method: ...}`, or a front end,
        `{kind: ...}`; their strength is chosen on validation images for S^Th's clean accuracy.
    chosen: how α and Th were chosen, by setting: 'main', 'S^neural', the name of a regularization set, a variant, an
        architecture or a similarity; 'colour ' or 'corruptions ' before the name of one for these tasks. What is not
        named was chosen as without these words, or as 'main' was; 'table' is that of 18. A setting that the criterion
        did not accept has no verdict.
    partial, polarizing, sparse_coding, hebbian, all_defences: of notebooks 20 to 24; None: the profile does not have
        it.
    needs_gpu: computing it without one takes an explicit flag.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    description: str
    task: Task
    network: Network
    regularizer: Regularizer
    pixel_alpha: Alpha
    optimization: Optimization
    protocol: Protocol = "released"
    seeds: Seeds
    main_seeds: Annotated[Int, Field(ge=1, le=1000)] | None = None
    selection: Selection
    studies: StudySizes
    neural: NeuralStudy
    white_box: WhiteBoxStudy
    defences: dict[str, AnyDefence]
    chosen: dict[str, Choice] | None = None
    partial: PartialStudy | None = None
    polarizing: PolarizingStudy | None = None
    sparse_coding: SparseStudy | None = None
    hebbian: HebbianStudy | None = None
    all_defences: DefencesStudy | None = None
    needs_gpu: bool = False

    @property
    def main_role(self) -> Literal["own", "foreign"]:
        """Of its regularization set, see `Design`."""
        return self._role_of(self.regularizer.images)

    def set_of(self, role: str) -> dict | None:
        """What a set of `Design` changes of the regularizer; None where the profile has none of this kind."""
        if role == self.main_role:
            return {}
        sets = (one for one in self.studies.regularization_sets if self._role_of(one.images) == role)
        return next((one.fields() for one in sets), None)

    def _role_of(self, images: str) -> Literal["own", "foreign"]:
        return "own" if images == self.task.images else "foreign"

    def faults(self) -> Iterator[str]:
        for label in CLAIMED_DEFENCES:
            if label not in self.defences:
                yield f"defences lack '{label}', with which claims of notebook 14 compare"
        for label in ("none", "S^Th"):
            if label in self.defences:
                yield f"defences name '{label}', which is a curve already"
        sizes = self.studies
        known = [MAIN_SETTING, NEURAL_SETTING, *(one.images for one in sizes.regularization_sets)]
        for prefix, sets in ((COLOUR, sizes.colour_sets), (CORRUPTIONS, sizes.corruption_sets or ())):
            known += [prefix + name for name in (MAIN_SETTING, *(one.images for one in sets))]
        known += [*(one.name for one in sizes.variants), *(one.name for one in sizes.architectures)]
        known += [*(one.name for one in sizes.other_similarities or ()), TABLE_SETTING]
        for name in self.chosen or ():
            if name not in known:
                yield f"chosen names '{name}', which is no setting; allowed: {', '.join(dict.fromkeys(known))}"
        yield from self._defences_lack()

    def _defences_lack(self) -> Iterator[str]:
        """What the study of notebook 24 needs of the profile's others."""
        studies = {"polarizing": self.polarizing, "sparse coding": self.sparse_coding, "HaH": self.hebbian}
        variants = [one.name for one in self.studies.variants]
        for own in () if self.all_defences is None else self.all_defences.tasks:
            if own.variant not in (None, *variants):
                yield f"all_defences names variant '{own.variant}'; allowed: {', '.join(variants)}"
            for name in own.systems:
                if name in studies and studies[name] is None:
                    yield f"all_defences compares '{name}' on {own.name}, of which the profile has no study"
            rows = ("S^Th", "S^pixel", "S^neural", *SYSTEMS, *self.defences, *own.defences)
            for row in own.matched:
                if row not in rows:
                    yield f"all_defences.matched names '{row}', which is no row of {own.name}"
