"""The plane and the line between the two nets."""

from pathlib import Path
from typing import Any

from sharpminima.analysis import (
    hessian_along_line,
    loss_barrier,
    loss_surface,
)
from sharpminima.base.sums import write_table
from sharpminima.catalogue.analyses import (
    AnalysisData,
    BarrierSettings,
    LineSettings,
    SurfaceSettings,
)
from sharpminima.catalogue.columns import (
    BARRIER_COLUMNS,
    LINE_COLUMNS,
    SURFACE_COLUMNS,
)
from sharpminima.steps.analyse._nets import (
    BASIS,
    check_eigenvalues,
    finished_parts,
    images_of,
    images_of_each_class,
    load_ends,
    pair_key,
    point_progress,
    resume_path,
)
from sharpminima.steps.job import Runtime

SURFACE_MEASURES = ("loss", "error", "psp_norm", "psp_entropy_1", "psp_entropy_2")


def surface(data: Path, gradual: Path, rewind: Path, settings: SurfaceSettings, out: Path, runtime: Runtime) -> None:
    """All measures over the plane through G (0, 0) and 1-S (1, 0); one row a grid point, and one for each end."""
    (center, target), dataset, device = load_ends(data, gradual, rewind, runtime)
    split = images_of_each_class(dataset, settings, device)
    plane = loss_surface(
        center.model,
        target.model,
        split.images,
        split.labels,
        grid=(settings.grid, settings.grid),
        span=settings.span,
        masks=center.masks,
        seed=center.key["seed"],
        definition=settings.definition,
        measures=SURFACE_MEASURES,
        samples=settings.samples,
        progress=point_progress("surface", center),
        resume=resume_path(out),
    )
    common = pair_key(center, settings.part, split, plane.distance) | {"definition": settings.definition}

    def row(point: str, x: float, y: float, values: dict[str, float]) -> dict[str, Any]:
        measured = [values[name] for name in SURFACE_MEASURES]
        columns = dict(zip(SURFACE_COLUMNS[-len(measured) :], measured, strict=True))
        return {**common, "point": point, "x": x, "y": y, **columns}

    rows = [row("G", 0.0, 0.0, plane.center_values), row("1-S", 1.0, 0.0, plane.target_values)]
    for i, y in enumerate(plane.y.tolist()):
        for j, x in enumerate(plane.x.tolist()):
            rows.append(row("grid", x, y, {name: float(v[i, j]) for name, v in plane.values.items()}))
    write_table(out, rows, SURFACE_COLUMNS)


def line(data: Path, gradual: Path, rewind: Path, settings: LineSettings, out: Path, runtime: Runtime) -> None:
    """Largest eigenvalues along the line from G (x = 0) to 1-S (x = 1), in both spaces."""
    (center, target), dataset, device = load_ends(data, gradual, rewind, runtime)
    split = images_of(dataset, settings, device)
    check_eigenvalues((center, target), settings.eigenvalues)
    finished = finished_parts(out, (center, target), dataset, settings)
    for space, masks in [("all", None), ("surviving", center.masks)][len(finished.parts) :]:
        spectra = hessian_along_line(
            center.model,
            target.model,
            split.images,
            split.labels,
            points=settings.points,
            k=settings.eigenvalues,
            masks=masks,
            tol=settings.tolerance,
            seed=center.key["seed"],
            basis=BASIS,
            progress=point_progress(f"line, {space} parameters,", center),
            resume=resume_path(out),
        )
        common = pair_key(center, settings.part, split, spectra.distance)
        finished.add(
            [
                {
                    **common,
                    "x": x,
                    "space": spectra.space,
                    "dimension": spectra.dimension,
                    "index": index + 1,
                    "eigenvalue": float(spectra.eigenvalues[row, index]),
                    "residual": float(spectra.residuals[row, index]),
                    "converged": bool(spectra.converged[row, index]),
                }
                for row, x in enumerate(spectra.x.tolist())
                for index in range(settings.eigenvalues)
            ]
        )
    write_table(out, (row for part in finished.parts for row in part), LINE_COLUMNS)
    finished.remove()


def barrier(data: Path, gradual: Path, rewind: Path, settings: BarrierSettings, out: Path, runtime: Runtime) -> None:
    """Loss and error along the line from G (x = 0) to 1-S (x = 1), on each part of the data."""
    (center, target), dataset, device = load_ends(data, gradual, rewind, runtime)
    rows = []
    for part in settings.parts:
        split = images_of(dataset, AnalysisData(part=part, images=settings.images), device)
        profile = loss_barrier(
            center.model,
            target.model,
            split.images,
            split.labels,
            points=settings.points,
            masks=center.masks,
            progress=point_progress(f"barrier, {part} images,", center),
            resume=resume_path(out, part),
        )
        common = pair_key(center, part, split, profile.distance)
        columns = (profile.x, profile.loss, profile.error, profile.loss_excess, profile.error_excess)
        for values in zip(*(column.tolist() for column in columns), strict=True):
            rows.append(common | dict(zip(BARRIER_COLUMNS[-len(values) :], values, strict=True)))
    write_table(out, rows, BARRIER_COLUMNS)
