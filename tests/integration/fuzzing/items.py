"""Any JSON as a DynamoDB item."""

from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

_MAX_KEY_BYTES = 2048  # "Quotas in Amazon DynamoDB"


def item_of(key_name: str, key: str, attributes: Any) -> dict[str, Any] | None:
    """Return an item in DynamoDB's JSON, or None if DynamoDB can't store it."""
    try:
        size = len(key.encode())
        item = {name: _value(each) for name, each in attributes.items() if name.encode() and name != key_name}
    except (AttributeError, TypeError, ValueError, ArithmeticError, RecursionError):
        return None
    return {key_name: {"S": key}, **item} if 0 < size <= _MAX_KEY_BYTES else None


def _value(value: Any) -> dict[str, Any]:
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
            return {"L": [_value(each) for each in value]}
        case {"SS": [first, *others]}:
            return {"SS": [str(each) for each in (first, *others)]}
        case {"NS": [first, *others]}:
            return {"NS": [_number(each) for each in (first, *others)]}
        case {"B": content}:
            return {"B": str(content).encode()}
    return {"M": {name: _value(each) for name, each in value.items()}}


def _number(value: Any) -> str:
    """Return a number with at most 38 significant digits and 126 in all, as DynamoDB does ("Data types")."""
    number = Decimal(str(value)).normalize(Context(prec=38, traps=[Inexact, InvalidOperation]))
    if not number.is_finite() or abs(number.adjusted()) > 125:
        raise ValueError(value)
    return f"{number:f}"
