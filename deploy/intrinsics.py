"""Resolve CloudFormation's intrinsic functions, as far as this template uses them."""

import re
from collections.abc import Mapping
from typing import Any


def resolve(node: Any, values: Mapping[str, str]) -> Any:  # noqa: ANN401 - any part of a template
    """Resolve every intrinsic in a part of a template; `values` holds what `Ref` and `${…}` name, `Name.Attribute` too."""
    match node:
        case {"Ref": name}:
            return values[name]
        case {"Fn::GetAtt": [name, attribute]}:
            return values[f"{name}.{attribute}"]
        case {"Fn::Sub": [text, names]}:
            return resolve({"Fn::Sub": text}, {**values, **resolve(names, values)})
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{([\w:.]+)\}", lambda found: values[found[1]], text)
        case {"Fn::Join": [delimiter, parts]}:
            return delimiter.join(resolve(parts, values))
        case {"Fn::Split": [delimiter, text]}:
            return resolve(text, values).split(delimiter)
        case dict():
            return {key: resolve(value, values) for key, value in node.items()}
        case list():
            return [resolve(value, values) for value in node]
    return node
