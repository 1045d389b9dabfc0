"""The command line: a file a command."""

import atexit
import gc
import sys

import click

import jaxnet
from jaxnet.lecture.cli import doctor, lecture, report, show, sweep
from jaxnet.lecture.cli.output import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(jaxnet.__version__, prog_name="jaxnet")
def main() -> None:
    """A PyTorch lecture on small networks as JAX: same seed, same numbers.

    \b
    Examples:
      jaxnet lecture                          every experiment beside what the lecture published
      jaxnet lecture --figures figures        the same, and pictures of it
      jaxnet report                           the same as one page of HTML
      jaxnet sweep minibatch --seeds 0:256    was it luck?
      jaxnet doctor                           does this machine give torch's numbers?
    """
    # Python's last collection walks over all that JAX imported, a third of a second for nothing.
    # Not where a download brought torch along: some of its parts complain about what stays.
    atexit.register(lambda: "torch" in sys.modules or gc.freeze())


for _module in (lecture, sweep, report, show, doctor):
    main.add_command(_module.command)
