"""`python -m maskcon` is the command line."""

from maskcon.cli import main

if __name__ == "__main__":
    main()
