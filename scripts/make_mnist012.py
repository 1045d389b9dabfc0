"""Make jaxnet/data/mnist012.npz, the bundled digits 0 to 2, from MNIST's four IDX files.

    python scripts/make_mnist012.py ROOT [--out jaxnet/data/mnist012.npz]

Prints the table of digests that jaxnet/data/mnist.py holds as BUNDLE_SHA256. The same files and the
same zlib give the same bytes.
"""

import argparse
import hashlib
import zipfile
from pathlib import Path

import numpy as np

from jaxnet.data import mnist

DIGITS = (0, 1, 2)


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write `arrays` as `np.savez_compressed` does, but at zlib's best level."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            # By name, a member gets the zip format's first date rather than the clock's.
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Bundle MNIST's digits 0 to 2 as an .npz file.")
    parser.add_argument("root", type=Path, help="a folder that holds MNIST's four IDX files")
    parser.add_argument("--out", type=Path, default=mnist.BUNDLE, help="default: %(default)s")
    arguments = parser.parse_args()
    arrays = mnist.read_digits(arguments.root, DIGITS)
    write_npz(arguments.out, arrays)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")
    for name, array in arrays.items():
        print(f'    "{name}": "{hashlib.sha256(array.tobytes()).hexdigest()}",')


if __name__ == "__main__":
    main()
