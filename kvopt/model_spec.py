"""Language models as far as memory sees them: bytes of KV cache and of weights, by layer.

Specs are TOML files, shipped or the user's own. The schema, one file a model::

    name = "mine"
    description = "What it is"      # Optional.
    source = "Where the numbers of this table come from"
    layers = 32
    hidden_size = 4096
    attention_heads = 32
    kv_heads = 8                    # Not with [latent].
    head_size = 128
    vocabulary = 128256
    intermediate_size = 14336       # Of the MLP of a dense layer.
    mlp_matrices = 3                # Optional: 3 is gated, 2 is not.
    tied_embeddings = false         # Optional: whether the output head is the input embedding.
    positions = 0                   # Optional: learnt position embeddings.

    [bits]                          # Defaults, in bits a number.
    weights = 16
    kv = 16
    source = "..."

    [moe]                           # Optional: a mixture of experts.
    experts = 8
    active_experts = 2              # Of these, by token.
    intermediate_size = 14336       # Of one expert.
    shared_experts = 0              # Optional: read for every token, of the same size.
    dense_layers = 0                # Optional: first layers with a dense MLP instead.
    source = "..."

    [latent]                        # Optional: one compressed vector a token instead of keys and values by head.
    kv_size = 512
    rope_size = 64                  # Its part that carries the position.
    query_size = 1536
    source = "..."
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kvopt.arguments import expect, real, whole
from kvopt.errors import ModelError, shown
from kvopt.spec_io import Table, is_path, read, shipped

_KEYS = (
    "name",
    "description",
    "source",
    "layers",
    "hidden_size",
    "attention_heads",
    "kv_heads",
    "head_size",
    "vocabulary",
    "intermediate_size",
    "mlp_matrices",
    "tied_embeddings",
    "positions",
    "bits",
    "moe",
    "latent",
)
_MOST_BITS = 1024
_MOE_KEYS = ("experts", "active_experts", "intermediate_size", "shared_experts", "dense_layers", "source")
_LATENT_KEYS = ("kv_size", "rope_size", "query_size", "source")


def names() -> list[str]:
    """The names :meth:`ModelSpec.preset` takes."""
    return list(shipped("models"))


@dataclass(frozen=True)
class Moe:
    """A mixture of experts: each token is routed to ``active_experts`` of ``experts`` MLPs.

    Parameters
    ----------
    experts, active_experts : int
        By layer, shared ones not counted.
    intermediate_size : int
        Of one expert, shared or not.
    shared_experts : int
        Experts that every token uses.
    dense_layers : int
        First layers that have a dense MLP instead.
    source : str

    Raises
    ------
    ModelError
        When more experts are active than there are.
    """

    experts: int
    active_experts: int
    intermediate_size: int
    shared_experts: int = 0
    dense_layers: int = 0
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        _check_counts(self, ("experts", "active_experts", "intermediate_size"), "moe: ")
        _check_counts(self, ("shared_experts", "dense_layers"), "moe: ", least=0)
        if not 1 <= self.active_experts <= self.experts:
            raise ModelError(
                "moe: active_experts",
                f"{self.active_experts} of {self.experts} experts cannot be active",
                "Give 1 to as many as there are",
            )

    def expected_experts(self, batch: int) -> float:
        """Expected number of distinct routed experts that a batch of tokens reads in one layer.

        Tokens choose independently, every set of k out of E experts being as likely:
        E (1 - (1 - k / E)^batch). Trained routers are less even, and read fewer.
        """
        return self.experts * (1 - (1 - self.active_experts / self.experts) ** batch)


@dataclass(frozen=True)
class Latent:
    """Latent attention: keys and values of all heads are one compressed vector and a rotary part, by token and layer.

    Parameters
    ----------
    kv_size, rope_size : int
        Numbers cached by token and layer are their sum.
    query_size : int
        Rank of the query's projection.
    source : str
    """

    kv_size: int
    rope_size: int
    query_size: int
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        _check_counts(self, ("kv_size", "rope_size", "query_size"), "latent: ")


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only transformer's sizes.

    Parameter counts are of the matrices; norms and biases, below 0.1 %, are left out.

    Parameters
    ----------
    name : str
    layers, hidden_size, attention_heads, head_size, vocabulary, intermediate_size : int
    kv_heads : int or None
        None with ``latent`` alone.
    mlp_matrices : int
        3 for a gated MLP, 2 for one that is not.
    tied_embeddings : bool
        Whether the output head is the input embedding.
    positions : int
        Learnt position embeddings.
    weight_bits, kv_bits : int
        Defaults, in bits a number.
    moe : Moe, optional
    latent : Latent, optional
    description, source, bits_source : str

    Raises
    ------
    ModelError
        On a size below 1, no KV heads without latent attention, query heads that KV heads do not divide, more dense
        layers than layers, or a number of MLP matrices other than 2 and 3.
    """

    name: str
    layers: int
    hidden_size: int
    attention_heads: int
    head_size: int
    vocabulary: int
    intermediate_size: int
    kv_heads: int | None = None
    mlp_matrices: int = 3
    tied_embeddings: bool = False
    positions: int = 0
    weight_bits: int = 16
    kv_bits: int = 16
    moe: Moe | None = None
    latent: Latent | None = None
    description: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    bits_source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for key in ("name", "description", "source", "bits_source"):
            expect(str, key, getattr(self, key), "Give a text", ModelError)
        _check_counts(self, ("layers", "hidden_size", "attention_heads", "head_size", "vocabulary"))
        _check_counts(self, ("intermediate_size", "mlp_matrices", "weight_bits", "kv_bits"))
        _check_counts(self, ("positions",), least=0)
        if self.kv_heads is not None:
            _check_counts(self, ("kv_heads",), least=0)
        expect(bool, "tied_embeddings", self.tied_embeddings, "Give True or False", ModelError)
        expect((Moe, type(None)), "moe", self.moe, "Give a Moe, or None for a dense model", ModelError)
        expect((Latent, type(None)), "latent", self.latent, "Give a Latent, or None for attention by heads", ModelError)
        if self.mlp_matrices not in (2, 3):
            raise ModelError(
                "mlp_matrices", f"must be 2 or 3, got {shown(self.mlp_matrices)}", "Give 3 for a gated MLP"
            )
        if self.moe is not None and self.moe.dense_layers > self.layers:
            raise ModelError(
                "moe: dense_layers", f"{self.moe.dense_layers} of {self.layers} layers", "Give at most all layers"
            )
        self._check_heads()

    def _check_heads(self) -> None:
        if self.latent is not None:
            if self.kv_heads is not None:
                raise ModelError("kv_heads", "a model with [latent] has none", "Leave one of the two out")
        elif self.kv_heads is None:
            raise ModelError("kv_heads", "is missing", "Give the number of KV heads, or a table [latent]")
        elif self.kv_heads < 1 or self.attention_heads % self.kv_heads:
            raise ModelError(
                "kv_heads",
                f"{self.kv_heads} does not divide the {self.attention_heads} attention heads",
                "Give the number of key-value heads, for example 8",
            )

    @staticmethod
    def preset(name: str | Path) -> ModelSpec:
        """A named model, or the one in a file when the name ends in ``.toml``; :func:`names` lists the names.

        Raises
        ------
        ModelError
            When there is none of that name, or the file breaks the schema.
        """
        expect((str, Path), "model", name, "Give the name of a preset or the path of a .toml file", ModelError)
        if is_path(name):
            return ModelSpec.from_toml(name)
        files = shipped("models")
        if name not in files:
            raise ModelError(
                "model",
                f"there is no preset {shown(name)}",
                f"Choose one of: {', '.join(files)}; or give the path of a .toml file",
            )
        return ModelSpec.from_toml(files[name])

    @staticmethod
    def from_toml(path: str | Path) -> ModelSpec:
        """The model that a file describes; the module documents the schema.

        Raises
        ------
        ModelError
            When the file cannot be read or breaks the schema; the message names file and key.
        """
        spec = read(path, ModelError)
        spec.allow(_KEYS)
        try:
            return _model(spec)
        except ModelError as wrong:
            if wrong.field.startswith(str(path)):
                raise
            raise ModelError(f"{path}: {wrong.field}", wrong.problem, wrong.fix) from None

    @property
    def parameters(self) -> int:
        """Number of weights in the whole model."""
        embeddings = self.vocabulary * self.hidden_size * (1 if self.tied_embeddings else 2)
        return embeddings + self.positions * self.hidden_size + self._layer_parameters

    def kv_bytes_per_token_layer(self, kv_bits: int | None = None) -> int:
        """Bytes of KV cache by token and layer.

        Parameters
        ----------
        kv_bits : int, optional
            Bits a number; the model's default unless given.

        Raises
        ------
        ModelError
            When that is no whole number of bytes.
        """
        bits = _bits("kv_bits", self.kv_bits if kv_bits is None else kv_bits)
        if self.latent is not None:
            numbers = self.latent.kv_size + self.latent.rope_size
        else:
            numbers = 2 * self.kv_heads * self.head_size
        size, rest = divmod(numbers * bits, 8)
        if rest:
            raise ModelError("kv_bits", f"{numbers} numbers of {bits} bits are no whole bytes", "Give 4, 8 or 16")
        return int(size)

    def weight_bytes(self, weight_bits: float | None = None) -> float:
        """Bytes of all weights, embeddings included.

        Parameters
        ----------
        weight_bits : float, optional
            Bits a number, scales included; the model's default unless given.
        """
        return self.parameters * self._weight_bytes_each(weight_bits)

    def weight_bytes_per_layer(self, weight_bits: float | None = None) -> float:
        """Bytes of a mean layer's weights: dense and expert layers differ, their mean times ``layers`` is exact."""
        return self._layer_parameters / self.layers * self._weight_bytes_each(weight_bits)

    def weight_bytes_read_per_layer(self, batch: int = 1, weight_bits: float | None = None) -> float:
        """Expected bytes of weights that a mean layer reads in one decode step.

        What all tokens use is read once whatever the batch; of the experts, those that some token was routed to
        (:meth:`Moe.expected_experts`).

        Parameters
        ----------
        batch : int
            Tokens that decode together, one a sequence.
        weight_bits : float, optional
            Bits a number, scales included; the model's default unless given.
        """
        batch = whole("batch", batch, "Give the number of sequences", ModelError)
        experts = self.moe.expected_experts(batch) if self.moe else 0
        return self._parameters_with(experts) / self.layers * self._weight_bytes_each(weight_bits)

    def _weight_bytes_each(self, weight_bits: float | None) -> float:
        return _bits("weight_bits", self.weight_bits if weight_bits is None else weight_bits) / 8

    @property
    def _layer_parameters(self) -> int:
        return int(self._parameters_with(self.moe.experts if self.moe else 0))

    def _parameters_with(self, experts: float) -> float:
        """Weights in all layers, with so many routed experts in each layer that has any."""
        dense_mlp = self.mlp_matrices * self.hidden_size * self.intermediate_size
        total = self.layers * self._attention_parameters
        if self.moe is None:
            return total + self.layers * dense_mlp
        expert = self.mlp_matrices * self.hidden_size * self.moe.intermediate_size
        router = self.hidden_size * self.moe.experts
        sparse = self.layers - self.moe.dense_layers
        return (
            total + self.moe.dense_layers * dense_mlp + sparse * (router + (experts + self.moe.shared_experts) * expert)
        )

    @property
    def _attention_parameters(self) -> int:
        """Weights of one layer's attention; heads together may be wider than the model."""
        heads = self.attention_heads * self.head_size
        if self.latent is None:
            return 2 * self.hidden_size * (heads + self.kv_heads * self.head_size)
        latent, rope = self.latent, self.attention_heads * self.latent.rope_size
        down = self.hidden_size * (latent.query_size + latent.kv_size + latent.rope_size)
        up = latent.query_size * (heads + rope) + latent.kv_size * 2 * heads
        return down + up + heads * self.hidden_size


def _bits(field_name: str, bits: float) -> float:
    return real(field_name, bits, "Give bits a number, for example 16", ModelError, above=0, most=_MOST_BITS)


def _check_counts(owner: object, names: tuple[str, ...], where: str = "", least: int = 1) -> None:
    """Store whole numbers of any class as int, and refuse all else."""
    for name in names:
        value = whole(where + name, getattr(owner, name), "Give a whole number", ModelError, least=least)
        object.__setattr__(owner, name, value)


def _model(spec: Table) -> ModelSpec:
    bits = spec.table("bits")
    bits.allow(("weights", "kv", "source"))
    return ModelSpec(
        name=spec.text("name"),
        description=spec.text("description", ""),
        source=spec.text("source"),
        layers=spec.whole("layers"),
        hidden_size=spec.whole("hidden_size"),
        attention_heads=spec.whole("attention_heads"),
        kv_heads=spec.whole("kv_heads") if "kv_heads" in spec else None,
        head_size=spec.whole("head_size"),
        vocabulary=spec.whole("vocabulary"),
        intermediate_size=spec.whole("intermediate_size"),
        mlp_matrices=spec.whole("mlp_matrices", 3),
        tied_embeddings=spec.flag("tied_embeddings", False),
        positions=spec.whole("positions", 0, least=0),
        weight_bits=bits.whole("weights", most=64),
        kv_bits=bits.whole("kv", most=64),
        bits_source=bits.text("source"),
        moe=_moe(spec.table("moe")) if "moe" in spec else None,
        latent=_latent(spec.table("latent")) if "latent" in spec else None,
    )


def _moe(table: Table) -> Moe:
    table.allow(_MOE_KEYS)
    return Moe(
        experts=table.whole("experts"),
        active_experts=table.whole("active_experts"),
        intermediate_size=table.whole("intermediate_size"),
        shared_experts=table.whole("shared_experts", 0, least=0),
        dense_layers=table.whole("dense_layers", 0, least=0),
        source=table.text("source"),
    )


def _latent(table: Table) -> Latent:
    table.allow(_LATENT_KEYS)
    return Latent(
        kv_size=table.whole("kv_size"),
        rope_size=table.whole("rope_size"),
        query_size=table.whole("query_size"),
        source=table.text("source"),
    )
