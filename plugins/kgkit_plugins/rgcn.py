"""R-GCN: a convolution over the graph's relations, its vectors scored by DistMult (Schlichtkrull et al., ESWC 2018,
arXiv:1703.06103).

    Eq. 2   h_i' = sigma(sum_r sum_{j in N_i^r} 1 / c_{i,r} W_r h_j + W_0 h_i)
    Eq. 3   W_r = sum_b a_{rb} V_b                           basis decomposition
    Eq. 4   W_r = diag(Q_1r, ..., Q_Br)                      block-diagonal decomposition
    Eq. 6   f(h, r, t) = h^T R_r t, R_r diagonal
    Eq. 7   cross-entropy of sigmoid(f) over facts and omega negatives each (--loss bce)

N_i^r has the neighbours by training facts, and those by their inverses as relations of their own; h of the first layer
are learned vectors. c_{i,r} is |N_i^r| or, which the paper found best for link prediction (section 5.2), the number of
all of i's neighbours. sigma is ReLU, and nothing after the last layer, as in the authors' code. A training step leaves
out a share of the edges, before c is counted, and of the self-loops. Where the authors' code has a basis decomposition,
its first layer's vectors are one-hot, so that V_b has a row an entity, and inverse relations have a V_b of their own.

With omega negatives Eq. 7 weighs them omega times as much as facts; `bce` weighs both sides alike, as the authors' code
does, the same for the paper's omega = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kgkit.config import option
from kgkit.errors import ConfigError
from kgkit.hookspecs import hookimpl
from kgkit.lazy import torch
from kgkit.model import Model, Paper, Task
from kgkit.nn.either import rows
from kgkit.nn.layers import glorot
from kgkit.nn.similarity import Similarity
from kgkit.train.gradient_model import Parameters
from kgkit.train.kge_model import KGEConfig, KGEModel, normal

if TYPE_CHECKING:
    from kgkit.native.messages import Edges

# Section 5.2. All training facts in one step, so a batch is as large as the data. The steps are those of the authors'
# gcn_block.exp, 6,000 before it may stop early and a look every 2,000; that file samples 30,000 facts a step with 10
# negatives each, and has a limit of 1 to a gradient's length, for which there is no option here.
_PAPER = {
    "learning_rate": 0.01, "optimiser": "adam", "loss": "bce", "negatives": 1, "edge_dropout": 0.4, "loop_dropout": 0.2,
    "normalise": "entity", "l2": 0.01, "filtered": False, "epochs": 6000, "validate_every": 2000,
}  # fmt: skip
_BASIS = {**_PAPER, "dim": 200, "layers": 1, "decomposition": "basis", "bases": 2}
PUBLISHED = {
    "fb15k": {**_BASIS, "batch_size": 483_142},
    "wn18": {**_BASIS, "batch_size": 141_442},
    "fb15k-237": {
        **_PAPER, "dim": 500, "layers": 2, "decomposition": "block", "block_size": 5, "batch_size": 272_115,
    },
}  # fmt: skip


class RGCN(KGEModel):
    """The plugin."""

    name = "rgcn"
    task = Task.LINK_PREDICTION
    paper = Paper(
        "Schlichtkrull et al.",
        2018,
        "ESWC",
        "Modeling Relational Data with Graph Convolutional Networks",
        arxiv="1703.06103",
    )
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = PUBLISHED
    similarity: Similarity = "dot"
    whole = True

    @dataclass(frozen=True)
    class Config(KGEConfig):
        """Options of rgcn."""

        layers: int = option(1, "layers: how many hops an entity hears", ge=1)
        decomposition: str = option("basis", "what W_r is made of (Eq. 3, Eq. 4)", choices=("basis", "block"))
        bases: int = option(2, "basis: how many matrices V_b the relations share", ge=1)
        block_size: int = option(5, "block: rows and columns of a block Q_br", ge=1)
        normalise: str = option(
            "entity",
            "c of Eq. 2 counts an entity's neighbours by this relation, or all",
            choices=("relation", "entity"),
        )
        edge_dropout: float = option(0.4, "share of the edges left out of a step", ge=0, lt=1)
        loop_dropout: float = option(0.2, "share of the self-loops left out of a step", ge=0, lt=1)
        l2: float = option(
            0.01, "weight of the mean squares of a fact's vectors in the decoder (section 5.2)", ge=0
        )
        batch_size: int = option(10_000, "facts a step", ge=1)
        learning_rate: float = option(0.01, "learning rate eta of the optimiser", gt=0)
        loss: str = option("bce", "loss", choices=("margin", "softplus", "bce", "cross-entropy"))

    config: Config
    edges: Edges
    group: torch.Tensor  # int64 [E], which edges count towards the same c

    # -- encoder -------------------------------------------------------------------------------------------------
    def encode(self, p: Parameters) -> Parameters:
        """Eq. 2, layer by layer, over all entities: `entity` becomes the last layer's [N, d]."""
        h, weight = p["entity"], self.edge_weights()
        for layer in range(self.config.layers):
            h = self.messages(p, layer, h, weight) + self.self_loop(p, layer, h)
            if layer < self.config.layers - 1:
                h = torch.relu(h)
        return {**p, "entity": h}

    def edge_weights(self) -> torch.Tensor:
        """1 / c_{i,r} of every edge, float32 [E]; in training 0 for those left out."""
        keep = torch.ones(len(self.edges), device=self.device)
        if self.training and self.config.edge_dropout:
            keep = (torch.rand_like(keep) >= self.config.edge_dropout).float()
        count = torch.bincount(self.group, keep)[self.group]
        return keep / count.clamp_min(1).float()

    def messages(self, p: Parameters, layer: int, h: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The double sum of Eq. 2, [N, d] -> [N, d].

        Basis: sum_b V_b (sum_e a_{rb} h_j / c), so neighbours are summed before the one product with all V_b.
        """
        from kgkit.native.messages import basis_messages, block_messages

        fused = self.config.fused
        if self.config.decomposition == "block":
            return block_messages(h, p[f"blocks_{layer}"], weight, self.edges, fused)
        heard = basis_messages(h, p[f"coefficients_{layer}"], weight, self.edges, fused)
        return heard.flatten(1) @ p[f"bases_{layer}"].flatten(0, 1)

    def self_loop(self, p: Parameters, layer: int, h: torch.Tensor) -> torch.Tensor:
        """W_0 h_i, [N, d] -> [N, d]; in training 0 for entities whose self-loop is left out, the others made up for it."""
        own = h @ p[f"loop_{layer}"]
        if self.training and self.config.loop_dropout:
            keep = torch.nn.functional.dropout(own.new_ones(len(own), 1), self.config.loop_dropout)
            return own * keep
        return own

    # -- decoder -------------------------------------------------------------------------------------------------
    def tail_query(self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """h * R_r, so that its product with t is Eq. 6."""
        return rows(p["entity"], heads) * rows(p["relation"], relations)

    def head_query(self, p: Parameters, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        """R_r * t; with reciprocal relations, of the second relation."""
        if self.config.reciprocal:
            return super().head_query(p, relations, tails)
        return self.tail_query(p, tails, relations)

    # -- tables --------------------------------------------------------------------------------------------------
    def setup(self, generator: torch.Generator) -> None:
        from kgkit.native.messages import make_edges

        c, facts = self.config, self.split.train
        if c.decomposition == "block" and c.dim % c.block_size:
            raise ConfigError(f"--dim {c.dim} is not a multiple of --block-size {c.block_size}")
        super().setup(generator)
        h, r, t = (torch.from_numpy(x).to(self.device) for x in (facts.head, facts.relation, facts.tail))
        n, relations = self.split.entities, 2 * self.split.relations
        both = torch.cat([r, r + self.split.relations])
        self.edges = make_edges(torch.cat([h, t]), both, torch.cat([t, h]), n, relations)
        target = self.edges.target.long()
        by = target if c.normalise == "entity" else target * relations + self.edges.relation
        self.group = torch.unique_consecutive(by, return_inverse=True)[1]

    def init(self, generator: torch.Generator) -> Parameters:
        c, d = self.config, self.config.dim
        relations = 2 * self.split.relations
        p = {
            "entity": normal(self.split.entities, d, d**-0.5, generator),
            "relation": normal(self.relation_rows, d, 1.0, generator),
        }
        for layer in range(c.layers):
            p[f"loop_{layer}"] = glorot(d, d, generator)
            if c.decomposition == "basis":
                p[f"coefficients_{layer}"] = normal(relations, c.bases, c.bases**-0.5, generator)
                p[f"bases_{layer}"] = torch.stack([glorot(d, d, generator) for _ in range(c.bases)])
            else:
                s = c.block_size
                blocks = normal(relations * d, s, s**-0.5, generator)  # Glorot's variance of s x s matrices
                p[f"blocks_{layer}"] = blocks.view(relations, d // s, s, s)
        return p


@hookimpl
def register_models() -> list[type[Model]]:
    """This file's models."""
    return [RGCN]
