"""Tables of Markdown, as leaderboards and benchmarks write them."""

from collections.abc import Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of a head and rows, a line each."""
    separator = ["---"] * len(head)
    lines = [head, separator, *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
