"""The functions of the app, as it registers them: asked for once, since a second time is an error."""

from __future__ import annotations

import functools
from typing import Any

import function_app


@functools.cache
def functions() -> dict[str, Any]:
    """Every function with its bindings, by name."""
    return {one.get_function_name(): one for one in function_app.app.get_functions()}
