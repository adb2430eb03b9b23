"""Any JSON as an item of DynamoDB, in its own notation."""

from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

_LONGEST_KEY = 2048  # bytes ("Quotas in Amazon DynamoDB")


def item_of(key_name: str, key: str, row: Any) -> dict[str, Any] | None:
    """Write an item as DynamoDB holds it; None if it can't."""
    try:
        size = len(key.encode())
        held = {name: _held(value) for name, value in row.items() if name.encode() and name != key_name}
    except (AttributeError, TypeError, ValueError, ArithmeticError, RecursionError):
        return None
    return {key_name: {"S": key}, **held} if 0 < size <= _LONGEST_KEY else None


def _held(value: Any) -> dict[str, Any]:
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value.encode().decode()}
        case int() | float():
            return {"N": _number(value)}
        case list():
            return {"L": [_held(each) for each in value]}
        case {"SS": [first, *others]}:
            return {"SS": [str(each) for each in (first, *others)]}
        case {"NS": [first, *others]}:
            return {"NS": [_number(each) for each in (first, *others)]}
        case {"B": content}:
            return {"B": str(content).encode()}
    return {"M": {name: _held(each) for name, each in value.items()}}


def _number(value: Any) -> str:
    """Write a number of at most 38 digits that count, and 126 in all, as DynamoDB does ("Data types")."""
    number = Decimal(str(value)).normalize(Context(prec=38, traps=[Inexact, InvalidOperation]))
    if not number.is_finite() or abs(number.adjusted()) > 125:
        raise ValueError(value)
    return f"{number:f}"
