"""`python -m local.space_app CONFIG.json`: one instance by itself, for a look at it alone."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from local.serving import log_to_stderr
from local.space_app.instance import serve
from local.space_app.settings import InstanceConfig

if __name__ == "__main__":
    log_to_stderr("space_app")
    if len(sys.argv) != 2:
        sys.exit("usage: python -m local.space_app CONFIG.json")
    serve(
        msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=InstanceConfig), lambda: None
    )
