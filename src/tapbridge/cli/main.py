"""The entry point. It holds the program's only catch-all."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tapbridge import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words == ["--version"]:  # a script that asks for the version does not wait for argparse
        print(f"tapbridge {__version__}")
        return 0
    return _run(words)


def _run(words: list[str]) -> int:
    from tapbridge.cli.parser import load_command, parse
    from tapbridge.cli.result import print_result, result_of
    from tapbridge.cli.world import World
    from tapbridge.model.errors import Exit, TapbridgeError

    as_json = "--json" in (words[: words.index("--")] if "--" in words else words)
    quiet = False
    try:
        parsed = parse(words)
        if isinstance(parsed, str):
            print(parsed)
            return Exit.DONE
        command, args = parsed
        quiet = args.quiet
        result = load_command(command).run(args, World(root=args.root))
    except TapbridgeError as error:
        result = result_of(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _closed_pipe()
    except Exception as error:
        if "-v" in words or "--verbose" in words:
            raise
        result = result_of(
            TapbridgeError(
                f"tapbridge met an error of its own: {type(error).__name__}: {error}",
                hint="run the command again with -v and report what it prints",
                code="internal-error",
            )
        )
    try:
        print_result(result, as_json=as_json, quiet=quiet, stdout=sys.stdout, stderr=sys.stderr)
        sys.stdout.flush()
    except BrokenPipeError:
        return _closed_pipe()
    return int(result.exit)


def _closed_pipe() -> int:
    """The reader of our output has gone; Python must not complain of it a second time at exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


if __name__ == "__main__":
    raise SystemExit(main())
