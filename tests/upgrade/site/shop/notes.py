"""What tasks leave in the folder of the site, for a test to read."""

import os
from pathlib import Path

FOLDER = Path(os.environ["SITE_FOLDER"])


def note(word):
    """Add a line."""
    with (FOLDER / "notes").open("a") as notes:
        notes.write(f"{word}\n")


def there_is(name):
    """Tell whether the test has left a file of this name."""
    return (FOLDER / name).exists()
