"""Sizes of memory, as people write them and as they read them."""

import re

UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)


def bytes_of(text: str) -> int:
    """Return the bytes of a size such as 512M, 1.5G, 300 MiB; raises ``ValueError``.

    The units are powers of 1024, as those of systemd, Docker and Kubernetes' ``Mi``.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"no size of memory: {text!r}")
    number, unit = found.groups()
    return int(float(number) * UNITS[unit.upper()])


def size(number: int) -> str:
    """Return a number of bytes for people."""
    if number < UNITS["M"]:
        return f"{number:,} bytes"
    return f"{number / UNITS['M']:,.0f} MiB"
