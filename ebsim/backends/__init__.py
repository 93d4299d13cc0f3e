"""Named immutable objects, wherever they lie: the door to packs and manifests."""

from ebsim.backends.backend import Backend, Buffer, ObjectWriter
from ebsim.backends.local_directory import LocalDirectory
from ebsim.backends.memory import Memory

__all__ = ["Backend", "Buffer", "LocalDirectory", "Memory", "ObjectWriter"]
