"""The extras of the package, and the modules that they bring, which the library does without."""

EXTRAS = {
    "data": ("sklearn", "torchvision"),
    "report": (
        "ipykernel",
        "matplotlib",
        "nbclient",
        "nbconvert",
        "nbformat",
        "pandas",
        "papermill",
        "plotly",
        "scipy",
        "traitlets",
        "typst",
    ),
    "pipeline": ("dvc", "dvc_data", "psutil", "rich", "snakemake"),
}
"""Extra -> modules, of those that commands need; pyproject.toml has their distributions."""


def extra_of(error: ModuleNotFoundError) -> str | None:
    """The extra that would bring the module that is missing; None: none of them.

    >>> extra_of(ModuleNotFoundError("No module named 'pandas.api'", name="pandas.api"))
    'report'
    """
    name = (error.name or "").partition(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if name in modules), None)
