"""Turn pages that GitHub shows as well into pages of the site.

The Markdown knows nothing of Sphinx. What the site needs beyond it is added when a page is read:

- the tree of pages, from the lists of ``index.md``: each heading is a part, each item a page;
- comments, among them the code that only the tests run, are left out;
- a link to a file beside the documentation leads to the repository, and to one of ``contrib`` to
  a copy in the site, which can be fetched by its address;
- ``<!-- api MODULE -->`` becomes the docstrings of all that the module says is public.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
FILES = "https://github.com/aftercommit/aftercommit/blob/main"

BLOCK = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
API = re.compile(r"^<!-- api ([\w.]+) -->$", re.MULTILINE)
COMMENT = re.compile(r"^<!--.*?-->$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CONTRIB = ROOT / "contrib"
WHOLE_LINK = re.compile(r"\[([^\[\]]+)\]\(([^)\s]+)\)")
HEADING = re.compile(r"^(#{2,3}) (.+)$")


def setup(app: "Sphinx") -> dict[str, bool]:
    """Have each page rewritten before Sphinx parses it."""
    app.connect("source-read", rewrite)
    return {"parallel_read_safe": True}


def rewrite(_app: "Sphinx", name: str, source: list[str]) -> None:
    """Rewrite a page in place; lines keep their numbers, for what Sphinx says about them."""
    page = DOCS / f"{name}.md"
    text = API.sub(lambda found: "\x00" + found[1], source[0])
    text = COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), text)
    parts = BLOCK.split(text)
    parts[::2] = [_linked(one, page) for one in parts[::2]]
    text = re.sub(r"\x00([\w.]+)", lambda found: _api(found[1]), "".join(parts))
    source[0] = text + "".join(_trees(name))


def _linked(text: str, page: Path) -> str:
    text = WHOLE_LINK.sub(lambda link: _download(link[0], link[1], link[2], page), text)
    return LINK.sub(lambda link: _link(link[0], link[1], page), text)


def _download(whole: str, said: str, target: str, page: Path) -> str:
    path = (page.parent / target).resolve()
    if path.is_relative_to(CONTRIB) and path.is_file():
        return f"{{download}}`{said.strip('`')} <{target}>`"
    return whole


def _link(whole: str, target: str, page: Path) -> str:
    path = (page.parent / target.partition("#")[0]).resolve()
    if "://" in target or path.is_relative_to(DOCS) or not path.exists():
        return whole
    return f"]({FILES}/{path.relative_to(ROOT)})"


def _trees(name: str) -> Iterator[str]:
    for caption, entries in contents():
        if name == "index":
            yield _tree(f":caption: {caption}\n", [pages[0] for pages in entries])
        for first, *below in entries:
            if first == name and below:
                yield _tree("", below)


def _tree(options: str, names: list[str]) -> str:
    lines = "\n".join(f"/{name}" for name in names)
    return f"\n\n```{{toctree}}\n:hidden:\n{options}\n{lines}\n```\n"


def contents() -> list[tuple[str, list[list[str]]]]:
    """Return the parts of the site: a caption, and its pages, each with the pages below it.

    The first link of an item is its page. What else it links stands below that page, unless it
    is an item, too.
    """
    parts: dict[str, list[list[str]]] = {}
    section = part = ""
    for line in (DOCS / "index.md").read_text().splitlines():
        if heading := HEADING.match(line):
            section = heading[2] if heading[1] == "##" else section
            part = heading[2] if heading[1] == "##" else f"{section}: {heading[2].lower()}"
        elif line.startswith("- ") and (names := _pages(line)):
            parts.setdefault(part, []).append(names)
    entries = {pages[0] for part in parts.values() for pages in part}
    return [
        (
            part,
            [
                [first, *(name for name in below if name not in entries)]
                for first, *below in pages
            ],
        )
        for part, pages in parts.items()
    ]


def _pages(line: str) -> list[str]:
    targets = [target.partition("#")[0] for target in LINK.findall(line)]
    return [one.removesuffix(".md") for one in targets if one.endswith(".md")]


def _api(module_name: str) -> str:
    module = import_module(module_name)
    return "".join(_entry(module, name) for name in _public(module))


def _public(module: ModuleType) -> list[str]:
    if names := getattr(module, "__all__", None):
        return list(names)
    return [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    ]


def _entry(module: ModuleType, name: str) -> str:
    value = getattr(module, name)
    if isinstance(value, type):
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
    else:
        kind = "autofunction" if callable(value) else "py:data"  # its docstring is its class's
    return (
        f"\n## {name}\n\n```{{eval-rst}}\n.. currentmodule:: {module.__name__}\n\n"
        f".. {kind}:: {name}\n```\n"
    )
