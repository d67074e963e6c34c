"""The training loop, top to bottom: epochs, phases, batches, validation, best epoch, checkpoint, early stop, resume.

An epoch's order depends on seed and epoch alone, and a checkpoint is written at every look at validation, so a run
resumed after any kill goes through the same steps as one that was not.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from kgkit.errors import ConfigError, NonFiniteLoss
from kgkit.lazy import torch
from kgkit.run import CHECKPOINT
from kgkit.run_files import damaged

if TYPE_CHECKING:
    from kgkit.run import Run
    from kgkit.train.gradient_model import GradientModel, Optimiser, Parameters, Phase

CHUNK = 1 << 21  # examples between two looks at Ctrl-C while compiled code runs


def train(model: GradientModel, run: Run) -> None:
    """Trains `model.parameters` in place and leaves the best epoch's values in them.

    Raises NonFiniteLoss; on KeyboardInterrupt the last checkpoint stands.
    """
    config, p = model.config, model.parameters
    for tensor in model.trained().values():
        tensor.requires_grad_(True)
    optimiser = model.make_optimiser()
    best: dict[str, Any] = {"score": -math.inf, "epoch": 0, "parameters": _copy(p)}
    epoch = 0
    if run.resume:
        if (saved := run.load_tensors(CHECKPOINT)) is not None:
            epoch, best = _gone_on(model, optimiser, saved, run)
        run.trim_trace(epoch)
    phases = model.phases()

    def save() -> None:
        run.save_tensors(
            CHECKPOINT,
            {
                "run": run.id,
                "epoch": epoch,
                "parameters": _copy(p),
                "optimiser": optimiser.state_dict(),
                "best": best,
                "graph": model.graph.fingerprint,
                "split": model.split.fingerprint,
            },
        )

    if epoch == 0:
        save()  # so that even an interrupted first epoch can be resumed
    while epoch < config.epochs and not (config.patience and epoch - best["epoch"] >= config.patience):
        started = time.perf_counter()
        # One generator an epoch: no random state has to survive a kill.
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
        model.epoch_begins(generator)
        losses = {}
        for phase in phases:
            losses[phase.name] = _run_phase(
                phase, p, optimiser, config.batch_size, generator, epoch + 1, model.device
            )
        trained = time.perf_counter()
        epoch += 1
        line = {
            "epoch": epoch,
            "epochs": config.epochs,
            "loss": losses,
            "train_s": round(trained - started, 4),
        }
        if epoch % config.validate_every == 0 or epoch == config.epochs:
            score = model.validate()
            if score > best["score"]:
                best = {"score": score, "epoch": epoch, "parameters": _copy(p)}
            save()
            line |= {
                f"valid_{config.select}": score,
                "best_epoch": best["epoch"],
                "valid_s": round(time.perf_counter() - trained, 4),
            }
        run.epoch_ended(line)
    with torch.no_grad():
        for name, tensor in p.items():
            tensor.copy_(best["parameters"][name])
            tensor.requires_grad_(False)
    run.record["best_epoch"] = best["epoch"]
    run.save_weights(
        {name: tensor.cpu().numpy() for name, tensor in p.items()},
        {label: model.graph.nodes[label].ids.to_pylist() for label in model.tables()},
    )


def _gone_on(
    model: GradientModel, optimiser: Optimiser, saved: dict[str, Any], run: Run
) -> tuple[int, dict[str, Any]]:
    """Puts a checkpoint's values in their places; its epoch and the best one so far.

    Raises ConfigError when the graph has changed, DamagedRun for a checkpoint of something else.
    """
    path, p = run.folder / CHECKPOINT, model.parameters
    # Earlier versions wrote no "run".
    if saved.get("run", run.id) != run.id:
        raise damaged(path, f"it is of run {saved['run']}")
    try:
        epoch, best, tables = (
            saved["epoch"],
            saved["best"],
            (saved["parameters"], saved["best"]["parameters"]),
        )
        graph, split, state = saved["graph"], saved["split"], saved["optimiser"]
        if split != model.split.fingerprint or graph != model.graph.fingerprint:
            raise ConfigError(
                f"the graph has changed since run {run.id} began: it cannot be resumed; train anew"
            )
        like = {name: tensor.shape for name, tensor in p.items()}
        whole = all({name: tensor.shape for name, tensor in table.items()} == like for table in tables)
        if not (whole and type(epoch) is type(best["epoch"]) is int and 0 <= best["epoch"] <= epoch):
            raise ValueError
        with torch.no_grad():
            for name, tensor in p.items():
                tensor.copy_(tables[0][name])
        optimiser.load_state_dict(state)
        return epoch, {"score": float(best["score"]), "epoch": best["epoch"], "parameters": tables[1]}
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError):
        raise damaged(path, f"it holds no state of run {run.id}") from None


def _run_phase(
    phase: Phase,
    p: Parameters,
    optimiser: Optimiser,
    batch_size: int,
    generator: torch.Generator,
    epoch: int,
    device: torch.device,
) -> float:
    """One pass over a phase's examples in a fresh order; the mean loss of its batches."""
    order = torch.randperm(phase.examples, generator=generator)
    total, batches = torch.zeros((), dtype=torch.float64, device=device), 0
    if phase.steps is not None:
        stretch = max(1, CHUNK // batch_size) * batch_size
        for rows in torch.split(order, stretch):
            n = math.ceil(len(rows) / batch_size)
            total += _finite(phase.steps(optimiser, rows), epoch, phase.name) * n
            batches += n
        return float(total / max(batches, 1))
    assert phase.loss is not None and isinstance(optimiser, torch.optim.Optimizer)
    order = order.to(device)
    for rows in torch.split(order, batch_size):
        optimiser.zero_grad(set_to_none=True)
        loss = phase.loss(p, rows)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += loss.detach()
        batches += 1
    return _finite(float(total / max(batches, 1)), epoch, phase.name)


def _finite(value: float, epoch: int, phase: str) -> float:
    if not math.isfinite(value):
        raise NonFiniteLoss(epoch, phase, value)
    return value


def _copy(p: Parameters) -> Parameters:
    return {name: tensor.detach().cpu().clone() for name, tensor in p.items()}
