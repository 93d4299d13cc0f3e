"""What people are told on standard error, and text made safe for a terminal."""

import click


def say(message: str) -> None:
    """Tell the person at the terminal something that is not data, on standard error."""
    click.echo(printable(message), err=True)


def printable(text: str) -> str:
    """*text* with control characters escaped: a name must not be able to move the cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(count: int, noun: str) -> str:
    """*count* and *noun*, as people say it: ``1 pack``, ``2 packs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
