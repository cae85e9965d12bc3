"""Training: one loop for every system of the book, and the learning rates it follows.

Papers: A. Vaswani et al. (2017), *Attention Is All You Need*, arXiv:1706.03762, sec. 5.3 (the schedule
``noam``); I. Loshchilov and F. Hutter (2019), *Decoupled Weight Decay Regularization*, arXiv:1711.05101
(AdamW); I. Goodfellow et al. (2014), *Generative Adversarial Nets*, arXiv:1406.2661, algorithm 1 (players
who move in turn). Survey: none; every chapter trains with it.  Device, processes and their gradients come
from Hugging Face `accelerate`.
"""

import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list, gather_object, send_to_device, set_seed
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mmlearn import checkpoints
from mmlearn.data.batches import Batches, epochs, stream
from mmlearn.files import locked
from mmlearn.nn.modes import eval_mode
from mmlearn.progress import Progress

__all__ = ["Batches", "History", "Schedule", "constant", "epochs", "fit", "linear_warmup", "noam",
           "noam_rate", "warmup_cosine"]
LOOK_EVERY = 10      # steps between two looks at the losses, for which an accelerator has to be waited for
MOST = 10**9         # steps, batches or checkpoints; a larger number is a slip of the keyboard
LARGEST = torch.finfo(torch.float32).max


# Learning rates ---------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Schedule:
    """A learning rate as a function of the step, counted from 1, with a name by which two can be compared."""

    name: str
    rate: Callable[[int], float | int] = field(compare=False, repr=False)

    def __call__(self, step: int) -> float | int:
        return self.rate(step)

    def __repr__(self) -> str:
        return self.name


def noam_rate(step: int, width: int, warmup: int, factor: float | int = 1.0) -> float:
    r"""eq:noam: $\eta_s = c\, d^{-1/2} \min(s^{-1/2},\ s\, w^{-3/2})$, with $d$ the width, $w$ the warm-up,
    $c$ a factor."""
    return factor * width**-0.5 * min(step**-0.5, step * warmup**-1.5)


def noam(width: int, warmup: int, factor: float | int = 1.0) -> Schedule:
    """eq:noam as a schedule: linear up to step ``warmup``, then falling with the root of the step."""
    return Schedule(f"noam(width={width}, warmup={warmup}, factor={factor})",
                    lambda step: noam_rate(step, width, warmup, factor))


def constant(lr: float | int) -> Schedule:
    """The same rate at every step."""
    return Schedule(f"constant({lr})", lambda step: lr)


def linear_warmup(lr: float | int, warmup: int) -> Schedule:
    """A straight line from 0 up to ``lr`` at step ``warmup``, then constant."""
    return Schedule(f"linear_warmup({lr}, warmup={warmup})",
                    lambda step: lr * min(1.0, step / max(1, warmup)))


def linear_decay(lr: float | int, begin: int, steps: int) -> Schedule:
    """The same rate up to step ``begin``, then a straight line down to 0 after ``steps``."""
    def rate(step: int) -> float:
        return lr * min(1.0, max(0.0, (steps + 1 - step) / (steps + 1 - begin)))
    return Schedule(f"linear_decay({lr}, begin={begin}, steps={steps})", rate)


def warmup_linear(lr: float | int, warmup: int, steps: int) -> Schedule:
    """A straight line up to ``lr`` at step ``warmup``, then one down to 0 at ``steps``."""
    def rate(step: int) -> float:
        return lr * min(step / max(1, warmup), max(0.0, (steps - step) / max(1, steps - warmup)))
    return Schedule(f"warmup_linear({lr}, warmup={warmup}, steps={steps})", rate)


def warmup_cosine(lr: float | int, warmup: int, steps: int, final: float | int = 0.0) -> Schedule:
    """A straight line up to ``lr`` at step ``warmup``, then half a cosine down to ``final`` at ``steps``."""
    def rate(step: int) -> float:
        if step < warmup:
            return lr * step / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return final + (lr - final) * 0.5 * (1 + math.cos(math.pi * done))
    return Schedule(f"warmup_cosine({lr}, warmup={warmup}, steps={steps}, final={final})", rate)


def parameter_groups(model: nn.Module, weight_decay: float | int) -> list[dict[str, Any]]:
    """Parameters for an optimiser: matrices, embeddings and filters decay; gains, biases, single numbers do
    not."""
    weights = [p for p in model.parameters() if p.requires_grad]
    return [{"params": [p for p in weights if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0}]


# What a run leaves behind -----------------------------------------------------------------------------------

@dataclass
class History:
    """What happened: the loss and other scalars of every step, and the metrics of every evaluation.

    ``best`` is (step, value) of the watched metric; ``ema`` the model with averaged weights, where asked for.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    scalars: dict[str, list[float]] = field(default_factory=dict)
    metric_steps: list[int] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    best: tuple[int, float] | None = None
    finished: bool = False
    ema: nn.Module | None = field(default=None, repr=False)

    def smooth(self, span: int = 20) -> list[float]:
        """The loss as a mean over the last ``span`` steps."""
        sums = [0.0]
        for loss in self.loss:
            sums.append(sums[-1] + loss)
        return [(sums[i] - sums[max(0, i - span)]) / min(i, span) for i in range(1, len(sums))]

    def plot(self, title: str = "") -> Any:
        """The learning curve, and the metrics beside it where there are some; returns the figure."""
        from mmlearn.plot import curves
        return curves({title or "loss": self})

    def _json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "ema"}

    def _record(self, rows: list[tuple[int, dict[str, Any], Any]], accelerator: Accelerator) -> None:
        """Append (step, sums, weight) rows: fetch them from the accelerator at once, and average over
        processes."""
        if not rows:
            return
        flat = [torch.as_tensor(value).detach().to(accelerator.device, torch.float32).reshape(())
                for _, sums, weight in rows for value in (weight, *sums.values())]
        numbers = iter(accelerator.reduce(torch.stack(flat), "sum").tolist())
        for step, sums, _ in rows:
            weight = next(numbers)
            if not weight > 0:
                raise ValueError(f"the loss of step {step} is a mean over {weight:g} terms; leave out "
                                 f"batches in which nothing counts")
            values = {name: next(numbers) / weight for name in sums}
            if not math.isfinite(values["loss"]):
                raise ValueError(f"the loss of step {step} is {values['loss']}; lower the learning rate or "
                                 f"clip the gradient")
            for name, value in values.items():
                known = (
                    self.loss
                    if name == "loss"
                    else self.scalars.setdefault(name, [math.nan] * len(self.steps))
                )
                known.append(value)
            self.steps.append(step)
        rows.clear()


class _Objective(nn.Module):
    """Model and loss as one module, so that whatever method of the model a loss calls, several processes
    agree."""

    def __init__(self, model: nn.Module, loss_fn: Callable[..., Any], precision: str) -> None:
        super().__init__()
        self.model, self.loss_fn, self.precision = model, loss_fn, precision

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, Any]]:
        with torch.autocast(_device_of(self.model).type, torch.bfloat16, enabled=self.precision == "bf16"):
            out = self.loss_fn(self.model, batch)
        loss, scalars = out if isinstance(out, tuple) else (out, {})
        return loss, {name: v.detach() if isinstance(v, Tensor) else v for name, v in scalars.items()}


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


# The loop ---------------------------------------------------------------------------------------------------

def fit(model: nn.Module, loss_fn: Callable[..., Any], batches: Any, *, steps: int,
        optimizer: torch.optim.Optimizer | Callable[[list], torch.optim.Optimizer] | None = None,
        lr: float | int | None = None, schedule: Callable[[int], float | int] | None = None,
        accumulate: int = 1, clip: float | int | None = None, ema: float | int | None = None,
        precision: str = "no", folder: str | Path | None = None, save_every: int | None = None, keep: int = 2,
        seed: int = 0,
        evaluate: Callable[[Any], Mapping[str, float]] | None = None, evaluate_every: int | None = None,
        watch: str | Sequence[str] | None = None, patience: int | None = None,
        on_step: Callable[[int, Any], Any] | None = None, on_save: Callable[[int, Any], Any] | None = None,
        progress: Any = True, title: str = "") -> History:
    """Train ``model`` for ``steps`` optimiser steps (all in all: a resumed run does the rest).

    - ``loss_fn(model, batch)`` returns the loss, or the loss and a dict of scalars to record. A scalar named
      "weight" is the number of terms the loss is a mean of (say, tokens): with it, ``accumulate`` batches or
      several processes give the mean over all terms; without it, the mean of their means.
    - A game has several losses: ``loss_fn`` is then a generator function that yields the moves of a step,
      ``(player, loss)`` or ``(player, loss, scalars)``. ``player`` names a part of the model, whose weights
      alone that loss moves, before the next move is computed. ``History.loss`` has the last move's, the
      scalars everybody's, by name.
    - ``batches``: a ``Batches``, a ``DataLoader``, a list, or a function of the batch number.
    - ``optimizer``: an optimiser, or a function of the parameters; default fused AdamW. In a game one
      serves all players, in groups where they differ: it skips weights without a gradient.
      ``schedule(step)`` is the learning rate itself (times the "scale" of a parameter group that has one),
      ``lr`` a constant one (default: 1e-3, or what the given optimiser has).
    - ``accumulate`` batches make one step; ``clip`` bounds the gradient's norm, which is recorded as "norm".
    - ``ema``: decay of an average of the weights, found in ``History.ema``. ``precision``: "no" or "bf16".
    - ``folder``: a checkpoint before the first step and every ``save_every`` steps (default: a tenth of the
      run), of which ``keep`` stay; if one is there, the run goes on from it, to the same result (bit for bit
      on a CPU), at whatever moment it was killed. One run at a time may write there.
    - ``evaluate(model)`` returns metrics, every ``evaluate_every`` steps and at the end; it sees the average
      if there is one, in eval mode, without gradients. ``watch="CIDEr"`` keeps the weights where that is
      highest ("-loss": lowest), the later of two alike, and ends with them; of several names the next decides
      where those before it are equal. With ``patience`` training stops after so many evaluations without a
      better one.
    - ``on_step(step, model)`` is called after every step in every process, before the average is taken: it
      may change the weights, in all processes alike. ``on_save(step, model)`` is called in the main process
      after every checkpoint. ``progress``: True, False, or a file.

    Raises ``ValueError`` on a loss or weights that are not finite, on settings that make no sense or
    contradict each other, and if ``folder`` holds another run; ``OSError`` if it cannot be written, or
    another process writes there.
    """
    _check(precision, evaluate, watch, patience, lr, schedule)
    _check_numbers(batches, seed, lr, clip, ema, steps=steps, accumulate=accumulate, save_every=save_every,
                   keep=keep, evaluate_every=evaluate_every, patience=patience)
    game = inspect.isgeneratorfunction(inspect.unwrap(loss_fn))
    if game and accumulate > 1:
        raise ValueError(f"accumulate is {accumulate}; a game has one batch a step, give larger batches")
    accelerator = Accelerator(mixed_precision="no")  # bf16 is switched on around the loss, below
    set_seed(seed, device_specific=True)
    model.to(accelerator.device).train()
    weights = [p for p in model.parameters() if p.requires_grad]
    if not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = (optimizer or partial(torch.optim.AdamW, lr=1e-3, fused=True))(weights)
    schedule = constant(lr) if lr is not None else schedule
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema)) if ema is not None else None
    run = _Run(model, optimizer, average, accelerator, folder, keep, watch, patience,
               checkpoints.describe(model, {
        "seed": seed, "accumulate": accumulate, "clip": clip, "ema": ema, "precision": precision,
        "watch": watch, "optimizer": type(optimizer).__name__,
        "schedule": repr(schedule) if isinstance(schedule, Schedule) else None,
        "processes": accelerator.num_processes, "batches": repr(batches) if isinstance(batches, Batches)
        else None}))
    save_every = save_every or max(1, steps // 10)
    evaluate_every = evaluate_every or steps

    with run.resumed(steps) as begin, Progress(
            steps, title, None if isinstance(progress, bool) else progress, begin,
            progress is not False and accelerator.is_main_process) as bar:
        source = stream(batches, begin * accumulate if begin < steps else 0, seed, accelerator.process_index,
                        accelerator.num_processes)
        run.start()  # with the random numbers of its place: reading up to there may have drawn some
        players = _Players(model, loss_fn, precision, optimizer, clip, accelerator) if game else None
        objective = _Objective(model, loss_fn, precision)
        if not game:
            objective = accelerator.prepare_model(objective, device_placement=False)
        optimizer.zero_grad(set_to_none=True)  # the caller may have left gradients behind
        for step in range(begin + 1, steps + 1):
            if schedule is not None:
                for group in optimizer.param_groups:
                    group["lr"] = _rate(schedule, step) * group.get("scale", 1.0)
            if players is not None:
                sums, terms = players.play(next(source)), 1
            else:
                sums, terms = _gradients(objective, source, accumulate, weights, accelerator)
                if clip is not None:
                    sums["norm"] = nn.utils.clip_grad_norm_(weights, clip) * terms
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            if on_step is not None:
                on_step(step, model)
            if average is not None:
                average.update_parameters(model)
            run.add(step, sums, terms)
            if step % LOOK_EVERY == 0 or step == steps:
                bar.update(step, run.look())
            if evaluate is not None and (step % evaluate_every == 0 or step == steps):
                run.judge(step, evaluate)
                bar.update(step, run.look())
            if folder is not None and (step % save_every == 0 or step == steps or run.history.finished):
                run.save(step)
                if on_save is not None and accelerator.is_main_process:
                    on_save(step, model)
            if run.history.finished:
                break
        return run.end()


def _rate(schedule: Callable[[int], float | int], step: int) -> float | int:
    rate = schedule(step)
    if not 0 <= rate <= LARGEST:
        raise ValueError(f"the learning rate of step {step} is {rate}; a schedule gives numbers from 0 up, "
                         f"of single precision")
    return rate


def _gradients(objective: nn.Module, source: Iterator[Any], accumulate: int, weights: list[nn.Parameter],
               accelerator: Accelerator) -> tuple[dict[str, Any], Any]:
    """Leave in ``weights`` the gradient of one step; return its loss and scalars as sums over terms, and
    their number."""
    sums: dict[str, Any] = {}
    terms: Any = 0
    many = accumulate * accelerator.num_processes > 1
    for part in range(accumulate):
        batch = send_to_device(next(source), accelerator.device, non_blocking=True)
        # meet at the last part only
        with accelerator.no_sync(objective) if part < accumulate - 1 else nullcontext():
            loss, scalars = objective(batch)
            weight = scalars.pop("weight", None)
            accelerator.backward(loss if not many else loss / accumulate if weight is None else loss * weight)
        count = 1 if weight is None else weight
        terms = terms + count
        for name, value in {"loss": loss.detach(), **scalars}.items():
            sums[name] = sums.get(name, 0.0) + value * count
    if many and weight is not None:  # the mean over all terms of all parts and processes
        counted = accelerator.reduce(torch.as_tensor(terms, device=accelerator.device).float(), "sum")
        torch._foreach_mul_([p.grad for p in weights if p.grad is not None],
                            accelerator.num_processes / counted)
    return sums, terms


class _Players:
    """The players of a game, who move in turn, each its own part of the model."""

    def __init__(self, model: nn.Module, moves: Callable[..., Iterator[Any]], precision: str,
                 optimizer: torch.optim.Optimizer, clip: float | int | None,
                 accelerator: Accelerator) -> None:
        self.model, self.moves, self.precision = model, moves, precision
        self.optimizer, self.clip, self.accelerator = optimizer, clip, accelerator
        if accelerator.num_processes > 1:
            for tensor in model.state_dict().values():      # all begin with what the main process has
                tensor.copy_(broadcast(tensor))

    def play(self, batch: Any) -> dict[str, Any]:
        """One step: every move of a batch, and the losses and scalars of all."""
        device = _device_of(self.model)
        moves = self.moves(self.model, send_to_device(batch, device, non_blocking=True))
        found: dict[str, Any] = {}
        while True:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                move = next(moves, None)
            if move is None:
                break
            player, loss, *scalars = move
            found |= {player: loss.detach(), "loss": loss.detach(), **self.move(player, loss)}
            for more in scalars:
                found |= {name: v.detach() if isinstance(v, Tensor) else v for name, v in more.items()}
        if not found:
            raise ValueError("nobody moves; a game yields (player, loss) at least once a step")
        return found

    def move(self, player: str, loss: Tensor) -> dict[str, Any]:
        """Step the weights of one player down its loss."""
        parts = dict(self.model.named_children())
        if player not in parts:
            raise ValueError(f"{player!r} moves, the model has {', '.join(parts) or 'no parts'}; yield the "
                             f"name of a part and its loss")
        weights = [p for p in parts[player].parameters() if p.requires_grad]
        self.accelerator.backward(loss, inputs=weights)
        if self.accelerator.num_processes > 1:
            gradients = [p.grad for p in weights if p.grad is not None]
            means = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
            for gradient, mean in zip(gradients, means.split([g.numel() for g in gradients])):
                gradient.copy_(mean.view_as(gradient))
        norm = {} if self.clip is None else {f"{player} norm": nn.utils.clip_grad_norm_(weights, self.clip)}
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm


class _Run:
    """The state of a run beside the loop: its history, checkpoints, evaluations, and the best weights so
    far."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: AveragedModel | None,
                 accelerator: Accelerator, folder: str | Path | None, keep: int,
                 watch: str | Sequence[str] | None, patience: int | None, about: dict[str, Any]) -> None:
        self.model, self.optimizer, self.average, self.accelerator = model, optimizer, average, accelerator
        self.folder, self.keep, self.patience, self.about = folder, keep, patience, about
        self.watch = [watch] if isinstance(watch, str) else list(watch or ())
        self.history = History()
        self.rows: list[tuple[int, dict[str, Any], Any]] = []
        self.best: checkpoints.Tensors = {}
        self.random: checkpoints.Tensors | None = None
        self.began = time.perf_counter()
        self.before = 0.0

    @property
    def judged(self) -> nn.Module:
        """The model that is evaluated: the average where there is one."""
        return self.model if self.average is None else self.average.module

    @contextmanager
    def resumed(self, steps: int) -> Iterator[int]:
        """Hold the folder while the run lasts, and go on from its newest checkpoint; gives the last step
        done."""
        mine = self.folder is not None and self.accelerator.is_main_process
        with locked(str(self.folder)) if mine else nullcontext():
            found = checkpoints.newest(self.folder) if self.folder is not None else None
            try:
                begin = 0 if found is None else self._fill(found, steps)
            except (KeyError, TypeError, AttributeError, RuntimeError) as error:
                raise ValueError(f"{self.folder} holds no run that can go on ({type(error).__name__}: "
                                 f"{error}); delete the folder to start again") from error
            yield begin

    def _fill(self, found: checkpoints.Checkpoint, steps: int) -> int:
        """Put everything back as ``found`` has it; returns the last step done."""
        checkpoints.same_run(self.about, found.state["about"], str(self.folder))
        if found.step > steps:
            raise ValueError(f"{self.folder} holds a run at step {found.step}, beyond steps={steps}; "
                             "ask for more steps, or train in another folder")
        checkpoints.fill(self.model, found.tensors["model"], str(self.folder))
        checkpoints.fill_optimizer(self.optimizer, found.tensors["optimizer"], found.state["optimizer"])
        if self.average is not None:
            checkpoints.fill(self.average.module, found.tensors["ema"], str(self.folder))
            self.average.n_averaged.fill_(found.step)
        self.best = found.tensors.get("best", {})
        past = found.state["history"]
        self.history = History(**past | {"best": past["best"] and tuple(past["best"])})  # JSON has lists only
        self.before = self.history.seconds
        rank = f"{self.accelerator.process_index}."
        self.random = {name.removeprefix(rank): states for name, states in found.tensors["random"].items()
                       if name.startswith(rank)}
        return steps if self.history.finished else found.step

    def start(self) -> None:
        """Go on with the random numbers of the checkpoint; a new run writes down what it begins with."""
        if self.random is not None:
            checkpoints.set_random_states(self.random)
        elif self.folder is not None:
            self.save(0)

    def add(self, step: int, sums: dict[str, Any], terms: Any) -> None:
        self.rows.append((step, sums, terms))

    def look(self) -> str:
        """Fetch the losses since the last look; returns a note for the progress bar."""
        self.history._record(self.rows, self.accelerator)
        if name := checkpoints.not_finite(self.model.state_dict()):
            raise ValueError(f"the weights after step {self.history.steps[-1]} are not finite ({name}); "
                             f"lower the learning rate or clip the gradient")
        self.history.seconds = self.before + time.perf_counter() - self.began
        note = f"loss {self.history.loss[-1]:.3f}"
        if self.watch and self.history.best is not None:
            note += f" best {self.watch[0].removeprefix('-')} {self.history.best[1]:.3f}"
        return note

    def judge(self, step: int, evaluate: Callable[[Any], Mapping[str, float]]) -> None:
        """Evaluate in the main process, tell the others, remember the best weights, and say when patience is
        over."""
        self.look()
        found: list[Any] = [None]
        if self.accelerator.is_main_process:
            # training goes on as if nothing
            with torch.no_grad(), eval_mode(self.judged), torch.random.fork_rng():
                found = [{name: float(value) for name, value in evaluate(self.judged).items()}]
        metrics = broadcast_object_list(found)[0]
        for name, value in metrics.items():
            values = self.history.metrics.setdefault(name, [math.nan] * len(self.history.metric_steps))
            values.append(value)
        self.history.metric_steps.append(step)
        if not self.watch:
            return
        lacking = [name for name in self.watch if name.removeprefix("-") not in metrics]
        if lacking:
            raise ValueError(f"evaluate returned {', '.join(metrics) or 'nothing'}, but "
                             f"watch={lacking[0]!r}; watch one of these")
        ranks = self.ranks()
        if ranks[-1] == max(ranks):
            self.history.best = (step, metrics[self.watch[0].removeprefix("-")])
            self.best = {key: value.clone() for key,
                         value in checkpoints.portable(self.judged.state_dict()).items()}
        since = len(ranks) - 1 - ranks.index(max(ranks))
        self.history.finished = self.patience is not None and since >= self.patience

    def ranks(self) -> list[tuple[float, ...]]:
        """The watched metrics of every evaluation, the higher the better; what is not a number is worst."""
        columns = [[-math.inf if math.isnan(v) else -v if name.startswith("-") else v
                    for v in self.history.metrics[name.removeprefix("-")]] for name in self.watch]
        return list(zip(*columns))

    def save(self, step: int) -> None:
        """Write a checkpoint: the main process for all, with everybody's random states."""
        if self.rows:
            self.look()
        rank = self.accelerator.process_index
        everybody = gather_object([{f"{rank}.{name}": s for name, s in checkpoints.random_states().items()}])
        if self.accelerator.is_main_process:
            moments, settings = checkpoints.pack_optimizer(self.optimizer)
            tensors = {"model": self.model.state_dict(), "optimizer": moments,
                       "random": {name: s for states in everybody for name, s in states.items()}}
            if self.average is not None:
                tensors["ema"] = self.average.module.state_dict()
            if self.best:
                tensors["best"] = self.best
            state = {"about": self.about, "optimizer": settings, "history": self.history._json()}
            checkpoints.save(str(self.folder), checkpoints.Checkpoint(step, state, tensors), self.keep)
        self.accelerator.wait_for_everyone()

    def end(self) -> History:
        """Put the best weights in place where one was watched for; the model ends in eval mode."""
        if self.best:
            checkpoints.fill(self.judged, self.best, "the best evaluation")
        if self.average is not None:
            self.history.ema = self.average.module.eval()
        self.model.eval()
        return self.history


def _check(precision: str, evaluate: Any, watch: str | Sequence[str] | None, patience: int | None,
           lr: float | int | None, schedule: Any) -> None:
    """Raises ``ValueError`` for settings that make no sense together."""
    if precision not in ("no", "bf16"):
        raise ValueError(f"precision is {precision!r}; use 'no' (float32) or 'bf16'")
    if lr is not None and schedule is not None:
        raise ValueError(f"both lr={lr} and a schedule are given; a schedule is the learning rate itself, so "
                         f"drop lr")
    if watch is not None and evaluate is None:
        raise ValueError(f"watch={watch!r} needs evaluate, a function of the model that returns this metric")
    if patience is not None and watch is None:
        raise ValueError(f"patience={patience} needs watch, the name of the metric that should get better")


def _check_numbers(batches: Any, seed: int, lr: float | int | None, clip: float | int | None,
                   ema: float | int | None, **counts: int | None) -> None:
    """Raises ``ValueError`` for a number outside its range, and for batches that are none."""
    for name, count in counts.items():
        if count is not None and not (isinstance(count, Integral) and 1 <= count <= MOST):
            raise ValueError(f"{name} is {count}; take a whole number from 1 to {MOST:,}")
    if not (isinstance(seed, Integral) and 0 <= seed < 2**32):
        raise ValueError(f"seed is {seed}; take a whole number from 0 to {2**32 - 1}")
    if lr is not None and not 0 <= lr <= LARGEST:
        raise ValueError(f"lr is {lr}; a learning rate is a number from 0 up, of single precision")
    if clip is not None and not (0 < clip <= LARGEST or clip == math.inf):
        raise ValueError(f"clip is {clip}; the largest norm of the gradient is more than 0")
    if ema is not None and not 0 <= ema <= 1:
        raise ValueError(f"ema is {ema}; the decay of an average lies between 0 and 1")
    if not (callable(batches) or isinstance(batches, Iterable)):
        raise ValueError(f"batches is {batches!r}; give Batches, a DataLoader, a list, or a function of the "
                         f"batch number")
