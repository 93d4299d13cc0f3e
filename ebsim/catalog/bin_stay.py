"""A stay in the recycle bin: from a deletion until the retention ends."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BinStay:
    """When a snapshot or volume came into the recycle bin, and when it is gone for good."""

    enter_time_ns: int
    exit_time_ns: int

    def is_over_at(self, now_ns: int) -> bool:
        return now_ns >= self.exit_time_ns
