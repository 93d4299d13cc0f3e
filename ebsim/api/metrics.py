"""What the server counts of itself, in Prometheus's text format."""

import threading
from collections import Counter, defaultdict

_BUCKETS_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)


class Metrics:
    """Counts of answers and how long they took.  Safe from many threads.

    Only actions that are served have a name here, so that clients cannot make series.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: Counter[tuple[str, str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._counts: Counter[str] = Counter()

    def note_answer(self, service: str, action: str, status: int, seconds: float) -> None:
        """Count an answer."""
        name = f"{service}:{action}"
        with self._lock:
            self._answers[service, action, status] += 1
            self._counts[name] += 1
            self._seconds[name] += seconds
            for bound in _BUCKETS_SECONDS:
                if seconds <= bound:
                    self._buckets[name, bound] += 1

    def text(self) -> str:
        """All of it."""
        with self._lock:
            lines = [
                "# HELP ebsim_answers_total Answers given, by action and HTTP status.",
                "# TYPE ebsim_answers_total counter",
            ]
            for (service, action, status), count in sorted(self._answers.items()):
                lines.append(
                    f'ebsim_answers_total{{service="{service}",action="{action}",'
                    f'status="{status}"}} {count}'
                )
            lines += [
                "# HELP ebsim_answer_seconds How long answers took.",
                "# TYPE ebsim_answer_seconds histogram",
            ]
            for name in sorted(self._counts):
                for bound in _BUCKETS_SECONDS:
                    count = self._buckets[name, bound]
                    lines.append(
                        f'ebsim_answer_seconds_bucket{{action="{name}",le="{bound}"}} {count}'
                    )
                total = self._counts[name]
                lines.append(f'ebsim_answer_seconds_bucket{{action="{name}",le="+Inf"}} {total}')
                lines.append(
                    f'ebsim_answer_seconds_sum{{action="{name}"}} {self._seconds[name]:.6f}'
                )
                lines.append(f'ebsim_answer_seconds_count{{action="{name}"}} {total}')
            return "\n".join(lines) + "\n"
