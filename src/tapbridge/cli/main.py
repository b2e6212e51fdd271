"""The entry point. It holds the program's only catch-all."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from tapbridge import __version__

TYPE_CHECKING = False  # as typing has it, whose import takes longer than answering --version
if TYPE_CHECKING:
    from tapbridge.cli.result import Result


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    _prepare_streams()
    changed: int | None = None
    try:
        if words == ["--version"]:  # a script that asks for the version does not wait for argparse
            print(f"tapbridge {__version__}")
            sys.stdout.flush()
            return 0
        result, as_json, quiet = _run(words)
        # What became of a change stands, whether or not anybody can be told.
        changed = int(result.exit) if result.reports else None
        from tapbridge.cli.result import print_result

        print_result(result, as_json=as_json, quiet=quiet, stdout=sys.stdout, stderr=sys.stderr)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone
        return _leave_stdout(141 if changed is None else changed)
    except OSError as error:
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
        return _leave_stdout(1 if changed is None else changed)
    except KeyboardInterrupt as stopped:
        return 128 + getattr(stopped, "number", 2) if changed is None else changed
    return int(result.exit)


def _run(words: list[str]) -> tuple[Result, bool, bool]:
    """The result of a command, and how it is to be printed: as JSON, quietly."""
    import gc

    gc.disable()  # a command ends before garbage matters; collecting while importing takes 7 to 10 % of `up`
    from tapbridge.cli.parser import load_command, parse
    from tapbridge.cli.result import Result, result_of
    from tapbridge.cli.world import World
    from tapbridge.model.errors import TapbridgeError

    as_json = "--json" in (words[: words.index("--")] if "--" in words else words)
    quiet = False
    try:
        parsed = parse(words)
        if isinstance(parsed, str):
            return Result(text=parsed), False, quiet
        command, args = parsed
        quiet = args.quiet
        return load_command(command).run(args, World(root=args.root)), as_json, quiet
    except TapbridgeError as error:
        return result_of(error), as_json, quiet
    except BrokenPipeError:
        raise
    except Exception as error:
        if "-v" in words or "--verbose" in words:
            raise
        internal = TapbridgeError(
            f"tapbridge met an error of its own: {type(error).__name__}: {error}",
            hint="run the command again with -v and report what it prints",
            code="internal-error",
        )
        return result_of(internal), as_json, quiet


def _prepare_streams() -> None:
    """Give a stream that the caller closed to /dev/null, so that no file of ours gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open("/dev/null", mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a character set that lacks a letter stops nothing


def _leave_stdout(exit_code: int) -> int:
    """Turn stdout away from what cannot be written, or Python would complain of it a second time at exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exit_code


if __name__ == "__main__":
    raise SystemExit(main())
