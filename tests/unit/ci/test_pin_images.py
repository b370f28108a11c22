"""The digests of images are written from what a registry says, all or none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.paths import ROOT

FILES = ("Dockerfile", "docker-compose.yml")
# No registry can be reached in a test: it knows the images that are named in KNOWN.
DOCKER = """#!/bin/sh
case " $KNOWN " in *" $4 "*) printf 'sha256:%064d\\n' 7 ;; *) exit 1 ;; esac
"""
IMAGES = ["python:3.11-slim", "redis:7-alpine", "fsouza/fake-gcs-server:1"]

Pin = Callable[..., tuple[int, str]]


@pytest.fixture
def pin(tmp_path: Path) -> Pin:
    """The script in a copy of the repository, with a docker that knows some images."""
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    for name, text in ((".ci/pin-images", (ROOT / ".ci" / "pin-images").read_text()), ("bin/docker", DOCKER)):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text(text)
        path.chmod(0o755)

    def run(*arguments: str, known: list[str]) -> tuple[int, str]:
        variables = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "KNOWN": " ".join(known)}
        command = [str(tmp_path / ".ci" / "pin-images"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
        return done.returncode, done.stdout + done.stderr

    return run


def test_digests_are_written_once_and_again_when_they_have_changed(pin: Pin, tmp_path: Path) -> None:
    assert pin("--check", known=IMAGES)[0] == 1
    assert pin(known=IMAGES)[0] == 0
    digest = f"sha256:{7:064}"
    written = "".join((tmp_path / name).read_text() for name in FILES)
    assert written.count(digest) == len(re.findall(r"^(?:FROM|    image:) ", written, re.MULTILINE))
    assert all(re.search(f"{re.escape(image)}@{digest}( AS build)?$", written, re.MULTILINE) for image in IMAGES)
    assert pin("--check", known=IMAGES) == (0, "all images have digests\n")
    assert pin(known=IMAGES)[0] == 0
    assert "".join((tmp_path / name).read_text() for name in FILES) == written


@pytest.mark.parametrize("known", [[], IMAGES[:2]])
def test_nothing_is_written_if_a_digest_can_not_be_read(pin: Pin, tmp_path: Path, known: list[str]) -> None:
    code, said = pin(known=known)
    assert (code, "NOT PINNED" in said) == (3, True)
    assert all((tmp_path / name).read_text() == (ROOT / name).read_text() for name in FILES)
