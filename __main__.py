"""The command `aalbert`, which is also `python -m aalbert`."""

import signal
import sys

from aalbert.common.streams import prepare_standard_streams


def main() -> int:
    """Run the command line and return the exit code."""
    # Until `aalbert.cli` handles Ctrl-C, which Python would make an exception, it ends the process.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    prepare_standard_streams()
    from aalbert import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
