"""The training steps of knowledge-graph embeddings: against sampled negatives, row by row, or against all entities."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kgkit.graph import Triples, distinct
from kgkit.lazy import np, torch
from kgkit.nn.similarity import crossed
from kgkit.train.gradient_model import Parameters, Phase
from kgkit.train.losses import ALL, SAMPLED, Answers
from kgkit.train.negatives import NegativeSampler, spans

if TYPE_CHECKING:
    from kgkit.train.kge_model import KGEModel
    from kgkit.train.row_optimiser import RowOptimiser

    Tensor = torch.Tensor


def training_facts(model: KGEModel) -> Triples:
    """The training facts; of a reciprocal model followed by their inverses (t, r + R, h)."""
    f = model.split.train
    if not model.config.reciprocal:
        return f
    both = np.concatenate
    return Triples(
        both([f.head, f.tail]), both([f.relation, f.relation + model.split.relations]), both([f.tail, f.head])
    )


class SampledSteps:
    """Facts against negatives drawn for each, or once for a batch."""

    def __init__(self, model: KGEModel) -> None:
        c = model.config
        self.model, self.loss = model, SAMPLED[c.loss]
        facts = training_facts(model)
        self.facts = torch.from_numpy(np.stack([facts.head, facts.relation, facts.tail])).to(model.device)
        self.sampler = NegativeSampler(
            facts, model.split.entities, model.relation_rows, model.device, c.sampler, c.filtered
        )
        if c.reciprocal:  # every end is asked for as a tail: the inverse facts see to the heads
            self.sampler.head_chance.zero_()

    def phase(self) -> Phase:
        if self.model.row_wise:
            return Phase("facts", self.facts.shape[1], None, self.run)
        return Phase("facts", self.facts.shape[1], self.whole_loss)

    def whole_loss(self, p: Parameters, rows: Tensor) -> Tensor:
        """Of a model with an encoder: the loss over its encoded tables."""
        with _training(self.model):
            return self.batch_loss(self.model.encode(p), self._draw(rows))

    def run(self, optimiser: RowOptimiser, order: Tensor) -> float:
        """A stretch of batches; the mean loss of a batch."""
        step = self.fused_step if self.fused() else self.step
        total = torch.zeros((), dtype=torch.float64, device=self.model.device)
        with _training(self.model):
            for rows in torch.split(order.to(self.model.device), self.model.config.batch_size):
                total += step(optimiser, self._draw(rows))
        return float(total) / max(1, math.ceil(len(order) / self.model.config.batch_size))

    def fused(self) -> bool:
        """Whether compiled code scores this model's facts with negatives of their own."""
        from kgkit.native import triples

        c = self.model.config
        return bool(
            c.fused
            and self.model.fused_kind
            and self.model.device.type == "cpu"
            and not (c.shared or c.dropout or c.n3 or c.l2)
            and triples.available(self.model.parameters["entity"].shape[1])
        )

    def fused_step(self, optimiser: RowOptimiser, batch: Batch) -> Tensor:
        """The same as `step`, the loss in torch and what is beneath it compiled."""
        from kgkit.native.triples import score_batch

        m, p = self.model, self.model.parameters
        heads, relations, tails = batch.facts
        scored = score_batch(
            m.fused_kind,  # type: ignore[arg-type]
            p["entity"].detach(),
            p["relation"].detach(),
            heads,
            relations,
            tails,
            batch.negatives,
            batch.at_head,
        )
        scores = scored.positive.requires_grad_(), scored.negative.requires_grad_()
        loss = self.loss(*scores, None, m.settings)
        found = scored.gradients(*torch.autograd.grad(loss, scores))
        optimiser.begin_step()
        optimiser.update("entity", found.entity_rows, found.entity)
        optimiser.update("relation", found.relation_rows, found.relation)
        return loss.detach()

    def step(self, optimiser: RowOptimiser, batch: Batch) -> Tensor:
        """Gradients of the batch's rows alone: tables are cut down to them, so that cost follows the batch."""
        entities, batch = batch.compact_entities()
        relations, batch = batch.compact_relations()
        rows = {"entity": entities, "relation": relations}
        tables = self.model.trained()
        leaves, local = {}, dict(self.model.parameters)
        for name, table in tables.items():
            of = rows.get(name.partition("_")[0])
            leaves[name] = local[name] = (
                table.detach() if of is None else table.detach()[of]
            ).requires_grad_()
        loss = self.batch_loss(local, batch)
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        optimiser.begin_step()
        for name, gradient in zip(leaves, gradients, strict=True):
            if gradient is not None:
                optimiser.update(name, rows.get(name.partition("_")[0]), gradient)
        return loss.detach()

    def batch_loss(self, p: Parameters, batch: Batch) -> Tensor:
        """The loss of a batch of facts and its negatives."""
        m, c = self.model, self.model.config
        if c.shared:
            positive = m.score(p, *batch.facts)
            sides = [self.side(p, positive, batch, at_head=False)]
            if not c.reciprocal:
                sides.append(self.side(p, positive, batch, at_head=True))
            loss = torch.stack(sides).mean()
        else:
            positive, negative = m.scores(p, batch.facts, batch.negatives, batch.at_head)
            loss = self.loss(positive, negative, None, m.settings)
        return loss + m.penalty(p, *batch.facts)

    def side(self, p: Parameters, positive: Tensor, batch: Batch, at_head: bool) -> Tensor:
        """The loss with all the batch's negatives in place of tails, or of heads: one matrix product."""
        m = self.model
        h, r, t = batch.facts
        query = m._drop(m.head_query(p, r, t) if at_head else m.tail_query(p, h, r))
        negative = crossed(m.similarity, query, m.answers(p, batch.negatives))
        return self.loss(positive, negative, batch.countable[int(at_head)], m.settings)

    def _draw(self, rows: Tensor) -> Batch:
        c, generator = self.model.config, self.model.generator
        facts = self.facts[:, rows]
        h, r, t = facts
        if not c.shared:
            return Batch(facts, *self.sampler.corrupt(h, r, t, c.negatives, generator))
        negatives = self.sampler.shared(c.negatives, generator)
        countable = [self.sampler.countable(h, r, negatives, at_head=False)]
        if not c.reciprocal:
            countable.append(self.sampler.countable(t, r, negatives, at_head=True))
        return Batch(facts, negatives, None, countable)


class Batch:
    """facts: int64 [3, B]; negatives: int64 [B, K] with at_head bool [B], or [K] shared, with `countable` masks."""

    def __init__(
        self,
        facts: Tensor,
        negatives: Tensor,
        at_head: Any,
        countable: list[Tensor | None] | None = None,
    ) -> None:
        self.facts, self.negatives, self.at_head, self.countable = facts, negatives, at_head, countable or []

    def compact_entities(self) -> tuple[Tensor, Batch]:
        """The distinct entities, int64 [U], and the batch that speaks of their positions."""
        h, r, t = self.facts
        every = torch.cat([h, t, self.negatives.reshape(-1)])
        entities, at = torch.unique(every, return_inverse=True)
        b = len(h)
        facts = torch.stack([at[:b], r, at[b : 2 * b]])
        return entities, Batch(facts, at[2 * b :].view(self.negatives.shape), self.at_head, self.countable)

    def compact_relations(self) -> tuple[Tensor, Batch]:
        """The distinct relations likewise."""
        h, r, t = self.facts
        relations, at = torch.unique(r, return_inverse=True)
        return relations, Batch(torch.stack([h, at, t]), self.negatives, self.at_head, self.countable)


class AllSteps:
    """Queries against all entities: one of a fact each end (1-vs-all), or the distinct ones with all their answers."""

    def __init__(self, model: KGEModel) -> None:
        c = model.config
        self.model, self.loss = model, ALL[c.loss]
        f, n, r = training_facts(model), model.split.entities, model.relation_rows
        # A query's key: anchor * (2 r) + its relation, + r where the head is asked for.
        keys, answers = f.head * (2 * r) + f.relation, f.tail
        if not c.reciprocal:
            keys, answers = np.append(keys, f.tail * (2 * r) + f.relation + r), np.append(answers, f.head)
        if c.training == "k-vs-all":
            keys, answers = np.divmod(distinct(keys * n + answers), n)
            keys, start = np.unique(keys, return_index=True)
            start = np.append(start, len(answers))
        else:
            start = np.arange(len(keys) + 1)
        anchor, relation = np.divmod(keys, 2 * r)
        self.at_head = torch.from_numpy(relation >= r).to(model.device)
        self.anchor = torch.from_numpy(anchor).to(model.device)
        self.relation = torch.from_numpy(relation % r).to(model.device)
        self.start, self.entity = (
            torch.from_numpy(start).to(model.device),
            torch.from_numpy(answers).to(model.device),
        )

    def phase(self) -> Phase:
        return Phase("queries", len(self.anchor), self.batch_loss)

    def batch_loss(self, p: Parameters, rows: Tensor) -> Tensor:
        """The loss of a batch of queries, those for tails and those for heads."""
        m = self.model
        with _training(m):
            encoded = m.encode(p)
            parts = []
            for at_head in (False, True):  # reciprocal queries all ask for tails
                some = rows[self.at_head[rows] == at_head]
                if len(some):
                    parts.append(self.side(encoded, some, at_head) * (len(some) / len(rows)))
            return torch.stack(parts).sum()

    def side(self, p: Parameters, rows: Tensor, at_head: bool) -> Tensor:
        """The loss of queries that all ask for tails, or all for heads."""
        m = self.model
        anchor, relation = self.anchor[rows], self.relation[rows]
        query = m._drop(m.head_query(p, relation, anchor) if at_head else m.tail_query(p, anchor, relation))
        answers = self.answers(rows)
        loss = self.loss(crossed(m.similarity, query, m.answers(p, slice(None))), answers, m.settings)
        return loss + m.penalty(p, anchor[answers.row], relation[answers.row], answers.entity)

    def answers(self, rows: Tensor) -> Answers:
        """The right answers of these queries."""
        count = self.start[rows + 1] - self.start[rows]
        row, at = spans(self.start[rows], count)
        start = torch.nn.functional.pad(count.cumsum(0), (1, 0))
        return Answers(row, self.entity[at], start)


class _training:
    """Dropout is on within."""

    def __init__(self, model: KGEModel) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.model.training = True

    def __exit__(self, *reason: object) -> None:
        self.model.training = False
