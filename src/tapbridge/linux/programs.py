"""Other programs, asked for what they know."""

from __future__ import annotations

from typing import Final

from tapbridge.model.errors import HostError

_LIMIT_S: Final = 5.0


def ask(*words: str, text: str = "", limit_s: float = _LIMIT_S) -> str:
    """What a program that is given this text to read says on its standard output, in English.

    Raises HostError.
    """
    import os
    import subprocess

    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            words,
            input=text,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=limit_s,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"{words[0]} does not answer within {limit_s:.3g} s") from None
    except OSError as error:
        raise HostError(f"{words[0]} cannot be started: {error.strerror}", errno=error.errno or 0) from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-300:]
        raise HostError(f"{' '.join(words)} ended with exit code {done.returncode}: {said}")
    return done.stdout
