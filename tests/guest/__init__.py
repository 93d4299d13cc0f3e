"""A real operating system on a volume."""
