"""What an installed user gets: the wheel alone, outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the unpacked wheel and nothing else of the project."""
    folder = tmp_path_factory.mktemp("install")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = folder / "source"  # a copy, so that building leaves nothing in the checkout
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True, check=True)  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith("rcnn_edu/") or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).exists():
                (source / name).write_bytes((ROOT / name).read_bytes())
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(pip + wheel, check=True, capture_output=True)
    (built,) = folder.glob("rcnn_edu-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(built)], check=True)
    return folder


def python(installed: Path, *arguments: str) -> str:
    """Run Python outside the checkout, with the wheel in front of everything else."""
    environment = dict(os.environ, PYTHONPATH=str(installed / "site"), OMP_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, *arguments], cwd=installed, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_shipped_checkpoint_comes_along(installed: Path) -> None:
    printed = python(
        installed, "-c", "import rcnn_edu; print(rcnn_edu.__file__); print(rcnn_edu.load('shapes').classes)"
    )
    assert str(installed / "site") in printed
    assert "('circle', 'square', 'triangle', 'star', 'cross')" in printed


def test_the_demo_trains(installed: Path) -> None:
    printed = python(
        installed, "-m", "rcnn_edu.train", "--data", "shapes", "--shapes-train", "8", "--shapes-val", "4",
        "--steps", "2", "--output", "run",
    )  # fmt: skip
    assert "AP area" in printed
    for name in ("model.pt", "losses.png", "detections.png"):
        assert (installed / "run" / name).stat().st_size > 1000
    evaluated = python(installed, "-m", "rcnn_edu.evaluate", "run", "--data", "shapes",
                       "--shapes-train", "8", "--shapes-val", "4")  # fmt: skip
    assert "COCO AP" in evaluated
