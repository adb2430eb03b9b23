"""The intrinsic functions of CloudFormation that the template uses."""

import re
from collections.abc import Mapping
from typing import Any


def resolve(node: Any, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any part of a template
    """Return a part of a template with every intrinsic function resolved. `AWS::NoValue` is omitted from lists and mappings.

    `values` has the values of `Ref` and `${…}` by name, of attributes as `Name.Attribute`, and of conditions.
    """
    match node:
        case {"Ref": "AWS::NoValue"}:
            return None
        case {"Ref": name}:
            return values[name]
        case {"Fn::GetAtt": [name, attribute]}:
            return values[f"{name}.{attribute}"]
        case {"Fn::Sub": [text, names]}:
            return resolve({"Fn::Sub": text}, {**values, **resolve(names, values)})
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{([\w:.]+)\}", lambda name: values[name[1]], text)
        case {"Fn::Join": [delimiter, parts]}:
            return delimiter.join(resolve(parts, values))
        case {"Fn::Split": [delimiter, text]}:
            return resolve(text, values).split(delimiter)
        case {"Fn::Select": [index, parts]}:
            return resolve(parts, values)[int(index)]
        case {"Fn::Equals": [one, other]}:
            return resolve(one, values) == resolve(other, values)
        case {"Fn::And": conditions}:
            return all(resolve(conditions, values))
        case {"Fn::Not": [condition]}:
            return not resolve(condition, values)
        case {"Fn::If": [condition, then, otherwise]}:
            return resolve(then if values[condition] else otherwise, values)
        case dict():
            resolved = {key: resolve(value, values) for key, value in node.items()}
            return {key: value for key, value in resolved.items() if value is not None}
        case list():
            return [value for each in node if (value := resolve(each, values)) is not None]
    return node
