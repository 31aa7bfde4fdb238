"""`python -m local.front_door`: pass requests to spaces until SIGTERM."""

from __future__ import annotations

from local.front_door.server import FrontDoor
from local.home import Home
from local.serving import run_part

if __name__ == "__main__":
    run_part("front_door", lambda: FrontDoor(Home.open()))
