#!/usr/bin/env bash
# hatchling builds a whole wheel from a tree with a linked package, and one without that package from its own sdist.
#
# Versions: hatchling 1.33.0, build 1.6.1.
# Why it matters: a chat package that links a folder of the repository into itself (tool/history -> ../history) is
#   whole with "pip install .", in an editable install, and in a wheel that is built from the tree. What is published
#   is by default built from the sdist, and for the sdist hatchling visits each folder once: the link's target comes
#   first by name, so nothing is left for the link. The build succeeds, and the installed package raises
#   ModuleNotFoundError.
# Seen:
#   wheel from the tree: tool/__init__.py tool/history/__init__.py
#   sdist: history/__init__.py tool/__init__.py
#   wheel from the sdist: tool/__init__.py
# Source: https://github.com/pypa/hatch/issues/1197 (open) tells of sdists. `only-include = ["tool"]` below
#   [tool.hatch.build.targets.sdist] packs the linked folder; `exclude = ["/history"]` does not.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q hatchling==1.33.0 build==1.6.1

mkdir -p "$folder/project/history" "$folder/project/tool"
cd "$folder/project"
echo 'MESSAGES = []' >history/__init__.py
echo 'from tool.history import MESSAGES' >tool/__init__.py
ln -s ../history tool/history
cat >pyproject.toml <<'TOML'
[project]
name = "tool"
version = "1"

[build-system]
requires = ["hatchling==1.33.0"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
packages = ["tool"]
TOML

"$folder/venv/bin/python" -m build --no-isolation --wheel --outdir "$folder/tree" . >"$folder/log" 2>&1
"$folder/venv/bin/python" -m build --no-isolation --outdir "$folder/sdist" . >>"$folder/log" 2>&1
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
import tarfile
import zipfile
from pathlib import Path

folder = Path(sys.argv[1])


def modules(names: list[str]) -> str:
    return " ".join(sorted(name for name in names if name.endswith(".py")))


tree = modules(zipfile.ZipFile(next(folder.glob("tree/*.whl"))).namelist())
sdist = modules([name.split("/", 1)[1] for name in tarfile.open(next(folder.glob("sdist/*.tar.gz"))).getnames()])
published = modules(zipfile.ZipFile(next(folder.glob("sdist/*.whl"))).namelist())
print("wheel from the tree:", tree)
print("sdist:", sdist)
print("wheel from the sdist:", published)
sys.exit(0 if "tool/history" in tree and "tool/history" not in published else "the behaviour is gone")
PY
