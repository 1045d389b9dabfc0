"""`python -m jaxnet` is the command `jaxnet`."""

from jaxnet.lecture.cli import main

if __name__ == "__main__":
    main(prog_name="jaxnet")
