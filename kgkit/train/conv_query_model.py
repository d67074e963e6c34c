"""The base of ConvE and Conv-TransE: options, and all of their query but the convolution itself."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgkit.config import option
from kgkit.nn.either import join, linear, relu, rows
from kgkit.nn.layers import batch_norm, batch_norm_parameters, dropout, fan_in, glorot
from kgkit.train.kge_model import TRAININGS, KGEConfig, KGEModel
from kgkit.train.losses import ALL

if TYPE_CHECKING:
    import torch

    from kgkit.nn.similarity import Similarity
    from kgkit.train.gradient_model import Parameters

_MOST = 1 << 23  # numbers of feature maps at a time, outside training


@dataclass(frozen=True)
class ConvQueryConfig(KGEConfig):
    """Options of both; the defaults are those that their papers share."""

    dim: int = option(200, "embedding size d", ge=1)
    input_dropout: float = option(0.2, "share of the convolution's input set to zero", ge=0, lt=1)
    feature_dropout: float = option(0.2, "share of the feature maps set to zero", ge=0, lt=1)
    hidden_dropout: float = option(0.3, "share of the projection's entries set to zero", ge=0, lt=1)
    batch_size: int = option(128, "facts a step; of k-vs-all, distinct queries", ge=1)
    training: str = option("k-vs-all", "what a query is compared with", choices=TRAININGS)
    loss: str = option("bce", "loss", choices=tuple(ALL))
    smoothing: float = option(0.1, "label smoothing of bce and cross-entropy", ge=0, lt=1)
    reciprocal: bool = option(True, "a second relation for each, from tail to head, answers (?, r, t)")


class ConvQueryModel(KGEModel):
    """A model whose query is f(vec(feature maps of h and r) W), with ReLU as f, and whose score is its product with t.

    Batch norms and dropouts stand where ConvE's authors put them: on the input, the feature maps and the projection.
    """

    config: ConvQueryConfig
    similarity: Similarity = "dot"

    @abstractmethod
    def feature_count(self) -> int:
        """How many numbers the feature maps of one query have."""

    @abstractmethod
    def feature_maps(self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """The convolution, through f: int64 [B] each -> [B, C, ...]."""

    def tables_of(self, channels: int, filters: int, generator: torch.Generator) -> Parameters:
        """Initial tables and projection, and batch norms of so many input channels and filters."""
        d, features = self.config.dim, self.feature_count()
        return {
            "entity": glorot(self.split.entities, d, generator),
            "relation": glorot(self.relation_rows, d, generator),
            "projection": fan_in((d, features), features, generator),
            "projection_bias": fan_in((d,), features, generator),
            **batch_norm_parameters("input", channels),
            **batch_norm_parameters("maps", filters),
            **batch_norm_parameters("hidden", d),
        }

    def tail_query(self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """All that comes before the product with t: int64 [B] each -> [B, d]."""
        if self.training:
            return self.project(p, self.feature_maps(p, heads, relations))
        # A query's feature maps are large, and evaluation asks them all at once.
        b = max(1, _MOST // self.feature_count())
        parts = (slice(i, i + b) for i in range(0, len(heads), b))
        return join(
            *(self.project(p, self.feature_maps(p, heads[at], relations[at])) for at in parts), axis=0
        )

    def side_by_side(self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """h and r, beside each other: int64 [B] each -> [B, 2, d]."""
        # Against all entities the table's gradient is dense already, and a sparse one is added in place: no second
        # table is filled with zeros for the few rows of the heads.
        sparse = self.training and self.config.training != "sampled"
        h = rows(p["entity"], heads, sparse=sparse)
        return join(h[:, None], p["relation"][relations][:, None], axis=1)

    def project(self, p: Parameters, maps: torch.Tensor) -> torch.Tensor:
        """f(vec(maps) W): [B, C, ...] -> [B, d]."""
        hidden = linear(maps.reshape(len(maps), -1), p["projection"], p["projection_bias"])
        hidden = dropout(hidden, self.config.hidden_dropout, self.training)
        return relu(batch_norm(p, "hidden", hidden, self.training))
