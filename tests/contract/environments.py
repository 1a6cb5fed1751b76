"""Virtual environments with the packages of others, made once beside their sources."""

import subprocess
import venv
from pathlib import Path

from tests.contract.sources import CACHE, LONGEST, NotFetched

ROOT = Path(__file__).resolve().parent.parent.parent


def python_with(name: str, *requirements: str) -> Path:
    """Return a Python that has these packages, and ours from this folder.

    Raises ``NotFetched`` if they cannot be installed.
    """
    folder = CACHE / f"venv-{name}"
    python = folder / "bin" / "python"
    done = folder / "done"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            subprocess.run(
                [*pip, *requirements], check=True, capture_output=True, text=True, timeout=LONGEST
            )
        except subprocess.SubprocessError as error:
            raise NotFetched(f"pip install {' '.join(requirements)}: {error}") from error
        (library,) = folder.glob("lib/python*/site-packages")
        (library / "ours.pth").write_text(f"{ROOT / 'src'}\n")
        done.touch()
    return python


def run(python: Path, *arguments: str, folder: Path, **environment: str) -> str:
    """Run this Python in a folder; return what it says, or fail with all that it has said."""
    ended = subprocess.run(
        [python, *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    said = f"{ended.stdout}\n{ended.stderr}"
    assert ended.returncode == 0, f"{' '.join(arguments)} in {folder}:\n{said[-6000:]}"
    return said
