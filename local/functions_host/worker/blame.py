"""What to say when the worker library could not load an app: what is wrong, where, in which function.

The library's own words name the function for a bad annotation or binding, not for a bad retry
policy, and never the line of an import that fails.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from azure.functions import FunctionRegister
from azure_functions_runtime import loader

from local.functions_host.worker import protos

if TYPE_CHECKING:
    from pathlib import Path

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_NOT_OURS = ("site-packages", "/local/functions_host/")


def blamed(message: str, trace: str, app: Path) -> str:
    """One sentence without its full stop."""
    # For a missing module the library goes on about requirements.txt and prints sys.path.
    what = message.partition(". Cannot find module.")[0].replace("\n", " ").rstrip(". ")
    function = _with_bad_retry_policy()
    if function is not None:
        return f"the retry policy of the function {function!r} is malformed: {what}"
    place = _place(trace, app)
    return f"{what} ({place})" if place else what


def _place(trace: str, app: Path) -> str | None:
    """The innermost line of the app's own code in a trace."""
    own = [
        (file, line)
        for file, line in _FRAME.findall(trace)
        if file.startswith(f"{app}/") and not any(part in file for part in _NOT_OURS)
    ]
    if not own:
        return None
    file, line = own[-1]
    return f"{file.removeprefix(f'{app}/')}, line {line}"


def _with_bad_retry_policy() -> str | None:
    """The first function whose policy the library cannot read."""
    module = sys.modules.get("function_app")
    for register in vars(module).values() if module else ():
        if isinstance(register, FunctionRegister):
            for function in _functions(register):
                try:
                    loader.build_retry_protos(protos, function)
                except (ValueError, TypeError):
                    return function.get_function_name()
    return None


def _functions(register: FunctionRegister) -> list[Any]:
    register.functions_bindings = {}  # names it has seen; it would take them for twins
    try:
        return list(register.get_functions())
    except ValueError:  # the very thing the library complained of
        return []
