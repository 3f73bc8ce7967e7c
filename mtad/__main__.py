"""`mtad` and `python -m mtad`."""

import sys


def main() -> int:
    from mtad import app

    return app.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
