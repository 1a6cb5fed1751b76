"""Fetches the sources of others, with their tests; they are never part of this repository."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

# It goes with the virtual environment, unless somebody keeps the sources elsewhere.
CACHE = Path(os.environ.get("AFTERCOMMIT_SOURCES") or Path(sys.prefix, "sources"))
LONGEST = 900  # seconds that a download may take, or a suite on a busy machine


class NotFetched(Exception):
    """The sources are not here and cannot be fetched."""


def released(name: str, version: str, sha256: str) -> Path:
    """Return the unpacked source distribution of a package, as the package index has it.

    Raises ``NotFetched`` without an index, ``ValueError`` if it is not the one that is expected.
    """
    folder = CACHE / f"{name}-{version}-{sha256[:12]}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(prefix="aftercommit_sources_") as temporary:
            archive = _download(f"{name}=={version}", Path(temporary))
            if hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:
                raise ValueError(f"{archive.name} is not the one with SHA-256 {sha256}")
            with tarfile.open(archive) as opened:
                opened.extractall(temporary, filter="data")
            (unpacked,) = (one for one in Path(temporary).iterdir() if one.is_dir())
            _keep(unpacked, folder)
    return folder


def committed(name: str, address: str, revision: str) -> Path:
    """Return a repository as it was at a commit. Raises ``NotFetched`` if it is not reachable."""
    folder = CACHE / f"{name}-{revision[:12]}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(prefix="aftercommit_sources_") as temporary:
            unpacked = Path(temporary, name)
            _run("git", "init", "--quiet", str(unpacked))
            git = ("git", "-C", str(unpacked))
            _run(*git, "fetch", "--quiet", "--depth=1", address, revision)
            _run(*git, "checkout", "--quiet", revision)
            _keep(unpacked, folder)
    return folder


def _download(requirement: str, folder: Path) -> Path:
    # By pip, because it knows the index of this machine.
    _run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--no-binary=:all:", "--ignore-requires-python"),
        *("--dest", str(folder), requirement),
    )
    (archive,) = folder.glob("*.tar.gz")
    return archive


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=LONGEST)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise NotFetched(f"{' '.join(command)}: {said[-1] if said else error}") from error


def _keep(unpacked: Path, folder: Path) -> None:
    """Copy it to the cache, where it appears at once: another run may be fetching the same."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    copied = Path(tempfile.mkdtemp(dir=folder.parent), folder.name)
    shutil.copytree(unpacked, copied, symlinks=True)
    try:
        copied.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    shutil.rmtree(copied.parent)
