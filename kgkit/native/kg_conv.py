"""The compiled twin of `kgkit.nn.kg_conv`: training steps with Adam, and scores of all items, on the CPU."""

from __future__ import annotations

import ctypes

from kgkit.lazy import np, torch
from kgkit.native.build import load
from kgkit.native.tensors import checked, indices, pointers
from kgkit.native.threads import thread_count
from kgkit.nn.kg_conv import AGGREGATORS, Convolution, KnownLabels, Parameters, Sampled, needed_entities

TABLES = ("user", "entity", "relation", "weight", "bias")  # in the order of the enum in kg_conv.c
_WORTH_THREADS = 10_000_000  # operations a step, a few milliseconds
_I, _F, _P = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class _Model(ctypes.Structure):
    """`Model` of kg_conv.c."""

    _fields_ = [
        *((name, _I) for name in ("users", "entities", "relations", "items")),
        *((name, _I) for name in ("hops", "aggregator", "authors", "threads")),
        *((name, _P) for name in ("near_entity", "near_relation", "linked", "item_entity")),
        ("table", _P * len(TABLES)),
    ]


class _Training(ctypes.Structure):
    """`Training` of kg_conv.c."""

    _fields_ = [
        ("mean", _P * len(TABLES)),
        ("square", _P * len(TABLES)),
        *((name, _F) for name in ("rate", "beta1", "beta2", "epsilon", "l2", "ls_weight")),
        ("taken", _I),
        *((name, _P) for name in ("label_key", "label", "label_start", "labelled")),
    ]


def available(dim: int, neighbours: int) -> bool:
    """Whether the kernels compile here for vectors of `dim` and so many neighbours."""
    return _library(dim, neighbours) is not None


def _library(dim: int, neighbours: int) -> ctypes.CDLL | None:
    library = load("kg_conv", D=dim, K=neighbours)
    if library is not None:
        library.kgkit_kg_conv_train.restype = _F
        library.kgkit_kg_conv_pairs.restype = ctypes.c_int32
        library.kgkit_kg_conv_score.restype = ctypes.c_int32
    return library


class Problem:
    """A convolution over fixed neighbours, as the kernels take it. Make one only where `available`."""

    def __init__(
        self,
        dim: int,
        conv: Convolution,
        sampled: Sampled,
        item_entity: torch.Tensor,
        l2: float,
        labels: KnownLabels | None = None,
        ls_weight: float = 0.0,
    ) -> None:
        """item_entity: int64 [items]. labels: those of KGNN-LS, whose term weighs ls_weight."""
        library = _library(dim, sampled.entity.shape[1])
        if library is None:
            raise RuntimeError("compiled kernels are not available")
        if len(sampled.entity) >= 2**31:
            raise ValueError("compiled kernels take fewer than 2**31 entities")
        self._library, self._dim, self._conv = library, dim, conv
        self._l2, self._ls_weight = l2, ls_weight
        self._near_entity = sampled.entity.to(torch.int32).contiguous()
        self._near_relation = sampled.relation.to(torch.int32).contiguous()
        self._linked, self._item_entity = sampled.linked.contiguous(), item_entity.contiguous()
        self._labels = labels
        levels = needed_entities(sampled, item_entity, conv.hops)[1:]
        self._needed = torch.cat(levels)
        self._needed_start = torch.tensor([0, *np.cumsum([len(level) for level in levels])])
        if labels is not None:
            self._labelled = torch.zeros(labels.entities, dtype=torch.uint8)
            self._labelled[labels.key % labels.entities] = 1

    def train(
        self,
        p: Parameters,
        optimiser: torch.optim.Adam,
        users: torch.Tensor,
        items: torch.Tensor,
        labels: torch.Tensor,
        order: torch.Tensor,
        batch_size: int,
    ) -> float:
        """Steps through the rows `order` of the pairs in batches, changing `p` and the optimiser's state in place.

        users, items: int64 [N]; labels: float32 [N]; order: int64 [n]. A last batch that is short is a batch of its
        own. Returns the mean loss over the batches.
        """
        if len(order) == 0:
            return 0.0
        users, items = indices(users, len(p["user"])), indices(items, len(self._item_entity))
        order = indices(order, len(users))
        group = optimiser.param_groups[0]
        if len(optimiser.param_groups) != 1 or any(
            group[o] for o in ("weight_decay", "amsgrad", "maximize", "decoupled_weight_decay")
        ):
            raise ValueError("the compiled step is plain Adam with one group of parameters")
        states = [_adam_state(optimiser, p[name]) for name in TABLES]
        taken = {int(state["step"]) for state in states}
        if len(taken) != 1:
            raise ValueError("the compiled step needs parameters that took equally many steps")
        training = _Training(
            mean=pointers([state["exp_avg"] for state in states]),
            square=pointers([state["exp_avg_sq"] for state in states]),
            rate=float(group["lr"]),
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            epsilon=group["eps"],
            l2=self._l2,
            ls_weight=self._ls_weight,
            taken=taken.pop(),
        )
        known = self._labels
        if known is not None and len(known.key):
            bounds = torch.arange(len(p["user"]) + 1) * known.entities
            start = torch.searchsorted(known.key, bounds)
            training.label_key, training.label = known.key.data_ptr(), known.label.data_ptr()
            training.label_start, training.labelled = start.data_ptr(), self._labelled.data_ptr()
        loss = self._library.kgkit_kg_conv_train(
            ctypes.byref(self._model(p, self._threads(p, batch_size))),
            ctypes.byref(training),
            *(_P(t.data_ptr()) for t in (users, items, checked(labels, torch.float32, 1), order)),
            _I(len(order)),
            _I(batch_size),
        )
        for state in states:
            state["step"] += -(-len(order) // batch_size)
        return float(loss)

    def score_pairs(self, p: Parameters, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Eq. 7 of pairs: users, items int64 [B] -> float32 [B]."""
        users, items = indices(users, len(p["user"])), indices(items, len(self._item_entity))
        out = torch.empty(len(users))
        failed = self._library.kgkit_kg_conv_pairs(
            ctypes.byref(self._model(p, thread_count())),
            _P(users.data_ptr()),
            _P(items.data_ptr()),
            _I(len(users)),
            _P(out.data_ptr()),
        )
        if failed:
            raise MemoryError("scoring pairs")
        return out

    def score_items(self, p: Parameters, users: torch.Tensor) -> torch.Tensor:
        """Eq. 7 of every item: users int64 [B] -> float32 [B, items]."""
        users = indices(users, len(p["user"]))
        out = torch.empty(len(users), len(self._item_entity))
        failed = self._library.kgkit_kg_conv_score(
            ctypes.byref(self._model(p, thread_count())),
            _P(users.data_ptr()),
            _I(len(users)),
            *(_P(t.data_ptr()) for t in (self._needed, self._needed_start, out)),
        )
        if failed:
            raise MemoryError("scoring all items")
        return out

    def _threads(self, p: Parameters, batch_size: int) -> int:
        """One for short steps: there, waiting at the step's barriers costs more than it gains on a busy machine."""
        nodes = sum(self._near_entity.shape[1] ** hop for hop in range(self._conv.hops))
        work = batch_size * nodes * p["weight"].shape[1] * self._dim + 10 * sum(t.numel() for t in p.values())
        return thread_count() if work > _WORTH_THREADS else 1

    def _model(self, p: Parameters, threads: int) -> _Model:
        tables = [checked(p[name], torch.float32, 3 if name == "weight" else 2) for name in TABLES]
        if any(table.shape[-1] != self._dim for table in tables):
            raise ValueError(f"the kernel is compiled for vectors of {self._dim}")
        return _Model(
            users=len(p["user"]),
            entities=len(p["entity"]),
            relations=len(p["relation"]),
            items=len(self._item_entity),
            hops=self._conv.hops,
            aggregator=AGGREGATORS.index(self._conv.aggregator),
            authors=int(self._conv.arithmetic == "authors"),
            threads=threads,
            near_entity=self._near_entity.data_ptr(),
            near_relation=self._near_relation.data_ptr(),
            linked=self._linked.data_ptr(),
            item_entity=self._item_entity.data_ptr(),
            table=pointers(tables),
        )


def _adam_state(optimiser: torch.optim.Adam, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
    """The optimiser's state of a parameter, made as torch makes it when there is none yet."""
    state: dict[str, torch.Tensor] = optimiser.state[parameter]
    if not state:
        state["step"] = torch.tensor(0.0)
        state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    return state


__all__ = ["Problem", "available"]
