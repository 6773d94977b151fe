"""`python -m bitfit` is the command `bitfit`."""

from bitfit.cli.main import main

if __name__ == "__main__":
    main()
