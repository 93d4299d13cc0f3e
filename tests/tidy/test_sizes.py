"""Files and functions stay small enough to be read."""

import ast

from tests.tidy.source_tree import READS_ALL_MODULES, Module, modules

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
POSITIONAL_PARAMETERS_MAX = 5

LARGER_MODULES: dict[str, int] = {}
"""Modules that may be longer, and how long.  Limits only fall; say why beside each."""

pytestmark = READS_ALL_MODULES


def everything() -> list[Module]:
    return [*modules("ebsim"), *modules("tests"), *modules("benchmarks")]


def test_modules_are_short() -> None:
    assert [
        f"{module.name} has {module.line_count} lines"
        for module in everything()
        if module.line_count > LARGER_MODULES.get(module.name, MODULE_LINES_MAX)
    ] == []


def test_functions_are_short_and_take_few_positional_parameters() -> None:
    faults = []
    for module in everything():
        for function in module.functions():
            assert function.end_lineno is not None
            where = f"{module.name}, line {function.lineno}: {function.name}"
            line_count = function.end_lineno - function.lineno + 1
            if line_count > FUNCTION_LINES_MAX:
                faults.append(f"{where} has {line_count} lines")
            parameter_count = positional_parameter_count(function)
            if parameter_count > POSITIONAL_PARAMETERS_MAX:
                faults.append(
                    f"{where} takes {parameter_count} positional parameters: "
                    "make options keyword-only"
                )
    assert faults == []


def test_a_larger_limit_is_lowered_when_its_module_has_shrunk() -> None:
    lengths = {module.name: module.line_count for module in everything()}
    assert {
        name: limit
        for name, limit in LARGER_MODULES.items()
        if lengths.get(name, 0) <= max(MODULE_LINES_MAX, limit - 20)
    } == {}


def positional_parameter_count(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    parameters = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    # Fixtures and parameters of a test are asked for by name.
    if function.name.startswith("test_"):
        return 0
    return len([name for name in parameters if name not in {"self", "cls"}])
