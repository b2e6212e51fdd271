"""The benchmarks are programs beside the package; their arithmetic is tested like any other."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))
