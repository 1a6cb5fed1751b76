"""A task of Huey's; its storage is a file."""

from huey import SqliteHuey

from shop.notes import FOLDER, note

huey = SqliteHuey("shop", filename=str(FOLDER / "huey.sqlite3"))


@huey.task()
def send(word):
    """Never run here: the test looks for its message."""
    note(word)
