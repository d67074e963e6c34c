"""The knowledge-graph convolution of KGCN (arXiv 1904.12575) and KGNN-LS (arXiv 1905.04413), as functions.

Equation numbers are KGCN's; the relations to KGNN-LS: its s_u(r) is Eq. 1, one layer of its Eq. 1 is Eq. 2 to 4.
Shapes: B pairs, K sampled neighbours, d dimensions, H hops, N entities; at hop h a pair sees K^h entities.
Two arithmetics. `paper`: inner products and weighted sums. `authors` (what the published numbers were measured
with): Eq. 1 divided by d, Eq. 2 divided by K, for their code takes means where the paper writes sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from kgkit.lazy import np, torch

if TYPE_CHECKING:
    from kgkit.arrays import Floats, Ints
    from kgkit.graph import Neighbours

Parameters = dict[
    str, "torch.Tensor"
]  # user [users, d], entity [N, d], relation [R, d], weight [H, in, d], bias [H, d]
Aggregator = Literal["sum", "concat", "neighbor", "avg"]
Arithmetic = Literal["paper", "authors"]

AGGREGATORS = ("sum", "concat", "neighbor", "avg")
ARITHMETICS = ("paper", "authors")
UNKNOWN = 0.5  # the label of whatever the training pairs say nothing about (KGNN-LS)
LABEL_MARGIN = 1e-4


@dataclass(frozen=True)
class Convolution:
    """What fixes the arithmetic: H, how a node and its neighbourhood are joined, sums or means."""

    hops: int
    aggregator: Aggregator = "sum"
    arithmetic: Arithmetic = "paper"

    def inputs(self, dim: int) -> int:
        """Rows of a weight matrix: concatenation doubles them."""
        return 2 * dim if self.aggregator == "concat" else dim


# --- Sampled neighbourhoods (KGCN, section 3.2) ---------------------------------------------------------------------


@dataclass(frozen=True)
class Sampled:
    """S(e), K neighbours for every entity, fixed for a run.

    entity, relation: int64 [N, K]; an entity without neighbours stands for all of its own. linked: float32 [N], 0 for
    those, so that their neighbourhood is the zero vector (the authors' code gives them entity 0 and relation 0).
    """

    entity: torch.Tensor
    relation: torch.Tensor
    linked: torch.Tensor

    def to(self, device: torch.device) -> Sampled:
        return Sampled(self.entity.to(device), self.relation.to(device), self.linked.to(device))


def sample_neighbours(graph: Neighbours, k: int, generator: torch.Generator) -> Sampled:
    """Uniformly K per entity: without replacement where there are K or more, else with (footnote 3)."""
    degree = np.diff(graph.start)
    n, edges = len(degree), len(graph.entity)
    # Each node's edges in random order: the first K are a sample without replacement.
    shuffle = torch.rand(edges, generator=generator, dtype=torch.float64).numpy()
    order = np.lexsort((shuffle, np.repeat(np.arange(n), degree)))
    draw = torch.rand((n, k), generator=generator, dtype=torch.float64).numpy()
    anywhere = (draw * degree[:, None]).astype(np.int64)  # < degree, for draw < 1
    place = np.where(degree[:, None] >= k, np.arange(k), anywhere)
    linked = degree > 0
    entity = np.repeat(np.arange(n)[:, None], k, axis=1)
    relation = np.zeros((n, k), dtype=np.int64)
    chosen = order[(graph.start[:-1, None] + place)[linked]]
    entity[linked], relation[linked] = graph.entity[chosen], graph.relation[chosen]
    return Sampled(
        torch.from_numpy(entity), torch.from_numpy(relation), torch.from_numpy(linked.astype(np.float32))
    )


@dataclass(frozen=True)
class Field:
    """The receptive field of B items: M of Algorithm 1 as a tree, children in order of their parents.

    entities: H + 1 of int64 [B, K^h]; relations: H of int64 [B, K^h, K], those on the edges below hop h;
    linked: H of float32 [B, K^h].
    """

    entities: list[torch.Tensor]
    relations: list[torch.Tensor]
    linked: list[torch.Tensor]


def receptive_field(sampled: Sampled, entities: torch.Tensor, hops: int) -> Field:
    """Algorithm 1, lines 13-19. entities: int64 [B]."""
    field = Field([entities[:, None]], [], [])
    for _ in range(hops):
        level = field.entities[-1]
        field.relations.append(sampled.relation[level])
        field.linked.append(sampled.linked[level])
        field.entities.append(sampled.entity[level].flatten(1))
    return field


# --- Equations ------------------------------------------------------------------------------------------------------


def user_relation_scores(user: torch.Tensor, relation: torch.Tensor, arithmetic: Arithmetic) -> torch.Tensor:
    """KGCN Eq. 1, g the inner product. user: [B, d]; relation: [B, n, K, d] -> [B, n, K]."""
    scores = torch.einsum("bd,bnkd->bnk", user, relation)
    return scores / user.shape[-1] if arithmetic == "authors" else scores


def normalised(scores: torch.Tensor) -> torch.Tensor:
    """KGCN Eq. 3, softmax over the sampled neighbours. [..., K] -> [..., K]."""
    return torch.softmax(scores, dim=-1)


def neighbourhood(weights: torch.Tensor, vectors: torch.Tensor, arithmetic: Arithmetic) -> torch.Tensor:
    """KGCN Eq. 2. weights: [B, n, K]; vectors: [B, n, K, d] -> [B, n, d]."""
    total = (weights.unsqueeze(-1) * vectors).sum(-2)
    return total / weights.shape[-1] if arithmetic == "authors" else total


def aggregate(
    aggregator: Aggregator,
    own: torch.Tensor,
    near: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    last: bool,
) -> torch.Tensor:
    """KGCN Eq. 4, 5, 6; sigma is tanh in the last iteration and ReLU before. own, near: [..., d] -> [..., d]."""
    match aggregator:
        case "concat":
            joined = torch.cat([own, near], dim=-1)  # Eq. 5
        case "neighbor":
            joined = near  # Eq. 6
        case _:
            joined = own + near  # Eq. 4, and its ablation without user-relation scores
    linear = joined @ weight + bias
    return torch.tanh(linear) if last else torch.relu(linear)


def predict(user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
    """KGCN Eq. 7 before the sigmoid, f the inner product. [..., d], [..., d] -> [...]."""
    return (user * item).sum(-1)


def edge_weights(
    p: Parameters, user: torch.Tensor, relations: torch.Tensor, linked: torch.Tensor, conv: Convolution
) -> torch.Tensor:
    """Eq. 1 and 3 for edges. user: [B, d]; relations: int64 [B, n, K]; linked: [B, n] -> [B, n, K]."""
    if (
        conv.aggregator == "avg"
    ):  # KGCN-avg (section 4.4): the plain mean of the neighbours in either arithmetic
        share = 1.0 if conv.arithmetic == "authors" else 1.0 / relations.shape[-1]
        weights = torch.full(relations.shape, share, device=user.device)
    else:
        scores = user_relation_scores(user, p["relation"][relations], conv.arithmetic)
        weights = normalised(scores)
    return weights * linked.unsqueeze(-1)


def field_weights(p: Parameters, user: torch.Tensor, field: Field, conv: Convolution) -> list[torch.Tensor]:
    """Edge weights of a receptive field: H of [B, K^h, K]."""
    return [edge_weights(p, user, r, n, conv) for r, n in zip(field.relations, field.linked, strict=True)]


def represent(p: Parameters, field: Field, weights: list[torch.Tensor], conv: Convolution) -> torch.Tensor:
    """v^u, the H-order representation of the items: Algorithm 1, lines 4-9 -> [B, d]."""
    vectors = [p["entity"][level] for level in field.entities]
    for i in range(conv.hops):
        nearby = [v.view(*w.shape, -1) for v, w in zip(vectors[1:], weights, strict=False)]
        vectors = [
            aggregate(
                conv.aggregator,
                vectors[hop],
                neighbourhood(weights[hop], nearby[hop], conv.arithmetic),
                p["weight"][i],
                p["bias"][i],
                last=i == conv.hops - 1,
            )
            for hop in range(conv.hops - i)
        ]
    return vectors[0][:, 0]


def squared_norm(p: Parameters) -> torch.Tensor:
    """The L2 term of KGCN Eq. 8 over whole tables and weight matrices, without biases -> scalar.

    Half the squared norm, as the authors' code has it: their lambda is twice the lambda that the equation shows.
    """
    return (
        torch.stack([p[name].square().sum() for name in ("user", "entity", "relation", "weight")]).sum() / 2
    )


def initial(
    users: int, entities: int, relations: int, dim: int, conv: Convolution, generator: torch.Generator
) -> Parameters:
    """Glorot-uniform tables (over their whole shape, as the authors' code) and weights; zero biases."""

    def glorot(*shape: int) -> torch.Tensor:
        bound = (6.0 / (shape[-2] + shape[-1])) ** 0.5
        return torch.empty(shape).uniform_(-bound, bound, generator=generator)

    return {
        "user": glorot(users, dim),
        "entity": glorot(entities, dim),
        "relation": glorot(relations, dim),
        "weight": glorot(conv.hops, conv.inputs(dim), dim),
        "bias": torch.zeros(conv.hops, dim),
    }


# --- All items of a user ----------------------------------------------------------------------------------------------


def score_items(
    p: Parameters,
    sampled: Sampled,
    item_entity: torch.Tensor,
    users: torch.Tensor,
    conv: Convolution,
    floats: int = 1 << 26,
) -> torch.Tensor:
    """Eq. 7 of every item for B users: [B, items], in chunks of about `floats` numbers.

    Neighbours are fixed, so an entity's h-order representation for a user is one vector wherever it is met: each
    iteration runs once over the entities that the next one needs, instead of over a tree under every item.
    """
    needed = needed_entities(sampled, item_entity, conv.hops)
    k, d = sampled.entity.shape[1], p["user"].shape[1]
    step = max(1, floats // (max(len(level) for level in needed[1:]) * k * d))
    return torch.cat([_score_block(p, sampled, needed, block, conv) for block in torch.split(users, step)])


def needed_entities(sampled: Sampled, item_entity: torch.Tensor, hops: int) -> list[torch.Tensor]:
    """Entities whose i-order representation scoring needs: H + 1 of int64; the last is `item_entity` itself."""
    levels = [item_entity]
    for _ in range(hops):
        levels.insert(0, torch.unique(torch.cat([levels[0], sampled.entity[levels[0]].flatten()])))
    return levels


def _score_block(
    p: Parameters, sampled: Sampled, needed: list[torch.Tensor], users: torch.Tensor, conv: Convolution
) -> torch.Tensor:
    user = p["user"][users]
    place = torch.zeros(len(p["entity"]), dtype=torch.int64, device=user.device)
    vectors = p["entity"][needed[0]].expand(len(users), -1, -1)
    for i, level in enumerate(needed[1:]):
        place[needed[i]] = torch.arange(len(needed[i]), device=user.device)
        relations = sampled.relation[level].expand(len(users), -1, -1)
        weights = edge_weights(p, user, relations, sampled.linked[level].expand(len(users), -1), conv)
        near = neighbourhood(weights, vectors[:, place[sampled.entity[level]]], conv.arithmetic)
        own = vectors[:, place[level]]
        last = i == conv.hops - 1
        vectors = aggregate(conv.aggregator, own, near, p["weight"][i], p["bias"][i], last)
    return predict(user[:, None], vectors)


# --- Labels known from training pairs (KGNN-LS, section 4.2) ----------------------------------------------------------


@dataclass(frozen=True)
class KnownLabels:
    """y_uv of the training pairs, by user and entity: sorted keys, so that memory is that of the pairs.

    key: int64 [P], user * entities + entity, sorted; label: float32 [P].
    """

    key: torch.Tensor
    label: torch.Tensor
    entities: int

    @staticmethod
    def of(user: Ints, entity: Ints, label: Floats, entities: int) -> KnownLabels:
        """From parallel arrays; where pairs meet in one entity, a purchase prevails."""
        key = user * np.int64(entities) + entity
        order = np.lexsort((-label, key))
        key, label = key[order], label[order]
        first = np.ones(len(key), dtype=bool)
        first[1:] = key[1:] != key[:-1]
        return KnownLabels(torch.from_numpy(key[first]), torch.from_numpy(label[first]), entities)

    def to(self, device: torch.device) -> KnownLabels:
        return replace(self, key=self.key.to(device), label=self.label.to(device))

    def __call__(self, users: torch.Tensor, entities: torch.Tensor) -> torch.Tensor:
        """users: int64 [B]; entities: int64 [B, n] -> float32 [B, n], UNKNOWN where no training pair tells."""
        if len(self.key) == 0:
            return torch.full(entities.shape, UNKNOWN, device=entities.device)
        wanted = users[:, None] * self.entities + entities
        at = torch.searchsorted(self.key, wanted).clamp(max=len(self.key) - 1)
        return torch.where(self.key[at] == wanted, self.label[at], UNKNOWN)


def held_out_labels(
    labels: KnownLabels, users: torch.Tensor, field: Field
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """KGNN-LS, before Eq. 7: initial labels of a receptive field with its own item held out.

    Gives, for h = 0 ... H, labels float32 [B, K^h] and whether they are known, bool [B, K^h].
    """
    item = field.entities[0]
    for level in field.entities:
        label = torch.where(level == item, UNKNOWN, labels(users, level))
        yield label, label != UNKNOWN


def propagated_label(
    initial_labels: list[tuple[torch.Tensor, torch.Tensor]],
    weights: list[torch.Tensor],
    arithmetic: Arithmetic,
) -> torch.Tensor:
    """The label of the held-out item: KGNN-LS Theorem 2, H steps over the receptive field -> [B].

    Step 1 (propagate) mixes with the weights of Eq. 2, step 2 resets what is known. After H steps the root depends on
    hop h only through its value after H - h steps, so that one pass from the outermost hop inwards is all H steps.
    An entity without neighbours keeps UNKNOWN.
    """
    value = initial_labels[-1][0]
    for (label, known), weight in zip(reversed(initial_labels[:-1]), reversed(weights), strict=True):
        mixed = neighbourhood(weight, value.view(*weight.shape, 1), arithmetic).squeeze(-1)
        isolated = weight.sum(-1) == 0
        value = torch.where(known | isolated, label, mixed)
    return value[:, 0]


def label_loss(predicted: torch.Tensor, label: torch.Tensor, arithmetic: Arithmetic) -> torch.Tensor:
    """J of KGNN-LS Eq. 7, mean over the batch. predicted, label: [B] -> scalar.

    The authors' code takes the predicted label for a logit; the paper's is a probability. It is kept off 0 and 1 by
    LABEL_MARGIN: there the loss is infinite, while its gradient (through weights that sum to 1) is rounding alone.
    """
    if arithmetic == "authors":
        return torch.nn.functional.binary_cross_entropy_with_logits(predicted, label)
    return torch.nn.functional.binary_cross_entropy(predicted.clamp(LABEL_MARGIN, 1 - LABEL_MARGIN), label)
