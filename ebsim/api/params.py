"""Parameters of a call, and what an action answers: nested dictionaries named as in boto3."""

from typing import Any

Params = dict[str, Any]
"""Values by member name.  Typed as the service's model says: the parser has checked them."""

Answer = dict[str, Any]
"""The same, for an answer.  A member that is ``None`` is left out (or null, in JSON of EBS)."""


def lower_first(name: str) -> str:
    """``MaxResults`` as Amazon's messages write it: ``maxResults``."""
    return name[:1].lower() + name[1:]
