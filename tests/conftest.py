"""Hypothesis profiles: the same examples every time, or many new ones.

``EBSIM_TEST_PROFILE=deep`` tries many more examples, from a seed that the header prints
and that ``--hypothesis-seed`` brings back.

Tests that set up loop devices or mount file systems carry
``pytest.mark.xdist_group("loop_devices")``: with ``-n`` they run one after the other.
"""

import os
from random import SystemRandom

import pytest
from hypothesis import HealthCheck, settings

from tests.figures import figure, pytest_terminal_summary

__all__ = ["figure", "pytest_terminal_summary"]

PROFILE = os.environ.get("EBSIM_TEST_PROFILE", "default")

settings.register_profile(
    "default",
    derandomize=True,
    deadline=None,
    print_blob=True,
    max_examples=100,
    # The machine may be busy; how long an example takes is measured in benchmarks/.
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "deep", settings.get_profile("default"), derandomize=False, max_examples=5000
)
settings.load_profile(PROFILE)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the deep profile's seed here, so that it can be printed before a failure.

    Runs before Hypothesis reads the option.  Workers of pytest-xdist find the seed in the
    environment that they inherit.
    """
    if PROFILE == "deep" and config.getoption("--hypothesis-seed") is None:
        chosen = str(SystemRandom().getrandbits(32))
        config.option.hypothesis_seed = os.environ.setdefault("EBSIM_TEST_SEED", chosen)


def pytest_report_header(config: pytest.Config) -> str:
    seed = config.getoption("--hypothesis-seed")
    shown = "the same examples every time" if seed is None else f"--hypothesis-seed={seed}"
    return f"property tests: profile {PROFILE}, {shown}"
