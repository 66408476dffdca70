"""The built wheel, not only the checkout: it holds what a run needs and runs from anywhere."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import pipeline

pytestmark = pytest.mark.e2e

ROOT = Path(pipeline.__file__).parent.parent


def test_wheel_runs_the_bundled_sample(tmp_path: Path, newsdesk: Any) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("newsdesk-*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {
        "pipeline", "components", "trainers", "serving", wheel.name.split("-py3")[0] + ".dist-info",
    }  # fmt: skip

    shown = newsdesk("--help", cwd=tmp_path, PYTHONPATH=str(installed))
    assert "run" in shown.out
    done = newsdesk(
        *(
            "run",
            "--json",
            "--workspace",
            tmp_path / "ws",
            "--set",
            "transformer.epochs=1",
            "--set",
            "floors.accuracy=0",
        ),
        *("--set", "floors.macro_f1=0", "--set", "floors.worst_class_f1=0", "--set", "floors.calibration_error=1"),
        prelude=f"import components; assert components.__file__.startswith({str(installed)!r}), components.__file__",
        cwd=tmp_path,
        PYTHONPATH=str(installed),
    )
    assert done.code == 0, done.err
    assert str(installed) in done.err
