"""Weights and optimiser state as full tensors by parameter name, whatever ZeRO did with them.

    model/<parameter or buffer>           the weights
    optimizer/<key>/<parameter>           `exp_avg`, `momentum_buffer`, … in the parameter's shape; `step` as a scalar

DeepSpeed's own checkpoints of ZeRO stages above 0 load only on the number of processes that wrote them. In this form
a run saved by one number of processes and ZeRO stage goes on with any other, and on the same one it goes on bit for
bit: gathering adds zeros to each process's fragment, which changes nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from scaling.errors import UserError
from scaling.train.engine import Engine
from scaling.train.process_group import Processes

STEP = "step"

State = Mapping[str, Tensor]


def capture(engine: Engine, processes: Processes) -> dict[str, Tensor]:
    """Copies on the CPU; called by all processes together, and empty on all but the first."""
    state: dict[str, Tensor] = {}
    for name, tensor in _live_tensors(engine, processes):
        if processes.is_first:
            state[name] = tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    return state


def install(engine: Engine, state: State) -> None:
    """Inverse of `capture`, on a freshly built engine of any number of processes and ZeRO stage."""
    weights = {name.removeprefix("model/"): value for name, value in state.items() if name.startswith("model/")}
    _refuse_other_model(engine, weights)
    engine.model.load_state_dict(weights)
    keys = {name.split("/")[1] for name in state if name.startswith("optimizer/")}
    if engine.plan.engine.zero_stage == 0:
        optimizer = engine.deepspeed_engine.optimizer
        for name, parameter in engine.model.named_parameters():
            optimizer.state[parameter] = {
                key: state[f"optimizer/{key}/{name}"].to(engine.device, copy=True) for key in keys
            }
        return
    zero = engine.deepspeed_engine.optimizer
    for flat, parameters in _partitions(engine):
        zero.optimizer.state[flat] = {key: torch.zeros_like(flat) for key in keys - {STEP}}
        for name, parameter in parameters.items():
            for key in keys - {STEP}:
                _scatter(state[f"optimizer/{key}/{name}"], parameter, zero.optimizer.state[flat][key])
            if STEP in keys:
                zero.optimizer.state[flat][STEP] = state[f"optimizer/{STEP}/{name}"].to(engine.device, copy=True)
    zero.refresh_fp32_params()


def _live_tensors(engine: Engine, processes: Processes) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in engine.model.state_dict().items():
        yield f"model/{name}", tensor
    if engine.plan.engine.zero_stage == 0:
        for name, parameter in engine.model.named_parameters():
            for key, tensor in engine.deepspeed_engine.optimizer.state[parameter].items():
                yield f"optimizer/{key}/{name}", tensor
        return
    for flat, parameters in _partitions(engine):
        for name, parameter in parameters.items():
            for key, tensor in engine.deepspeed_engine.optimizer.optimizer.state[flat].items():
                yield f"optimizer/{key}/{name}", tensor if key == STEP else _gather(tensor, parameter, processes)


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


def _refuse_other_model(engine: Engine, weights: State) -> None:
    own = {name: tuple(tensor.shape) for name, tensor in engine.model.state_dict().items()}
    saved = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    strange = sorted(dict(own.items() ^ saved.items()))
    if strange:
        raise UserError(
            f"the checkpoint's {strange[0]!r} is {saved.get(strange[0], 'missing')} and the model's "
            f"{own.get(strange[0], 'missing')} ({len(strange)} differ): it was written by another version of the "
            "model; move the run's checkpoints away to start again"
        )
