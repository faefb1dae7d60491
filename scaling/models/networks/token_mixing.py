"""Token-mixing MLPs with other sharing than Mixer's one MLP for all channels (appendix A.1 of its paper).

Two independent changes: several MLPs instead of one, each for an equal block of neighbouring channels (as many
as channels: "untying the parameters"); and `concat` neighbouring channels laid end to end, so that one MLP mixes
S * concat values ("grouping the channels together"). The paper saw at most 1-2 % from either.
"""

import torch
from timm.layers.weight_init import trunc_normal_tf_
from torch import nn

from scaling.errors import UserError

# Standard deviation of a unit normal cut at two standard deviations: Flax divides by it to get variance 1/fan_in.
STD_OF_CUT_NORMAL = 0.87962566103423978


class StackedLinear(nn.Module):
    """`num` linear layers side by side, (num, N, inputs) to (num, N, outputs)."""

    def __init__(self, num: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(num, 1, outputs))
        trunc_normal_tf_(self.weight, std=inputs**-0.5 / STD_OF_CUT_NORMAL)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias, vectors, self.weight.mT)


class TokenMlps(nn.Module):
    """Takes the place of a Mixer block's token-mixing MLP: (B, C, S) to (B, C, S)."""

    def __init__(
        self,
        *,
        num_channels: int,
        num_tokens: int,
        hidden_dim: int,
        num_mlps: int,
        concat: int,
        activation: nn.Module,
        dropout: float,
    ) -> None:
        """`num_mlps * concat` must divide `num_channels`; `hidden_dim` is the width D_S of every MLP."""
        super().__init__()
        if num_channels % (num_mlps * concat):
            raise UserError(
                f"token_mlps = {num_mlps} times token_concat = {concat} must divide the {num_channels} channels; "
                "powers of two do"
            )
        self.num_mlps = num_mlps
        self.concat = concat
        self.fc1 = StackedLinear(num_mlps, num_tokens * concat, hidden_dim)
        self.act = activation
        self.drop1 = nn.Dropout(dropout)
        self.fc2 = StackedLinear(num_mlps, hidden_dim, num_tokens * concat)
        self.drop2 = nn.Dropout(dropout)

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        batch, num_channels, num_tokens = channels.shape
        vectors = channels.reshape(batch, self.num_mlps, -1, num_tokens * self.concat)
        stacked = vectors.transpose(0, 1).flatten(1, 2)
        stacked = self.drop1(self.act(self.fc1(stacked)))
        stacked = self.drop2(self.fc2(stacked))
        vectors = stacked.unflatten(1, (batch, -1)).transpose(0, 1)
        return vectors.reshape(batch, num_channels, num_tokens)
