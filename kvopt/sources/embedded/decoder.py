"""A small byte-level causal decoder that can show where it attends.

The model is deliberately ordinary: pre-norm blocks, rotary positions, one
key and one value vector per head, token and layer. What it adds over a
textbook decoder is that a decoding step can return its attention
probabilities, averaged over the heads, so that a run can be captured.

PyTorch is imported at the top of this module, so only code that trains or
captures may import it; it comes with the extra ``kvopt[capture]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

BYTES_PER_ELEMENT = 2
"""Bytes of one cached number when the cache is held in 16 bits."""


@dataclass(frozen=True)
class DecoderShape:
    """The sizes that define a decoder.

    Parameters
    ----------
    layers : int
        Number of blocks.
    heads : int
        Attention heads per block; keys and values have as many.
    width : int
        Width of the residual stream; a multiple of ``2 * heads``.
    vocabulary : int
        Number of token values; 256 for bytes.
    positions : int
        Longest sequence the rotary tables cover, in tokens.
    rotary_base : float
        Base of the geometric series of rotary wavelengths.

    Raises
    ------
    ValueError
        If the heads do not have an even, whole width.
    """

    layers: int = 6
    heads: int = 4
    width: int = 192
    vocabulary: int = 256
    positions: int = 2560
    rotary_base: float = 10_000.0

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of twice the {self.heads} heads")

    @property
    def head_width(self) -> int:
        """Width of one head's queries, keys and values."""
        return self.width // self.heads

    @property
    def kv_bytes(self) -> int:
        """Bytes of K and V for one token in one layer, in 16 bits."""
        return 2 * self.width * BYTES_PER_ELEMENT


@dataclass
class KVCache:
    """Keys and values of every layer, filled from the left.

    Parameters
    ----------
    keys, values : torch.Tensor
        Shape (layers, batch, heads, positions, head_width).
    length : int
        Tokens present, in every layer.
    """

    keys: Tensor
    values: Tensor
    length: int = 0

    @classmethod
    def empty(cls, shape: DecoderShape, batch: int = 1) -> KVCache:
        """Allocate a cache for ``shape.positions`` tokens.

        Parameters
        ----------
        shape : DecoderShape
            The decoder that will fill it.
        batch : int
            Number of sequences.

        Returns
        -------
        KVCache
            An empty cache.
        """
        size = (shape.layers, batch, shape.heads, shape.positions, shape.head_width)
        return cls(torch.zeros(size), torch.zeros(size))


def rotary_tables(shape: DecoderShape) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles.

    Parameters
    ----------
    shape : DecoderShape
        Gives the positions, the head width and the base.

    Returns
    -------
    tuple of torch.Tensor
        Two arrays of shape (positions, head_width / 2).
    """
    pairs = torch.arange(0, shape.head_width, 2, dtype=torch.float32)
    frequency = shape.rotary_base ** (-pairs / shape.head_width)
    angle = torch.outer(torch.arange(shape.positions, dtype=torch.float32), frequency)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of features by its position's angle.

    Parameters
    ----------
    x : torch.Tensor
        Queries or keys, shape (batch, heads, tokens, head_width).
    cos, sin : torch.Tensor
        Tables for these tokens, shape (tokens, head_width / 2).

    Returns
    -------
    torch.Tensor
        Same shape as `x`.
    """
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


class Block(nn.Module):
    """One pre-norm layer: attention, then a two-matrix feed-forward network.

    Parameters
    ----------
    shape : DecoderShape
        The decoder it belongs to.
    """

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.norm_attention = nn.RMSNorm(shape.width)
        self.norm_mlp = nn.RMSNorm(shape.width)
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.up = nn.Linear(shape.width, 4 * shape.width, bias=False)
        self.down = nn.Linear(4 * shape.width, shape.width, bias=False)

    def heads(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split normed input into rotated queries, rotated keys and values."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(self.norm_attention(x))
        qkv = qkv.view(batch, tokens, 3, self.shape.heads, self.shape.head_width)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        return rotate(query, cos, sin), rotate(key, cos, sin), value

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Add attention's output and the feed-forward network's to the stream."""
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.down(functional.gelu(self.up(self.norm_mlp(x)), approximate="tanh"))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Run the block over whole sequences, causally and without a cache."""
        query, key, value = self.heads(x, cos, sin)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.finish(x, mixed)


class Decoder(nn.Module):
    """The decoder: embedding, blocks, norm and an untied output matrix.

    Parameters
    ----------
    shape : DecoderShape
        Sizes of the model.
    """

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        cos, sin = rotary_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, Block):
            # Matrices that add to the residual stream start smaller, so that
            # its variance does not grow with depth.
            for matrix in (module.out, module.down):
                nn.init.normal_(matrix.weight, std=0.02 / (2 * self.shape.layers) ** 0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits for every position of whole sequences.

        Parameters
        ----------
        tokens : torch.Tensor
            int64, shape (batch, length), length at most ``shape.positions``.

        Returns
        -------
        torch.Tensor
            Shape (batch, length, vocabulary).
        """
        length = tokens.shape[1]
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, self.cos[:length], self.sin[:length])
        return self.head(self.norm(x))

    def step(self, tokens: Tensor, cache: KVCache) -> tuple[Tensor, Tensor]:
        """Append tokens to the cache and attend to all that it then holds.

        Parameters
        ----------
        tokens : torch.Tensor
            int64, shape (1, new): a whole prompt, or one decoded token.
        cache : KVCache
            Extended in place by `new` tokens.

        Returns
        -------
        logits : torch.Tensor
            For the token that follows the last one, shape (vocabulary,).
        attention : torch.Tensor
            The last token's attention probabilities, averaged over heads, shape
            (layers, present), where `present` counts the last token itself.

        Raises
        ------
        ValueError
            If the cache would hold more than ``shape.positions`` tokens.
        """
        start, stop = cache.length, cache.length + tokens.shape[1]
        if stop > self.shape.positions:
            raise ValueError(f"{stop} tokens exceed the {self.shape.positions} positions")
        # True where a new token (row) may attend to a present one (column).
        visible = torch.ones(stop - start, stop, dtype=torch.bool).tril(diagonal=start)
        x, rows = self.embed(tokens), []
        for layer, block in enumerate(self.blocks):
            query, key, value = block.heads(x, self.cos[start:stop], self.sin[start:stop])
            cache.keys[layer, :, :, start:stop] = key
            cache.values[layer, :, :, start:stop] = value
            scores = query @ cache.keys[layer, :, :, :stop].transpose(-1, -2)
            probability = (scores * self.shape.head_width**-0.5).masked_fill(~visible, -torch.inf).softmax(dim=-1)
            x = block.finish(x, probability @ cache.values[layer, :, :, :stop])
            rows.append(probability[0, :, -1].mean(dim=0))
        cache.length = stop
        return self.head(self.norm(x[:, -1]))[0], torch.stack(rows)
