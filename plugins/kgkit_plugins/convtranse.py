"""Conv-TransE: a convolution along head and relation, side by side (Shang et al., AAAI 2019, SACN, arXiv:1811.04441).

    Eq. 6   m_c(n) = sum_i w_c(i, 0) h(n + i) + w_c(i, 1) r(n + i)    of filter c, padded with zeros: m_c has d numbers
    Eq. 7   psi(h, t) = f(vec(M) W) t                                 M = [m_1; ...; m_C]; f is ReLU
    Eq. 8   p = sigmoid(psi), trained as ConvE's

Unlike ConvE, h and r are not made into images, so that what a filter of width 1 sees is a sum of the same coordinate of
both: TransE's translation is among what it can learn. This is SACN's decoder on embeddings of its own, which the paper
reports as Conv-TransE; batch norms and dropouts as in the authors' code, less the batch norm that it puts over the whole
entity table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from kgkit.config import option
from kgkit.errors import ConfigError
from kgkit.hookspecs import hookimpl
from kgkit.lazy import torch
from kgkit.model import Model, Paper, Task
from kgkit.nn.either import convolved, relu
from kgkit.nn.layers import batch_norm, dropout, fan_in
from kgkit.train.conv_query_model import ConvQueryConfig, ConvQueryModel
from kgkit.train.gradient_model import Parameters

# Section "Experimental Setup": d, filters, dropout, rate; Table 4: of widths 1, 3 and 5, 3 does best on FB15k-237. The
# batch, smoothing, epochs, and no dropout on the input, are the authors' code's (global_config.py). Their README trains
# on FB15k-237 with 100 dimensions, 50 filters, dropout 0.4 and rate 0.001.
_PAPER = {
    "dim": 200, "width": 3, "input_dropout": 0.0, "feature_dropout": 0.2, "hidden_dropout": 0.2, "learning_rate": 0.003,
    "batch_size": 128, "smoothing": 0.1, "optimiser": "adam", "training": "k-vs-all", "loss": "bce", "reciprocal": True,
    "epochs": 1000,
}  # fmt: skip
PUBLISHED = {"fb15k-237": {**_PAPER, "filters": 100}, "wn18rr": {**_PAPER, "filters": 300}}


class ConvTransE(ConvQueryModel):
    """The plugin."""

    name = "convtranse"
    task = Task.LINK_PREDICTION
    paper = Paper(
        "Shang et al.",
        2019,
        "AAAI",
        "End-to-end Structure-Aware Convolutional Networks for Knowledge Base Completion",
        "1811.04441",
    )
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = PUBLISHED

    @dataclass(frozen=True)
    class Config(ConvQueryConfig):
        """Options of convtranse."""

        filters: int = option(300, "filters C of the convolution", ge=1)
        width: int = option(3, "coordinates of h and r that a filter sees; odd", ge=1)
        input_dropout: float = option(0.0, "share of the convolution's input set to zero", ge=0, lt=1)
        hidden_dropout: float = option(0.2, "share of the projection's entries set to zero", ge=0, lt=1)
        learning_rate: float = option(3e-3, "learning rate eta of the optimiser", gt=0)

    config: Config

    def setup(self, generator: torch.Generator) -> None:
        if self.config.width % 2 == 0:
            raise ConfigError(f"--width {self.config.width} must be odd, so that a feature map has d numbers")
        super().setup(generator)

    def feature_count(self) -> int:
        return self.config.filters * self.config.dim

    def init(self, generator: torch.Generator) -> Parameters:
        c = self.config
        return {
            **self.tables_of(2, c.filters, generator),
            "filters": fan_in((c.filters, 2, c.width), 2 * c.width, generator),
            "filters_bias": fan_in((c.filters,), 2 * c.width, generator),
        }

    def feature_maps(self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """M, normalised and through f: [B] and [B] -> [B, C, d]."""
        c = self.config
        both = batch_norm(p, "input", self.side_by_side(p, heads, relations), self.training)
        both = dropout(both, c.input_dropout, self.training)
        maps = convolved(both, p["filters"], p["filters_bias"], padding=c.width // 2)
        maps = relu(batch_norm(p, "maps", maps, self.training))
        return dropout(maps, c.feature_dropout, self.training)


@hookimpl
def register_models() -> list[type[Model]]:
    """This file's models."""
    return [ConvTransE]
