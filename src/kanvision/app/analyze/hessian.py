"""Analysis of the eigenvalues of the loss's Hessian (`analysis=hessian`)."""

from __future__ import annotations

import math

import numpy as np

from kanvision.analysis.curvature.figures import spectrum_picture
from kanvision.analysis.curvature.hessian import Hessian, spectrum
from kanvision.analysis.curvature.lanczos import Estimate, density, extreme_eigenvalues, mean_and_error
from kanvision.analysis.results import AnalysisResult, Picture, ResultTable
from kanvision.app.restore import RestoredRun

from .inputs import batch_loss, describe_images, fixed_batches, trainable_parameter_names

__all__ = ["hessian"]


def hessian(run: RestoredRun) -> AnalysisResult:
    """Estimate the spectrum of the Hessian at the checkpoint's weights."""
    options = run.cfg.analyze.hessian
    names = trainable_parameter_names(run)
    batches = fixed_batches(run, options.images, options.num_images)
    images = describe_images(run, options.images, batches)
    parameters = [p for name, p in run.task.model.named_parameters() if name in names]
    for parameter in parameters:
        parameter.requires_grad_(True)
    matrix = Hessian(lambda batch: batch_loss(run, batch), parameters, batches)
    steps = min(options.num_steps, matrix.size)
    run.console.print(
        f"{matrix.size:,} parameters; Lanczos' method keeps {steps} vectors of them, "
        f"{steps * matrix.size * parameters[0].element_size() / 2**20:,.0f} MiB"
    )
    total = options.num_runs * steps + max(0, options.num_trace_vectors - options.num_runs)
    bar = run.track(range(total), "Products with the Hessian")
    estimate = spectrum(
        matrix,
        runs=options.num_runs,
        steps=steps,
        trace_vectors=options.num_trace_vectors,
        seed=run.cfg.analyze.seed,
        tick=lambda: next(bar, None),
    )
    for _ in bar:  # a run may have needed fewer products
        pass
    for parameter in parameters:
        parameter.requires_grad_(False)

    curve = density(estimate.runs, options.kernel_width)
    values, bounds = extreme_eigenvalues(estimate.runs, options.num_eigenvalues)
    largest, smallest = (
        max(lanczos.values[-1] for lanczos in estimate.runs),
        min(lanczos.values[0] for lanczos in estimate.runs),
    )
    near = options.kernel_width * max(abs(largest), abs(smallest))
    below = mean_and_error(
        [float(lanczos.weights[lanczos.values < -near].sum()) for lanczos in estimate.runs]
    )
    zero = mean_and_error(
        [float(lanczos.weights[np.abs(lanczos.values) <= near].sum()) for lanczos in estimate.runs]
    )
    sentences = [
        f"Hessian of the loss over {images}, by {estimate.size:,} parameters: largest eigenvalue "
        f"{largest:.4g}, smallest {smallest:.4g}.",
        f"Trace {estimate.trace.mean:.4g}{_error(estimate.trace, '.2g')} over "
        f"{max(options.num_runs, options.num_trace_vectors)} random vectors.",
        f"{zero.mean:.2%}{_error(zero, '.2%')} of the eigenvalues lie within {near:.2g} of zero, "
        f"{below.mean:.2%}{_error(below, '.2%')} below.",
    ]
    limits = [
        f"Lanczos' method of {steps} products finds the outermost eigenvalues; inside, the curve is a "
        "smoothed estimate, and equal eigenvalues of the list appear once.",
        "Loss of validation: without mixing, label smoothing, penalties, dropout and augmentation; batch "
        "norms with their stored statistics.",
        "Rescaling weights between layers changes eigenvalues and not the function: compare models of one "
        "architecture only.",
    ]
    numbers = {
        "largest": float(largest),
        "smallest": float(smallest),
        "trace": estimate.trace.mean,
        "trace_error": estimate.trace.error,
        "share_near_zero": zero.mean,
        "share_negative": below.mean,
        "parameters": float(estimate.size),
    }
    rows = zip(range(1, len(values) + 1), values, bounds, strict=True)
    ritz = [
        (index + 1, *numbers_of)
        for index, lanczos in enumerate(estimate.runs)
        for numbers_of in zip(lanczos.values, lanczos.weights, lanczos.bounds, strict=True)
    ]
    tables = [
        ResultTable(
            "eigenvalues",
            ("rank", "eigenvalue", "error_at_most"),
            list(rows),
            "The largest eigenvalues by size; a true one is at most that far away.",
        ),
        ResultTable(
            "ritz", ("run", "value", "weight", "error_at_most"), ritz, "All Ritz values.", num_shown=0
        ),
        ResultTable(
            "density",
            ("eigenvalue", "density", "standard_error"),
            list(zip(*curve, strict=True)),
            "Spectral density.",
            num_shown=0,
        ),
    ]
    title = f"{run.train_cfg.model.name}, {images}"
    picture = spectrum_picture(curve, estimate.runs, estimate.size, title=title)
    caption = (
        f"Density of the eigenvalues, a mean over {options.num_runs} random vectors (band: its standard "
        f"error), kernel of {options.kernel_width:g} of the span; red: the values of Lanczos' method."
    )
    return AnalysisResult(sentences, limits, numbers, [Picture("hessian", picture, caption)], tables)


def _error(estimate: Estimate, form: str) -> str:
    """Format the standard error; empty if there is a single vector."""
    return "" if math.isnan(estimate.error) else f" ± {estimate.error:{form}}"
