"""What only reads, plans and lists starts without the libraries that compute.

Run as a program, this file does all of that in one fresh process, and fails where a heavy library is loaded.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "numba", "pandas", "scipy")


def test_nothing_heavy_is_loaded_before_something_is_computed(tmp_path: Path) -> None:
    for part in ("Snakefile", "workflow", "profiles", "paper", "notebooks", "src"):
        (tmp_path / part).symlink_to(ROOT / part)
    (tmp_path / "config.yaml").write_bytes((ROOT / "config.yaml").read_bytes())
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, __file__], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def refuse(after: str, *heavy: str) -> None:
    """End the process with a message if one of these libraries is loaded."""
    if found := set(heavy) & set(sys.modules):
        sys.exit(f"after {after}: {', '.join(sorted(found))} loaded")


def main() -> None:
    """Do it."""
    imports = re.findall(r"^(?:from|import) .*$", (ROOT / "workflow/rules/common.smk").read_text(), flags=re.MULTILINE)
    exec("\n".join(line for line in imports if "snakemake" not in line), {})
    refuse("what the rules import", *HEAVY)

    from typer.main import get_command
    from typer.testing import CliRunner

    from sharpminima.base.files import write_json
    from sharpminima.cli import app
    from sharpminima.study.jobs import Layout
    from sharpminima.study.read import read_config

    layout = Layout(*read_config("paper"))
    layout.jobs(), layout.origins(*layout.study.figures)
    refuse("reading a study and its jobs", *HEAVY)
    write_json(Path(layout.numbers()), {"claims": []})
    commands = get_command(app).commands
    called = [[], ["studies"], ["plan", "paper"], ["methods"], ["claims", "--study", "paper"], ["schema", "schemas"]]
    for arguments in [*called, *([name, "--help"] for name in commands)]:
        result = CliRunner().invoke(app, arguments or ["--help"])
        if result.exit_code != 0:
            sys.exit(f"sharpminima {' '.join(arguments)}: {result.output}{result.exception!r}")
        refuse(f"sharpminima {' '.join(arguments)}", *HEAVY)

    from sharpminima.figures import style  # noqa: F401
    from sharpminima.report import metrics  # noqa: F401

    refuse("what figures share", *HEAVY)
    # A figure's tables are pandas'; Snakemake's plug-in for Slurm, where it is installed, loads pandas too.
    from sharpminima.figures import fig1, fig2, methods  # noqa: F401
    from sharpminima.report import notebook, tables  # noqa: F401

    refuse("what a figure's kernel imports", "torch", "numba", "scipy")

    from snakemake.cli import main as snakemake

    try:
        snakemake(["--dry-run", "--quiet", "--config", "study=demo"])
    except SystemExit as end:
        if end.code:
            raise
    refuse("a dry run of Snakemake", "torch", "numba", "scipy")


if __name__ == "__main__":
    main()
