"""Frames that an exception keeps alive are cleared, unless somebody goes on with them."""

import pytest

from aftercommit.worker.frames import clear_frames


class Reader:
    """Reads on after an error, as a stream does that connects anew."""

    def __init__(self):
        self.last_error = None
        self.lines = self._lines()

    def _lines(self):
        for number in range(10):
            try:
                if number == 1:
                    raise OSError("the connection is gone")
            except OSError as error:
                self.last_error = error
            yield number


@pytest.fixture
def reader():
    return Reader()


def failing(reader):
    kept = bytearray(1)
    raise ValueError(kept) from reader.last_error


def test_a_generator_that_has_caught_the_cause_goes_on(reader):
    assert [next(reader.lines), next(reader.lines)] == [0, 1]
    assert reader.last_error is not None
    with pytest.raises(ValueError) as raised:
        failing(reader)

    clear_frames(raised.value)

    assert next(reader.lines) == 2
    (frame,) = [one.frame for one in raised.traceback if one.name == "failing"]
    assert "kept" not in frame.f_locals
