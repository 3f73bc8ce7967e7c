"""`mtad` and `python -m mtad`."""

import sys

EX_INTERRUPTED = 130


def main() -> int:
    try:
        from mtad import command

        return command.main(sys.argv[1:])
    except KeyboardInterrupt:  # before the daemon takes signals itself: nothing was begun
        return EX_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
