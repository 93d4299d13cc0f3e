"""What tests look at behind a backend's back."""

from pathlib import Path

from ebsim.backends import Backend


def files_in(directory: Path) -> list[str]:
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


def seal(backend: Backend, name: str, data: bytes) -> None:
    writer = backend.create(name)
    try:
        writer.append([data])
        writer.seal()
    finally:
        writer.discard()
