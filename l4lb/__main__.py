"""The program: what `l4lb` and `python -m l4lb` run."""

import sys

from l4lb.startup import begin


def main() -> None:
    """Run the command line."""
    begin(sys.argv[1:])
    # Only now: it takes a while, in which signals may come.
    from l4lb.cli import main as run

    run(prog_name="l4lb")


if __name__ == "__main__":
    main()
