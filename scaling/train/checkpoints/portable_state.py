"""Weights and optimiser state as full tensors by parameter name, whatever ZeRO did with them.

    model/<parameter or buffer>           the weights
    optimizer/<key>/<parameter>           `exp_avg`, `momentum_buffer`, … in the parameter's shape; `step` as a scalar

DeepSpeed's own checkpoints of ZeRO stages above 0 load only on the number of processes that wrote them. In this form
a run saved by one number of processes and ZeRO stage resumes on any other, and on the same one it resumes bit for
bit: gathering adds zeros to each process's fragment, which changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scaling.errors import UserError
from scaling.train.processes.process_group import Processes
from scaling.train.step.engine import Engine

STEP = "step"

MODEL = "model/"


def weights(engine: Engine) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, as they are on the device."""
    for name, tensor in engine.model.state_dict().items():
        yield f"{MODEL}{name}", tensor


def optimizer_state(engine: Engine, processes: Processes) -> Iterator[tuple[str, Tensor]]:
    """What the optimiser remembers; all processes go through it together, and each meets the full tensors."""
    if engine.plan.engine.zero_stage == 0:
        for name, parameter in engine.model.named_parameters():
            for key, tensor in engine.deepspeed_engine.optimizer.state[parameter].items():
                yield f"optimizer/{key}/{name}", tensor
        return
    for flat, parameters in _partitions(engine):
        for name, parameter in parameters.items():
            for key, tensor in engine.deepspeed_engine.optimizer.optimizer.state[flat].items():
                yield f"optimizer/{key}/{name}", tensor if key == STEP else _gather(tensor, parameter, processes)


Shapes = Mapping[str, Sequence[int]]


def install(engine: Engine, shapes: Shapes, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Inverse of `weights` and `optimizer_state`, on a freshly built engine of any number of processes and ZeRO stage.

    `shapes` names all tensors before any of them comes; they come one by one, on the engine's device, so that no
    process ever holds a second copy of the whole state.
    """
    _refuse_other_model(engine, shapes)
    own = engine.model.state_dict()
    parameters = dict(engine.model.named_parameters())
    place = _place_in_optimizer if engine.plan.engine.zero_stage == 0 else _place_in_partition
    homes = {} if engine.plan.engine.zero_stage == 0 else _homes(engine)
    _forget_optimizer(engine, homes)
    with torch.no_grad():
        for name, tensor in tensors:
            kind, _, rest = name.partition("/")
            if kind == "model":
                own[rest].copy_(tensor)
            else:
                key, _, parameter = rest.partition("/")
                place(engine, key, parameters[parameter], tensor, homes)
    if engine.plan.engine.zero_stage > 0:
        engine.deepspeed_engine.optimizer.refresh_fp32_params()


def _forget_optimizer(engine: Engine, homes: dict[int, Tensor]) -> None:
    """DeepSpeed may have filled the state already, by a step of its own."""
    optimizer = engine.deepspeed_engine.optimizer
    if engine.plan.engine.zero_stage == 0:
        for parameter in engine.model.parameters():
            optimizer.state[parameter] = {}
    for flat in homes.values():
        optimizer.optimizer.state[flat] = {}


def _place_in_optimizer(engine: Engine, key: str, parameter: Any, tensor: Tensor, homes: dict[int, Tensor]) -> None:
    engine.deepspeed_engine.optimizer.state[parameter][key] = tensor.to(engine.device, copy=True)


def _place_in_partition(engine: Engine, key: str, parameter: Any, tensor: Tensor, homes: dict[int, Tensor]) -> None:
    """The slice that this process keeps of a parameter's state; nothing when it keeps none of it."""
    flat = homes[id(parameter)]
    state = engine.deepspeed_engine.optimizer.optimizer.state[flat]
    if key == STEP:
        state[STEP] = tensor.to(engine.device, copy=True)
        return
    if key not in state:
        state[key] = torch.zeros_like(flat)
    _scatter(tensor.to(engine.device), parameter, state[key])


def _homes(engine: Engine) -> dict[int, Tensor]:
    """By the identity of a parameter: the flat partition of its group."""
    zero = engine.deepspeed_engine.optimizer
    return {
        id(parameter): flat
        for flat, parameters in zip(zero.single_partition_of_fp32_groups, zero.bit16_groups, strict=True)
        for parameter in parameters
    }


def _partitions(engine: Engine) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """This process's part of each group's flat weights under ZeRO 1 or 2, and the group's parameters by name."""
    zero = engine.deepspeed_engine.optimizer
    names = {id(parameter): name for name, parameter in engine.model.named_parameters()}
    for flat, parameters in zip(zero.single_partition_of_fp32_groups, zero.bit16_groups, strict=True):
        yield flat, {names[id(parameter)]: parameter for parameter in parameters}


# A parameter's `_hp_mapping` says which slice of it lies where in the flat partition, None when nothing of it does.
# DeepSpeed's own `safe_get_full_optimizer_state` reads it too, but knows no state of any parameter group after the
# first: it looks for the state once, after the first group's step.


def _gather(flat_value: Tensor, parameter: Any, processes: Processes) -> Tensor:
    full = torch.zeros(parameter.numel(), dtype=flat_value.dtype, device=flat_value.device)
    if parameter._hp_mapping is not None:
        here, there = parameter._hp_mapping.lp_fragment_address, parameter._hp_mapping.hp_fragment_address
        full[here.start : here.start + here.numel] = flat_value[there.start : there.start + there.numel]
    return processes.sum(full).view(parameter.shape)


def _scatter(full: Tensor, parameter: Any, flat_value: Tensor) -> None:
    if parameter._hp_mapping is not None:
        here, there = parameter._hp_mapping.lp_fragment_address, parameter._hp_mapping.hp_fragment_address
        flat_value[there.start : there.start + there.numel] = full.flatten()[here.start : here.start + here.numel]


def _refuse_other_model(engine: Engine, shapes: Shapes) -> None:
    """UserError unless the state has exactly the model's tensors, and each of the optimiser's for every parameter."""
    own = {f"{MODEL}{name}": tuple(tensor.shape) for name, tensor in engine.model.state_dict().items()}
    keys = {name.split("/")[1] for name in shapes if name.startswith("optimizer/")}
    for name, parameter in engine.model.named_parameters():
        own |= {f"optimizer/{key}/{name}": () if key == STEP else tuple(parameter.shape) for key in keys}
    saved = {name: tuple(shape) for name, shape in shapes.items()}
    strange = sorted(dict(own.items() ^ saved.items()))
    if strange:
        raise UserError(
            f"the checkpoint's {strange[0]!r} is {saved.get(strange[0], 'missing')} and the model's "
            f"{own.get(strange[0], 'missing')} ({len(strange)} differ): it was written by another version of the "
            "model; move the run's checkpoints away to start again"
        )
