"""Local point-in-time snapshots of disk images, with the semantics of Amazon EBS."""

__version__ = "0.1.0"
