"""Nets that others wrote, torchvision's and transformers', ported and certified for two steps."""

from typing import Any

import pytest
import torch
import torchvision
import transformers

import torchref
from tests.program_nets import images, swin, tokens, vision_transformer

VOCABULARY = 50
SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
}  # fmt: skip

LABELS: dict[str, Any] = {"num_labels": 5}


def gpt2():
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=VOCABULARY, n_positions=32, n_embd=32, n_layer=2, n_head=4,
            use_cache=False, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


def llama():
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY, num_key_value_heads=2, max_position_embeddings=32,
            use_cache=False, **SIZES,
        )
    )  # fmt: skip


def t5():
    return transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
        )
    )


def bert():
    return transformers.BertModel(transformers.BertConfig(vocab_size=VOCABULARY, **SIZES))


def vit():
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            image_size=16, patch_size=4, hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1, **SIZES, **LABELS,
        )
    )  # fmt: skip


def deeplabv3():
    return torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights_backbone=None, num_classes=4
    )


models = torchvision.models
words = tokens(12, VOCABULARY)
CASES = {
    "resnet18": (lambda: models.resnet18(num_classes=5), images(32)),
    "mobilenet_v3_small": (lambda: models.mobilenet_v3_small(num_classes=5), images(32)),
    "densenet121": (lambda: models.densenet121(num_classes=5, drop_rate=0.1), images(32)),
    "convnext_tiny": (lambda: models.convnext_tiny(num_classes=5), images(32)),
    "vit_b_16, narrow": (vision_transformer, images(32)),
    "swin_t, narrow": (swin, images(32)),
    "deeplabv3": (deeplabv3, images(32)),
    "BERT": (bert, words),
    "GPT-2": (gpt2, words),
    "Llama": (llama, words),
    "T5 encoder": (t5, words),
    "ViT": (vit, images(16)),
}


def lose(outputs, _):
    """Of the output that people train: a tensor, or one of a transformers dataclass by name."""
    for name in ("out", "logits", "last_hidden_state"):
        if not isinstance(outputs, torch.Tensor) and name in outputs:
            outputs = outputs[name]
    return (outputs * outputs.detach().cos()).mean() + 0.1 * outputs.square().mean()


@pytest.mark.parametrize("name", CASES)
def test_two_steps_are_certified(name):
    torch.manual_seed(0)
    build, make = CASES[name]
    net = build()
    certificate = torchref.certify(
        net,
        data=(make(8), torch.zeros(8)),
        loss=lose,
        optimizer=torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9),
        batch_size=4,
        seed=1,
    )
    # Through 121 norms the terms of its gradients pass float32's range before they cancel.
    expected = "UNDECIDED" if name == "densenet121" else "AGREE"
    assert certificate.verdict == expected and certificate.steps == 2, str(certificate)
    drops = any(isinstance(m, torch.nn.Dropout) and m.p for m in net.modules())
    assert certificate.checked.get("masks", 0) > 0 or not drops
