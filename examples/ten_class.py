"""The ten-digit experiment, for `python -m torchref certify examples/ten_class.py:build`.

JAXNET_MNIST names a folder with MNIST's four files; without it they are downloaded.
"""

import os

import jaxnet
from jaxnet.lecture.experiments import find
from torchref.lecture import build_ten_class


def build():
    experiment = find("ten_class")
    train, _ = jaxnet.data.load_mnist(experiment.classes, os.environ.get("JAXNET_MNIST"))
    return *build_ten_class(), (train.images, experiment.targets(train))
