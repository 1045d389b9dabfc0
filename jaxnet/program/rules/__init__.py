"""What torch's operators compute, room by room; importing this fills the registry."""

from jaxnet.program.rules import (  # noqa: F401
    activations,
    aliases,
    attention,
    complexes,
    convolutions,
    creation,
    elementwise,
    functions,
    indexing,
    joining,
    losses,
    matmul,
    norms,
    padding,
    pools,
    random,
    recurrent,
    reductions,
    resizing,
    sampling,
    scattering,
    shapes,
    sorting,
)

aliases.register()
