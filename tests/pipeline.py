"""MNIST by the lecture's own torchvision, in a module apart: it takes seconds to import."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from jaxnet import data
from tests.helpers import assert_same_bits

__all__ = ["assert_is_torchvision", "read_sn3_pascalvincent_tensor", "to_tensor"]


def to_tensor(image: np.ndarray) -> np.ndarray:
    return transforms.ToTensor()(Image.fromarray(image.reshape(28, 28))).flatten().numpy()


def assert_is_torchvision(root: Path, torchvision_root: Path, classes: tuple[int, ...]) -> None:
    for train, dataset in zip((True, False), data.load_mnist(classes, root), strict=True):
        mnist = MNIST(torchvision_root, train=train, transform=transforms.ToTensor())
        pairs = [(image, target) for image, target in mnist if target in classes]
        pairs.sort(key=lambda pair: classes.index(pair[1]))  # stable: the file's order is kept
        assert_same_bits(dataset.images, torch.stack([image.flatten() for image, _ in pairs]))
        labels = [classes.index(target) for _, target in pairs]
        assert_same_bits(dataset.labels, np.array(labels, np.int32))
