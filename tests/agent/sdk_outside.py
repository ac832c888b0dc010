"""Methods of the SDK that are no part of the lifecycle: each is refused by the agent, as a refusal that the SDK knows."""

import inspect
import typing

from obshell import ClientV1, OBShellHandleError
import sdk_methods
from sdk_world import raises


def made_up(parameter):
    """A value of the type that a parameter has."""
    if parameter.name == "pkg_path":
        return __file__
    kind = parameter.annotation
    plain = {str: "nobody", int: 7, float: 1.0, bool: False, list: [], dict: {}}
    if kind in plain:
        return plain[kind]
    if typing.get_origin(kind) is list:
        return []
    raise SystemExit(f"no value for {parameter}")


def refused_somehow(world, call):
    """By what, the table shows."""
    codes = []
    judge = raises(OBShellHandleError, lambda error: codes.append(error.err_code) or error.err_code != "")
    return f"{judge(world, call)} {codes[0]}"


def outside(world):
    """What is reported of each: method, about, what is expected, the call."""
    for reason, methods in sdk_methods.OUTSIDE.items():
        for method in methods:
            parameters = list(inspect.signature(getattr(ClientV1, method)).parameters.values())[1:]
            wanted = [parameter for parameter in parameters if parameter.default is inspect.Parameter.empty]
            values = [made_up(parameter) for parameter in wanted]
            yield method, reason, refused_somehow, lambda: getattr(world.owner, method)(*values)
