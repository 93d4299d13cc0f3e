"""The Network Block Device protocol, without I/O: bytes in, events and bytes out."""
