"""`python -m pqtls`: the command line, where its script is not on PATH."""

from pqtls.cli import main

if __name__ == "__main__":
    main()
