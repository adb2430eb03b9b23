"""The part of CloudWatch's metric math that alarms use ("Using metric math" in the "Amazon CloudWatch User Guide")."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

Value = float | None


def _average(values: list[float]) -> float:
    return sum(values) / len(values)


_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_AGGREGATIONS: dict[str, Callable[[list[float]], float]] = {
    "SUM": sum,
    "MAX": max,
    "MIN": min,
    "AVG": _average,
}


def evaluate(query_id: str, expressions: Mapping[str, str], values: Mapping[str, Value]) -> Value:
    """Evaluate a metric or expression in one period. A metric without data is None. Raise ValueError if unsupported."""

    def evaluate_node(node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=float() | int() as number):
                return float(number)
            case ast.Name(id=other) if other in values or other in expressions:
                return evaluate(other, expressions, values)
            case ast.List(elts=elements):
                return [evaluate_node(element) for element in elements]
            case ast.Call(func=ast.Name(id="METRICS"), args=[]):
                return list(values.values())
            case ast.Call(func=ast.Name(id="FILL"), args=[operand, ast.Constant(value=float() | int() as number)]):
                value = evaluate_node(operand)
                return [_fill(each, number) for each in value] if isinstance(value, list) else _fill(value, number)
            case ast.Call(func=ast.Name(id="IF"), args=[condition, then, otherwise]):
                return _choose(evaluate_node(condition), evaluate_node(then), evaluate_node(otherwise))
            case ast.Call(func=ast.Name(id=function), args=[ast.List() | ast.Call() as operand]) if (
                function in _AGGREGATIONS
            ):
                return _aggregate(_AGGREGATIONS[function], evaluate_node(operand))
            case (
                ast.BinOp(left=left, op=operation, right=right)
                | ast.Compare(left=left, ops=[operation], comparators=[right])
            ):
                operands = {each: evaluate_node(each) for each in (left, right)}
                series = [value for each, value in operands.items() if not isinstance(each, ast.Constant)]
                if series and all(value is None for value in series):
                    return None
                return _apply(_OPERATORS[type(operation)], *operands.values())
        raise ValueError(f"the local AWS does not support this metric math: {ast.unparse(node)}")

    if query_id in values:
        return values[query_id]
    result: Value = evaluate_node(ast.parse(expressions[query_id], mode="eval").body)
    return result


def _fill(value: Value, default: float) -> float:
    return float(default) if value is None else value


def _choose(condition: Value, then: Value, otherwise: Value) -> Value:
    """Return no data if the condition has none, and 0 if it is true and the chosen value has none."""
    if condition is None:
        return None
    return (then or 0.0) if condition else otherwise


def _aggregate(function: Callable[[list[float]], float], values: list[Value]) -> Value:
    """Functions over several metrics ignore those without data, except for AVG, which counts them as 0."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    return function([value or 0.0 for value in values] if function is _average else present)


def _apply(operation: Callable[[float, float], float], left: Value, right: Value) -> Value:
    """Operators count an operand without data as 0, and return no data for a division by zero."""
    if operation is operator.truediv and not right:
        return None
    return float(operation(left or 0.0, right or 0.0))
