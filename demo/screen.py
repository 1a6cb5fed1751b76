"""What the terminal shows; with colours and boxes if ``rich`` is installed."""

from collections.abc import Sequence

try:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
except ImportError:  # plain text does, too
    Console = None

PIPE_WIDTH = 120  # of a log; a terminal knows its own


def say(text: str) -> None:
    """Print a sentence at once, also into a pipe."""
    print(text, flush=True)


def first_screen(title: str, lines: Sequence[tuple[str, str]]) -> None:
    """Show names and values, one below the other."""
    if Console is None:
        width = max(len(name) for name, _ in lines)
        say(f"\n{title}\n")
        for name, value in lines:
            say(f"  {name:<{width}}  {value}")
        say("")
        return
    grid = Table(title=title, title_style="bold green", box=None, show_header=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in lines:
        grid.add_row(escape(name), escape(value))
    _print(grid)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show a table; a row that ends with NO stands out."""
    if Console is None:
        say(f"\n{title}\n")
        for row in [head, *rows]:
            say(" | ".join(row))
        say("")
        return
    grid = Table(*head, title=title, title_style="bold", show_lines=True)
    for row in rows:
        style = "bold red" if row[-1] == "NO" else ""
        grid.add_row(*map(escape, row), style=style)
    _print(grid)


def _print(grid: "Table") -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print("", grid, "")
