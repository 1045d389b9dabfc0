"""Seventeen nets as people write them, small, each with inputs for a batch of any size."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torchvision
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """A block of a GPT, its attention fused."""

    def __init__(self, width, heads, p):
        super().__init__()
        self.heads, self.p = heads, p
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(p)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(self.ln1(x)).split(C, dim=2)
        q, k, v = (t.view(B, T, self.heads, C // self.heads).transpose(1, 2) for t in (q, k, v))
        p = self.p if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        x = x + self.drop(self.proj(y.transpose(1, 2).contiguous().view(B, T, C)))
        return x + F.dropout(self.out(F.gelu(self.fc(self.ln2(x)))), self.p, self.training)


class GPT(nn.Module):
    """Its head is tied to its embedding."""

    def __init__(self, vocabulary=65, context=32, width=32, heads=4, layers=2, p=0.2):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.drop = nn.Dropout(p)
        self.h = nn.ModuleList(Block(width, heads, p) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.wte.weight = self.lm_head.weight
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.08)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        x = self.drop(x)
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class Tied(nn.Module):
    """An attention, fused, between an embedding and a head of the same weight."""

    def __init__(self, vocabulary=17, width=8, heads=2, p=0.2):
        super().__init__()
        self.emb, self.drop = nn.Embedding(vocabulary, width), nn.Dropout(p)
        self.head, self.heads, self.p = nn.Linear(width, vocabulary, bias=False), heads, p
        self.emb.weight = self.head.weight

    def forward(self, tokens):
        x = self.drop(self.emb(tokens))
        q = x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
        p = self.p if self.training else 0.0
        y = F.scaled_dot_product_attention(q, q, q, dropout_p=p, is_causal=True)
        return self.head(x + y.transpose(1, 2).reshape(x.shape))


class LanguageLSTM(nn.Module):
    """Two layers with dropout between them."""

    def __init__(self, vocabulary=50, width=16, p=0.3):
        super().__init__()
        self.emb, self.drop = nn.Embedding(vocabulary, width), nn.Dropout(p)
        self.rnn = nn.LSTM(width, 24, 2, dropout=p, batch_first=True)
        self.head = nn.Linear(24, vocabulary)

    def forward(self, tokens):
        y, _ = self.rnn(self.drop(self.emb(tokens)))
        return self.head(self.drop(y))


class DeepGRU(nn.Module):
    """Three layers in both directions, time first."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(8, 12, 3, dropout=0.4, bidirectional=True)
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        return self.head(F.dropout(self.rnn(x)[0], 0.2, self.training))


def double(inner, outer):
    """Two convolutions, one with each kind of norm."""
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, padding=1, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(inplace=True),
        nn.Conv2d(outer, outer, 3, padding=1),
        nn.GroupNorm(4, outer),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Up by a transposed convolution once, and bilinearly once."""

    def __init__(self, c=4):
        super().__init__()
        self.d1, self.d2, self.d3 = double(3, c), double(c, 2 * c), double(2 * c, 4 * c)
        self.u2 = nn.ConvTranspose2d(4 * c, 2 * c, 2, 2)
        up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.u1 = nn.Sequential(up, nn.Conv2d(2 * c, c, 1))
        self.c2, self.c1 = double(4 * c, 2 * c), double(2 * c, c)
        self.out, self.drop = nn.Conv2d(c, 4, 1), nn.Dropout2d(0.3)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        y = self.u2(self.drop(self.d3(F.max_pool2d(b, 2))))
        dy, dx = b.shape[2] - y.shape[2], b.shape[3] - y.shape[3]
        y = F.pad(y, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        y = self.c2(torch.cat([b, y], 1))
        return self.out(self.c1(torch.cat([a, self.u1(y)], 1)))


class VAE(nn.Module):
    """Draws its noise in the forward."""

    def __init__(self):
        super().__init__()
        self.fc1, self.mu, self.lv = nn.Linear(64, 40), nn.Linear(40, 10), nn.Linear(40, 10)
        self.fc3, self.fc4 = nn.Linear(10, 40), nn.Linear(40, 64)

    def forward(self, x):
        h = F.relu(self.fc1(F.dropout(x, 0.1, self.training)))
        mu, lv = self.mu(h), self.lv(h)
        std = torch.exp(0.5 * lv)
        z = mu + torch.randn_like(std) * std
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, lv


def generator(n=8):
    """Of a DCGAN."""
    layers: list[nn.Module] = []
    for inner, outer, options in (
        (16, 4 * n, (4, 1, 0)),
        (4 * n, 2 * n, (4, 2, 1)),
        (2 * n, n, (4, 2, 1)),
    ):
        layers += [
            nn.ConvTranspose2d(inner, outer, *options, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(True),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(n, 3, 4, 2, 1, bias=False), nn.Tanh())


class Encoder(nn.Module):
    """torch's own, in both layouts."""

    def __init__(self, batch_first=True, norm_first=False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            16, 4, 32, 0.1, activation="gelu", batch_first=batch_first, norm_first=norm_first
        )
        self.axis = int(batch_first)
        self.enc = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[self.axis])
        return self.enc(x, mask=mask, is_causal=True)


class Attention(nn.Module):
    """`nn.MultiheadAttention` by both of its paths."""

    def __init__(self, need_weights=True):
        super().__init__()
        self.need = need_weights
        self.mha = nn.MultiheadAttention(16, 4, dropout=0.2, batch_first=True)
        self.mha2 = nn.MultiheadAttention(16, 2, dropout=0.2, kdim=8, vdim=8, add_bias_kv=True)
        self.kv = nn.Linear(16, 8)

    def forward(self, x):
        y, _ = self.mha(x, x, x, need_weights=self.need, average_attn_weights=False)
        kv = self.kv(x)
        z, _ = self.mha2(y, kv, kv, need_weights=self.need)
        return y + z


class Drops(nn.Module):
    """Dropouts of every kind, on tensors whose memory is in another order; and all other draws."""

    def __init__(self):
        super().__init__()
        self.conv, self.ad = nn.Conv2d(3, 6, 3), nn.AlphaDropout(0.3)
        self.fad, self.d1 = nn.FeatureAlphaDropout(0.3), nn.Dropout1d(0.4)
        self.inp = nn.Dropout(0.3, inplace=True)

    def forward(self, x):
        on = self.training
        x = F.dropout(self.conv(x), 0.3, on)
        y = F.dropout(x.permute(0, 2, 3, 1), 0.3, on)
        y = F.dropout(y.reshape(y.shape[0], -1, 6).transpose(0, 1), 0.2, on)
        z = self.ad(y) + self.d1(y) + self.fad(y)
        z = F.dropout(z[:, :, ::2], 0.5, on)
        w = F.dropout(z.mean(2, keepdim=True).expand(-1, -1, 5), 0.5, on)
        v = self.inp(torch.cat([z, w], 2) * 1.0)
        u = F.dropout(torch.einsum("abc,dbc->dab", v, v), 0.5, on)
        t = F.dropout(torch.stack([v.transpose(0, 2), v.transpose(0, 2)]), 0.5, on)
        r = v.transpose(0, 1)
        r = r * torch.rand_like(r) + torch.bernoulli(torch.sigmoid(r).detach())
        r = r + torch.randn_like(r)
        return u.mean() + t.mean(0).mean(0), r, torch.randint(0, 10, (3,)) + torch.randn(2, 2).sum()


def vision_transformer():
    """torchvision's, narrow."""
    net = torchvision.models.VisionTransformer(
        32, 8, 2, 4, 32, 64, dropout=0.1, attention_dropout=0.1, num_classes=10
    )
    nn.init.normal_(net.get_parameter("heads.head.weight"), std=0.3)  # torchvision starts it at 0
    return net


def swin():
    """torchvision's, narrow."""
    return torchvision.models.SwinTransformer(
        [4, 4], 16, [2, 2], [2, 4], [4, 4], dropout=0.1, attention_dropout=0.1,
        stochastic_depth_prob=0.2, num_classes=10,
    )  # fmt: skip


class Case(NamedTuple):
    """A net, and what makes its inputs."""

    build: Callable[[], Any]
    make: Callable[[int], torch.Tensor]
    """The input for a batch of so many."""
    slow: bool = False
    """Whether compiling it takes too long for the default tier."""


def images(size):
    return lambda batch: torch.randn(batch, 3, size, size)


def tokens(length, vocabulary):
    return lambda batch: torch.randint(0, vocabulary, (batch, length))


CASES = {
    "resnet18": Case(lambda: torchvision.models.resnet18(num_classes=10), images(64), True),
    "mobilenet_v3_small": Case(
        lambda: torchvision.models.mobilenet_v3_small(num_classes=10), images(64), True
    ),
    "efficientnet_b0": Case(
        lambda: torchvision.models.efficientnet_b0(num_classes=10), images(64), True
    ),
    "vit": Case(vision_transformer, images(32), True),
    "swin": Case(swin, images(64), True),
    "gpt": Case(GPT, tokens(16, 65)),
    "tied": Case(Tied, tokens(5, 17)),
    "lstm": Case(LanguageLSTM, tokens(12, 50)),
    "gru": Case(DeepGRU, lambda batch: torch.randn(7, batch, 8)),
    "unet": Case(UNet, images(16), True),
    "vae": Case(VAE, lambda batch: torch.rand(batch, 64)),
    "dcgan": Case(generator, lambda batch: torch.randn(batch, 16, 1, 1)),
    "encoder": Case(Encoder, lambda batch: torch.randn(batch, 10, 16)),
    "encoder, time first": Case(
        lambda: Encoder(False, True), lambda batch: torch.randn(10, batch, 16)
    ),
    "attention, weights": Case(Attention, lambda batch: torch.randn(batch, 6, 16)),
    "attention, fused": Case(lambda: Attention(False), lambda batch: torch.randn(batch, 6, 16)),
    "drops": Case(Drops, images(8)),
}
