"""Run the command line, and convert errors and interruptions into one sentence and an exit status."""

import sys
from collections.abc import Sequence
from contextlib import suppress

from rolecall.errors import CommandError
from rolecall.exit_status import ExitStatus
from rolecall.streams import discard_unwritten, replace_unencodable


def main() -> None:
    """Run the command of this process, and exit with its status."""
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command, by default that of this process, and return its exit status. Errors are printed, not raised.

    In Python's development mode (`python -X dev -m rolecall`), unexpected errors are raised, for their traceback.
    """
    replace_unencodable()
    try:
        status = _run_command(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = ExitStatus.INTERRUPTED
    except BrokenPipeError:
        status = ExitStatus.BROKEN_PIPE
    except Exception as error:
        if sys.flags.dev_mode and not isinstance(error, CommandError):
            raise
        status = ExitStatus.UNKNOWN
        _print_error(error)
    finally:
        discard_unwritten()
    return status


def _run_command(arguments: Sequence[str] | None) -> int:
    if sys.stdout is None:
        raise CommandError("standard output is closed: redirect it to a file or to /dev/null")
    # Imported here, because it takes a second, in which Ctrl-C may be pressed.
    from rolecall.cli import app  # noqa: PLC0415

    try:
        app(arguments, prog_name="rolecall")
    except SystemExit as ended:
        # Typer and Rich exit with 1 after a broken pipe.
        if isinstance(ended.__context__, BrokenPipeError):
            raise ended.__context__ from None
        return ended.code if isinstance(ended.code, int) else ExitStatus.OK
    return ExitStatus.OK


def _print_error(error: Exception) -> None:
    from rolecall.console import print_error  # noqa: PLC0415

    # Standard error may be unwritable, too.
    with suppress(OSError, SystemExit):
        print_error(_sentence(error))


def _sentence(error: Exception) -> str:
    """Return what failed and what to do; commands raise CommandError for all errors that they expect."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    from rolecall.aws_errors import error_message  # noqa: PLC0415

    match error:
        case CommandError():
            return str(error)
        case OSError(filename=str() as name):
            return f"{name}: {error.strerror}"
        case OSError():
            return f"writing the output: {error.strerror or error}: free some space, or redirect it to another file"
        case BotoCoreError() | ClientError():
            return error_message(error, "calling AWS")
    return (
        f"unexpected {type(error).__name__}: {error}: run python -X dev -m rolecall with the same arguments for the traceback, "
        "and report it"
    )


if __name__ == "__main__":
    main()
