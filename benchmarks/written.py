"""The file with the results: what is measured anew replaces its tables, and leaves the others."""

from collections.abc import Mapping

NOT_MEASURED = "Not measured"
HEAD = """# Results

Client, workers and server share the machine. Each table says when, where and at which commit it
was measured.

"""


def merged(
    old: str, tables: Mapping[str, str], missing: Mapping[tuple[str, str], str], *, said: str
) -> str:
    """Return the text of the file with these tables, each by its title.

    ``said``: when, where, at which commit and with which releases they were measured.
    """
    head, sections = _split(old or HEAD)
    why = _reasons(sections.pop(NOT_MEASURED, ""))
    for title, table in tables.items():
        sections[title] = f"{table}\n\n{said}"
        rows = [
            line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")
        ]
        why = {one: text for one, text in why.items() if not (one[1] == title and one[0] in rows)}
    why |= missing
    if why:
        lines = [f"- {peer}, {what}: {text}" for (peer, what), text in why.items()]
        sections[NOT_MEASURED] = "\n".join(lines)
    parts = [f"## {title}\n\n{text}\n" for title, text in sections.items()]
    return "\n".join([f"{head.strip()}\n", *parts])


def _split(text: str) -> tuple[str, dict[str, str]]:
    """Return what stands before the first table, and the tables by their titles."""
    head, *parts = f"\n{text}".split("\n## ")
    pairs = (part.partition("\n") for part in parts)
    return head, {title.strip(): body.strip() for title, _newline, body in pairs}


def _reasons(text: str) -> dict[tuple[str, str], str]:
    found = {}
    for line in text.splitlines():
        what, _colon, why = line.removeprefix("- ").partition(": ")
        peer, _comma, workload = what.partition(", ")
        found[peer, workload] = why
    return found
