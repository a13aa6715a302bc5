"""`python -m l4lb` is the same as `l4lb`."""

from l4lb.cli import main

if __name__ == "__main__":
    main(prog_name="l4lb")
