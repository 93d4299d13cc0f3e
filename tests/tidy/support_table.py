"""The table of what ebsim's APIs support, made from Amazon's models and the actions served.

``python -m tests.tidy.support_table`` writes it to ``ebsim/API.md``.
"""

from ebsim.api.action import Action
from ebsim.api.registry import ACTIONS
from ebsim.api.service_models import Kind, Shape, service
from tests.tidy.source_tree import ROOT

PAGE = ROOT / "ebsim" / "API.md"
_RELATED = ("Snapshot", "Volume", "EbsDefault", "EbsEncryption", "ImportTask", "LockedSnapshots")
_HEAD = """# What the APIs support

Made from botocore's service models and the actions that are served, by
`python -m tests.tidy.support_table`; a test compares this page with the code.

A parameter that is not supported is refused with `UnsupportedParameter` (where answers are JSON
with `ValidationException`, or what the service has for it), an action that is not served with
`InvalidAction` (`UnknownOperationException`): nothing is accepted and ignored. `Encrypted` and
`MultiAttachEnabled` can only be false. Roles (`RoleName`, `ExecutionRoleArn`) may do everything:
there is no IAM. A volume is let go of in the same way with `Force` and without. `DryRun` works
everywhere. `A.B` is a member of A, or of each of A's elements.
"""


def support_page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for of in sorted(ACTIONS):
        parts.append(f"\n## {of}\n\n| action | supported | refused |\n|---|---|---|\n")
        for name in sorted(ACTIONS[of]):
            supported, refused = parameters(of, ACTIONS[of][name])
            parts.append(f"| {name} | {', '.join(supported)} | {', '.join(refused)} |\n")
        missing = sorted(
            name
            for name in service(of).operation_names - ACTIONS[of].keys()
            if of != "ec2" or any(word in name for word in _RELATED)
        )
        if missing:
            what = "Not served, of those that are about EBS" if of == "ec2" else "Not served"
            parts.append(f"\n{what}: {', '.join(missing)}.\n")
    return "".join(parts)


def parameters(of: str, action: Action) -> tuple[list[str], list[str]]:
    """The parameters of an action that it heeds, and those that it refuses."""
    supported: list[str] = []
    refused: list[str] = []
    _sort(service(of).operation(action.name).input, "", action.supported, supported, refused)
    return supported, refused


def _sort(
    shape: Shape, path: str, heeded: frozenset[str], supported: list[str], refused: list[str]
) -> None:
    while shape.kind is Kind.LIST and shape.element is not None:
        shape = shape.element
    for name in sorted(shape.members):
        inner = f"{path}.{name}" if path else name
        if inner == "DryRun":
            continue
        if inner in heeded:
            supported.append(inner)
        elif any(one.startswith(f"{inner}.") for one in heeded):
            _sort(shape.members[name].shape, inner, heeded, supported, refused)
        else:
            refused.append(inner)


if __name__ == "__main__":
    PAGE.write_text(support_page(), encoding="utf-8")
