"""Which files a change touches, by git.

``python -m tests.changes demo/`` succeeds if one of them begins like this.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIABLE = "AFTERCOMMIT_BASE"  # the revision that the change is compared with
MAIN = "origin/main"


class NoHistory(Exception):
    """Nobody can tell what has changed; the message says why."""


def changed_files(base: str | None = None, *, root: Path = ROOT) -> set[str]:
    """Return the files that differ from ``base``, committed or not, and those that are new.

    Without a base: from where the branch left ``origin/main``; on that branch itself, or
    where there is none, from the commit before the last.

    Raises ``NoHistory`` outside a clone, in a shallow one, and for an unknown base.
    """
    base = base or os.environ.get(VARIABLE) or _usual_base(root)
    differing = _git(root, "diff", "--name-only", "--no-renames", "-z", base, "--")
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "-z")
    return {file for file in f"{differing}{untracked}".split("\0") if file}


def _usual_base(root: Path) -> str:
    if _git(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise NoHistory("the clone is shallow")
    try:
        base = _git(root, "merge-base", MAIN, "HEAD")
    except NoHistory:
        return "HEAD~1"
    return "HEAD~1" if base == _git(root, "rev-parse", "HEAD") else base.strip()


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise NoHistory(f"git does not run ({error})") from error
    if done.returncode:
        raise NoHistory(done.stderr.strip().partition("\n")[0] or f"git {words[0]} failed")
    return done.stdout


def main() -> int:
    """Tell whether a change touches one of the places that are named."""
    try:
        files = changed_files()
    except NoHistory as reason:
        print(f"what has changed is unknown: {reason}")
        return 1
    found = sorted(file for file in files if file.startswith(tuple(sys.argv[1:])))
    print(f"changed: {', '.join(found) or 'nothing there'}")
    return int(not found)


if __name__ == "__main__":
    sys.exit(main())
