"""Largest Hessian eigenvalues at the nets."""

from itertools import product
from pathlib import Path

from sharpminima.analysis import (
    hessian_eigenvalues,
)
from sharpminima.base.sums import write_table
from sharpminima.catalogue.analyses import (
    HessianSettings,
)
from sharpminima.catalogue.columns import (
    HESSIAN_COLUMNS,
    RELATIVE,
)
from sharpminima.steps.analyse._nets import BASIS, check_eigenvalues, finished_parts, images_of, load_nets
from sharpminima.steps.job import Runtime


def hessian(
    data: Path,
    gradual: Path,
    rewind: Path,
    settings: HessianSettings,
    out: Path,
    runtime: Runtime,
    *,
    dense: Path | None = None,
) -> None:
    """Largest eigenvalues of the Hessian at G and 1-S: of all parameters, of the surviving ones, of relative changes.

    The eigenvalues of relative changes of the survivors do not depend on the scale of ReLU layers; the others do. At
    the dense net, where it is given, all parameters survive: those of all stand for both.
    """
    nets, dataset, device = load_nets(data, gradual, rewind, dense, runtime)
    split = images_of(dataset, settings, device)
    check_eigenvalues(nets, settings.eigenvalues)
    finished = finished_parts(out, nets, dataset, settings)
    spaces = (("all", False, None), ("surviving", True, None), (RELATIVE, True, "parameter"))
    wanted = [(net, space) for net, space in product(nets, spaces) if net.masks or space[0] != "surviving"]
    for net, (space, masked, scaling) in wanted[len(finished.parts) :]:
        spectrum = hessian_eigenvalues(
            net.model,
            split.images,
            split.labels,
            k=settings.eigenvalues,
            masks=net.masks or None if masked else None,
            scaling=scaling,
            tol=settings.tolerance,
            seed=net.key["seed"],
            basis=BASIS,
        )
        finished.add(
            [
                {
                    **net.key,
                    "sparsity": net.sparsity,
                    "part": settings.part,
                    "images": len(split.labels),
                    "space": space,
                    "dimension": spectrum.dimension,
                    "index": index + 1,
                    "eigenvalue": float(spectrum.eigenvalues[index]),
                    "residual": float(spectrum.residuals[index]),
                    "converged": bool(spectrum.converged[index]),
                }
                for index in range(settings.eigenvalues)
            ]
        )
    write_table(out, (row for part in finished.parts for row in part), HESSIAN_COLUMNS)
    finished.remove()
