"""Metric math, as much of it as alarms are made of."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

Value = float | None

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
_OF_SEVERAL: dict[str, Callable[[list[float]], float]] = {
    "SUM": sum,
    "MAX": max,
    "MIN": min,
    "AVG": lambda values: sum(values) / len(values),
}


def value_of(name: str, expressions: Mapping[str, str], measured: Mapping[str, Value]) -> Value:
    """Evaluate what is named for one period, in which a metric that measured nothing is None; a ValueError tells what is unknown."""

    def evaluate(node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=float() | int() as number):
                return float(number)
            case ast.Name(id=other) if other in measured or other in expressions:
                return value_of(other, expressions, measured)
            case ast.List(elts=elements):
                return [evaluate(element) for element in elements]
            case ast.Call(func=ast.Name(id="METRICS"), args=[]):
                return list(measured.values())
            case ast.Call(func=ast.Name(id="FILL"), args=[filled, ast.Constant(value=float() | int() as number)]):
                found = evaluate(filled)
                return [_or(each, number) for each in found] if isinstance(found, list) else _or(found, number)
            case ast.Call(func=ast.Name(id="IF"), args=[condition, then, otherwise]):
                return _chosen(evaluate(condition), evaluate(then), evaluate(otherwise))
            case ast.Call(func=ast.Name(id=function), args=[ast.List() | ast.Call() as several]) if (
                function in _OF_SEVERAL
            ):
                return _over(_OF_SEVERAL[function], evaluate(several))
            case ast.BinOp(left=left, op=how, right=right) | ast.Compare(left=left, ops=[how], comparators=[right]):
                return _combined(_OPERATORS[type(how)], evaluate(left), evaluate(right))
        raise ValueError(f"metric math that the local AWS does not know: {ast.unparse(node)}")

    if name in measured:
        return measured[name]
    found: Value = evaluate(ast.parse(expressions[name], mode="eval").body)
    return found


def _or(value: Value, otherwise: float) -> float:
    return float(otherwise) if value is None else value


def _chosen(condition: Value, then: Value, otherwise: Value) -> Value:
    if condition is None:
        return None
    return then if condition else otherwise


def _over(function: Callable[[list[float]], float], values: list[Value]) -> Value:
    """Functions over several metrics leave out those that measured nothing."""
    present = [value for value in values if value is not None]
    return function(present) if present else None


def _combined(how: Callable[[float, float], float], left: Value, right: Value) -> Value:
    """Operators give nothing where one side measured nothing, or where zero divides."""
    if left is None or right is None or (how is operator.truediv and not right):
        return None
    return float(how(left, right))
