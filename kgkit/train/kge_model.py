"""The base of knowledge-graph embeddings: options, equations as methods, and a step's loss over sampled or all entities.

A model writes `init` (its tables), `tail_query` (what (h, r, ?) asks), `head_query` unless it answers (?, r, t) by
reciprocal relations only, and, where candidates are not just the rows of `entity`, `answers`. Tables whose names begin
with "entity" or "relation" have a row an entity or relation, and training touches a batch's rows only.

Equations take `p`, tables by name, as torch tensors or as numpy arrays, so that a query can be answered from vectors in
the graph without torch; what both do not share stands in `kgkit.nn.either`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kgkit.config import option
from kgkit.errors import ConfigError, EmptyExtraction
from kgkit.lazy import np, torch
from kgkit.model import LinkPredictor
from kgkit.nn.either import rows
from kgkit.nn.similarity import Candidates
from kgkit.train.gradient_model import GradientConfig, GradientModel, Optimiser, Parameters, Phase
from kgkit.train.losses import ALL, LOSSES, SAMPLED, LossSettings
from kgkit.train.negatives import SAMPLERS

if TYPE_CHECKING:
    from kgkit.arrays import Floats
    from kgkit.evaluate.triple_split import TripleSplit

TRAININGS = ("sampled", "1-vs-all", "k-vs-all")


@dataclass(frozen=True)
class KGEConfig(GradientConfig):
    """Options of every knowledge-graph embedding; a step takes `batch_size` facts (k-vs-all: distinct queries)."""

    dim: int = option(100, "embedding size d", ge=1)
    epochs: int = option(100, "passes over the training facts", ge=1)
    batch_size: int = option(1024, "facts a step; of k-vs-all, distinct queries", ge=1)
    learning_rate: float = option(1e-3, "learning rate eta of the optimiser", gt=0)
    validate_every: int = option(10, "epochs between two looks at validation, with a checkpoint each", ge=1)
    optimiser: str = option("adam", "how parameters follow gradients", choices=("adam", "adagrad", "sgd"))
    training: str = option("sampled", "what a fact is compared with", choices=TRAININGS)
    loss: str = option("margin", "loss (1-vs-all, k-vs-all: bce, cross-entropy or softplus)", choices=LOSSES)
    margin: float = option(1.0, "margin gamma of margin and self-adversarial loss", ge=0)
    smoothing: float = option(0.0, "label smoothing of bce and cross-entropy", ge=0, lt=1)
    temperature: float = option(1.0, "temperature alpha of self-adversarial loss", ge=0)
    negatives: int = option(1, "sampled negatives a fact (shared: a batch)", ge=1)
    shared: bool = option(False, "a batch shares its negatives: scores are one matrix product")
    sampler: str = option("uniform", "which end of a fact is replaced how often", choices=SAMPLERS)
    filtered: bool = option(True, "never take a known fact for a negative")
    reciprocal: bool = option(False, "a second relation for each, from tail to head, answers (?, r, t)")
    dropout: float = option(0.0, "share of a query's entries set to zero while training", ge=0, lt=1)
    n3: float = option(0.0, "weight of the nuclear 3-norm (Lacroix et al. 2018, Eq. 4)", ge=0)
    l2: float = option(0.0, "weight of the mean squares of a fact's vectors", ge=0)
    select: str = option(
        "mrr", "validation metric that picks the best epoch", choices=("mrr", "hits@1", "hits@3", "hits@10")
    )
    validate_on: int = option(0, "validate on so many facts, drawn by seed (0: all)", ge=0)


@dataclass(frozen=True)
class BilinearConfig(KGEConfig):
    """Options of models whose score is a product, with defaults that do well: softmax, reciprocal relations, N3.

    As Lacroix et al. (ICML 2018) train, but against a thousand shared negatives in place of all entities.
    """

    epochs: int = option(20, "passes over the training facts", ge=1)
    batch_size: int = option(500, "facts a step; of k-vs-all, distinct queries", ge=1)
    learning_rate: float = option(0.1, "learning rate eta of the optimiser", gt=0)
    validate_every: int = option(5, "epochs between two looks at validation, with a checkpoint each", ge=1)
    optimiser: str = option("adagrad", "how parameters follow gradients", choices=("adam", "adagrad", "sgd"))
    loss: str = option("cross-entropy", "loss", choices=("margin", "softplus", "bce", "cross-entropy"))
    negatives: int = option(1000, "sampled negatives a fact (shared: a batch)", ge=1)
    shared: bool = option(True, "a batch shares its negatives: scores are one matrix product")
    reciprocal: bool = option(True, "a second relation for each, from tail to head, answers (?, r, t)")
    n3: float = option(0.05, "weight of the nuclear 3-norm (Lacroix et al. 2018, Eq. 4)", ge=0)


class KGEModel(GradientModel, LinkPredictor):
    """A link predictor trained by gradient."""

    config: KGEConfig
    split: TripleSplit
    whole: ClassVar[bool] = False  # a step needs all rows of the tables (an encoder over the graph)
    fused_kind: ClassVar[str] = ""  # the model's name among the compiled interactions of kgkit.native.triples
    training: bool = False  # within a training step: dropout is on
    scoring: Parameters  # what queries and candidates are made of outside training

    # -- equations -----------------------------------------------------------------------------------------------
    @abstractmethod
    def tail_query(self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """What (h, r, ?) asks. heads, relations: int64 [...] -> [..., d]."""

    def head_query(self, p: Parameters, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        """What (?, r, t) asks: of models with reciprocal relations, what (t, r + R, ?) asks."""
        return self.tail_query(p, tails, relations + len(p["relation"]) // 2)

    def answers(self, p: Parameters, entities: Any, relations: Any = None) -> Candidates:
        """Candidates. entities: int64 [...] or slice(None) for all; relations: int64 [...], for `relational` models."""
        bias = p.get("entity_bias")
        return Candidates(rows(p["entity"], entities), None if bias is None else rows(bias, entities))

    def encode(self, p: Parameters) -> Parameters:
        """From parameters to the tables of the equations above: the same, unless there is an encoder."""
        return p

    def score(
        self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor, tails: torch.Tensor
    ) -> torch.Tensor:
        """f(h, r, t). int64 [B] each -> float32 [B]."""
        from kgkit.nn.similarity import paired

        query = self._drop(self.tail_query(p, heads, relations))
        return paired(self.similarity, query, self.answers(p, tails, relations))

    def scores(
        self,
        p: Parameters,
        facts: torch.Tensor,
        negatives: torch.Tensor,
        at_head: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """f of facts and of their negatives.

        facts: int64 [3, B] (h, r, t); negatives: int64 [B, K], in the place of h where at_head (bool [B]), else of t.
        Returns float32 [B] and [B, K].
        """
        k = negatives.shape[1]
        positive = self.score(p, *facts)
        h, r, t = (x.repeat_interleave(k) for x in facts)
        e, swap = negatives.reshape(-1), at_head.repeat_interleave(k)
        negative = self.score(p, torch.where(swap, e, h), r, torch.where(swap, t, e))
        return positive, negative.view(-1, k)

    def cubes(self, vectors: torch.Tensor) -> torch.Tensor:
        """The sum of the cubed moduli of a vector's entries, for N3: [..., d] -> [...]."""
        return vectors.abs().pow(3).sum(-1)

    def nuclear(
        self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor, tails: torch.Tensor
    ) -> torch.Tensor:
        """The mean over facts, int64 [B] each, of their vectors' cubed entries (Lacroix et al. 2018, Eq. 4 and 6)."""
        entity, relation = p["entity"], p["relation"]
        ends = self.cubes(rows(entity, heads)) + self.cubes(rows(entity, tails))
        return (ends + self.cubes(rows(relation, relations))).mean()

    def penalty(
        self, p: Parameters, heads: torch.Tensor, relations: torch.Tensor, tails: torch.Tensor
    ) -> torch.Tensor:
        """What the loss of these facts, int64 [B] each, has on top, if asked for: n3 times `nuclear`, l2 times the mean
        squares of their h, r and t."""
        c, found = self.config, torch.zeros((), device=self.device)
        if c.n3:
            found = found + c.n3 * self.nuclear(p, heads, relations, tails)
        if c.l2:
            for table, at in (("entity", heads), ("relation", relations), ("entity", tails)):
                found = found + c.l2 * rows(p[table], at).square().mean()
        return found

    # -- tables --------------------------------------------------------------------------------------------------
    @property
    def relation_rows(self) -> int:
        """Rows of the relation tables: R, or 2 R with reciprocal relations."""
        return self.split.relations * (2 if self.config.reciprocal else 1)

    @property
    def row_wise(self) -> bool:
        """Whether a step touches only its batch's rows."""
        return self.config.training == "sampled" and not self.whole

    def tables(self) -> dict[str, str]:
        return {"Entity": "entity", "Relation": "relation"}

    def embeddings(self) -> dict[str, Floats]:
        """Vectors of entities [N, d] and relations [R, d]; reciprocal ones beside each other, [R, 2 d]."""
        found = {k: self.scoring[v].detach().cpu().numpy() for k, v in self.tables().items()}
        found["Relation"] = self._beside(found["Relation"])
        return found

    def extra_weights(self) -> dict[str, dict[str, Floats]]:
        """All that the equations need besides `embeddings`; of an encoder nothing, as its work is done."""
        found: dict[str, dict[str, Floats]] = {"Entity": {}, "Relation": {}, "": {}}
        if type(self).encode is not KGEModel.encode:
            return found
        for name in self.scoring.keys() - self.tables().values():
            array = self.scoring[name].detach().cpu().numpy()
            label = next((label for label in ("Entity", "Relation") if name.startswith(label.lower())), "")
            if label:
                array = array.reshape(len(array), -1)
            found[label][name] = self._beside(array) if label == "Relation" else array
        return found

    def _beside(self, relations: Floats) -> Floats:
        """A relation table with reciprocal relations beside those they turn round: [R, d], or [2 R, d] to [R, 2 d]."""
        return np.concatenate(np.split(relations, 2), axis=1) if self.config.reciprocal else relations

    def begin_from(self, vectors: Mapping[str, Floats]) -> None:
        given = dict(vectors)
        relation = given.get("Relation")
        if relation is not None:
            if self.config.reciprocal and relation.shape[1] == 2 * self.parameters["relation"].shape[1]:
                relation = np.concatenate(np.split(relation, 2, axis=1))
            if relation.shape == tuple(self.parameters["relation"].shape):
                given["Relation"] = relation
            else:  # of another form (translations, phases, matrices): the model learns its own
                del given["Relation"]
        super().begin_from(given)

    def setup(self, generator: torch.Generator) -> None:
        from kgkit.train.kge_steps import AllSteps, SampledSteps

        c = self.config
        if not len(self.split.train):
            raise EmptyExtraction("there is no training fact: ingest facts, or widen --triples-query")
        known = SAMPLED if c.training == "sampled" else ALL
        if c.loss not in known:
            raise ConfigError(f"--loss {c.loss} is not for --training {c.training}: use {', '.join(known)}")
        if c.training != "sampled" and self.relational:
            raise ConfigError(f"{self.name} cannot score all entities at once: use --training sampled")
        if c.shared and self.relational:
            raise ConfigError(
                f"{self.name} cannot share negatives, which look different to every relation: leave --shared off"
            )
        if not c.reciprocal and type(self).head_query is KGEModel.head_query:
            raise ConfigError(f"{self.name} answers (?, r, t) by reciprocal relations: leave --reciprocal on")
        if not self.row_wise and (held := {**self.unit_norms(), **self.max_norms()}):
            raise ConfigError(
                f"vectors of {', '.join(held)} are held to a length row by row, which --training {c.training} cannot: "
                "use --training sampled, or leave the option out"
            )
        self.settings = LossSettings(c.margin, c.smoothing, c.temperature)
        self.steps = SampledSteps(self) if c.training == "sampled" else AllSteps(self)

    def prepare(self, graph: Any, split: Any) -> None:
        super().prepare(graph, split)
        self.settle()

    # -- training ------------------------------------------------------------------------------------------------
    def phases(self) -> list[Phase]:
        return [self.steps.phase()]

    def epoch_begins(self, generator: torch.Generator) -> None:
        self.generator = torch.Generator(self.device).manual_seed(generator.initial_seed())
        torch.manual_seed(generator.initial_seed())  # dropout has no generator of its own

    def unit_norms(self) -> dict[str, float]:
        """The length that the rows of a table have, by table, held after every step."""
        return {}

    def max_norms(self) -> dict[str, float]:
        """The length that the rows of a table may have at most, by table, held after every step."""
        return {}

    def rates(self) -> dict[str, float]:
        """By how much a table's learning rate differs from the others', by table."""
        return {}

    def make_optimiser(self) -> Optimiser:
        from kgkit.train.row_optimiser import RowOptimiser

        c = self.config
        if self.row_wise:
            return RowOptimiser(
                c.optimiser,  # type: ignore[arg-type]
                self.trained(),
                c.learning_rate,
                max_norm=self.max_norms(),
                unit_norm=self.unit_norms(),
                rates=self.rates(),
                fused=c.fused,
            )
        rates = self.rates()
        groups: list[dict[str, Any]] = [
            {"params": [tensor], "lr": c.learning_rate * rates.get(table, 1.0)}
            for table, tensor in self.trained().items()
        ]
        kinds = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad, "sgd": torch.optim.SGD}
        of = kinds[c.optimiser](groups, lr=c.learning_rate, fused=True)
        optimiser: Optimiser = of
        return optimiser

    def validate(self) -> float:
        from kgkit.evaluate.link_prediction import validation_link_metric

        c = self.config
        self.settle()
        most = c.validate_on or None
        return validation_link_metric(self, self.split, c.select, most=most, seed=c.seed)

    def _drop(self, queries: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.config.dropout:
            return queries
        return torch.nn.functional.dropout(queries, self.config.dropout)

    # -- what LinkPredictor promises -----------------------------------------------------------------------------
    def fit(self, graph: Any, split: Any, run: Any) -> None:
        super().fit(graph, split, run)
        self.settle()

    def restore(self, graph: Any, split: Any, run: Any) -> None:
        super().restore(graph, split, run)
        self.settle()

    def settle(self) -> None:
        """Makes queries and candidates speak of the parameters as they are now."""
        with torch.no_grad():
            self.scoring = {k: v.detach() for k, v in self.encode(self.parameters).items()}

    def tail_queries(self, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.tail_query(self.scoring, heads.to(self.device), relations.to(self.device))

    def head_queries(self, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.head_query(self.scoring, relations.to(self.device), tails.to(self.device))

    def candidates(self, relation: int | None = None) -> Candidates:
        with torch.no_grad():
            which = None if relation is None else torch.tensor(relation, device=self.device)
            return self.answers(self.scoring, slice(None), which)


def uniform(rows: int, columns: int, bound: float, generator: torch.Generator) -> torch.Tensor:
    """float32 [rows, columns], uniform in (-bound, bound)."""
    return (torch.rand(rows, columns, generator=generator) * 2 - 1) * bound


def normal(rows: int, columns: int, deviation: float, generator: torch.Generator) -> torch.Tensor:
    """float32 [rows, columns], normal around zero."""
    return torch.randn(rows, columns, generator=generator) * deviation
