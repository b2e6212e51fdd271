"""What the tests with labs share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from tapbridge.lab.build import Lab

TAPBRIDGE = (sys.executable, "-m", "tapbridge")
MakeLab = Callable[..., Lab]
Tapbridge = Callable[..., subprocess.CompletedProcess[str]]
