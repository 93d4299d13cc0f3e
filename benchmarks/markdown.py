"""Tables as Markdown."""

from collections.abc import Iterable, Sequence

NOT_MEASURED = "*not yet measured*"


def markdown_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, left_count: int = 2
) -> str:
    """A table; every column but the first *left_count* is of figures and set to the right."""
    rule = ["---" if at < left_count else "---:" for at in range(len(head))]
    lines = [head, rule, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
