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
