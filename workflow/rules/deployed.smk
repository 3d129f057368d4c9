# What the rules read and a deployed workflow has not: files of this repository, put into the folder where it runs. A
# module's source may be far away and is fetched file by file, so that they are listed.
import shutil
from pathlib import Path

for NEEDED in Path(workflow.source_path("deployed.txt")).read_text().split():
    if not Path(NEEDED).exists():
        Path(NEEDED).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(workflow.source_path(f"../../{NEEDED}"), NEEDED)
