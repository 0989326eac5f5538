"""The record of what a training step costs, as notebooks 07 and 16 draw it."""

from statistics import median

from simreg_core.lab.studies import Study


def step_costs(study: Study) -> dict:
    """What a training step of the study's profile costs, from its record, see `measuring.step_cost`.

    Returns 'device'; 'rows' with k (0: unregularized), seconds and ratio to unregularized (medians over repeated
    measurements), ratios, predicted = (batch + 2k) / batch, and saved_bytes, what the step keeps for its backward
    pass; 'image_counts' with N, seconds of a step, held_bytes, what the regularizer keeps, and setup_seconds.
    Raises LookupError where the study has no such record.
    """
    for _, _, record in study.records():
        if record.evaluation.times_steps:
            break
    else:
        raise LookupError(f"{study.name} times no training step")
    batch, own, measured = record.experiment.optimization.batch_size, record.evaluation, record.arrays
    by_pairs = zip(
        (0, *own.pairs_per_step), measured["seconds"], measured["ratios"], measured["saved_bytes"], strict=True
    )
    by_images = zip(
        own.image_counts,
        measured["seconds_by_images"],
        measured["setup_seconds"],
        measured["held_bytes"],
        strict=True,
    )
    return {
        "device": record.provenance.device,
        "rows": [
            {
                "k": k,
                "seconds": seconds,
                "ratio": median(ratios),
                "ratios": ratios,
                "predicted": (batch + 2 * k) / batch,
                "saved_bytes": saved,
            }
            for k, seconds, ratios, saved in by_pairs
        ],
        "image_counts": [
            {"N": count, "seconds": seconds, "setup_seconds": setup, "held_bytes": held}
            for count, seconds, setup, held in by_images
        ],
    }
