"""The choices a family offers beside its published shape, checked without torch.

Defaults follow the reference code of the papers; the other value of each switch is timm's default. Unknown
options and impossible values are refused by name.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scaling.errors import UserError, did_you_mean, shown

Init = Literal["reference", "timm"]
Gelu = Literal["tanh", "exact"]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class FamilyOptions(BaseModel):
    """Base of a family's options; a family without any uses it as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def read(cls, model: str, options: Mapping[str, Any]) -> Self:
        """Options of `model` from plain values; `UserError` names the first thing wrong."""
        for key in options:
            if key not in cls.model_fields:
                hint = did_you_mean(key, cls.model_fields) if cls.model_fields else "it has none"
                raise UserError(f"option {shown(key)} is not one of model {model!r}; {hint}")
        try:
            return cls(**options)
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(
                f"option {first['loc'][0]} = {shown(first['input'])} of model {model!r}: {first['msg']}"
            ) from None


class ReferenceOptions(FamilyOptions):
    """Shared by the families of the papers."""

    init: Init = "reference"
    """Initial weights of the body: as in the reference code, or timm's."""
    head_init: Literal["zero", "timm"] = "zero"
    """Initial kernel of the classifier; its bias is always `head_bias`."""


class MixerConvOptions(ReferenceOptions):
    """Mixer (arXiv 2105.01601) in both forms."""

    gelu: Gelu = "tanh"
    """Flax's GELU is the tanh approximation; timm's is exact."""
    drop_path_rule: Literal["linear", "constant"] = "linear"
    """Stochastic depth rising from 0 to `drop_path` over depth (appendix B), or timm's one rate for all."""
    drop_path_rescale: bool = False
    """Divide kept branches by the keep probability, as timm does and the reference code does not."""
    dropout: Rate = 0.0
    """After both layers of every MLP."""
    token_mlp_dim: Count | None = None
    """Hidden width D_S of token mixing; None takes the published one."""


class MixerOptions(MixerConvOptions):
    """Mixer as matrix products, with the ablations of appendix A.1."""

    token_mlps: Count | Literal["per_channel"] = 1
    """Separate token-mixing MLPs, each shared by an equal block of neighbouring channels."""
    token_concat: Count = 1
    """Neighbouring channels that one token-mixing MLP sees at once ("grouping"); D_S stays."""


class VitOptions(ReferenceOptions):
    """ViT (arXiv 2010.11929). Its paper has no stochastic depth; `drop_path` is timm's, linear and rescaled."""

    gelu: Gelu = "tanh"
    """As for Mixer."""
    pre_logits: Literal["tanh", "none"] = "tanh"
    """The hidden tanh layer of the upstream head (appendix D.3); timm and fine-tuning have none."""
    position_init: Literal["normal", "sincos2d"] = "normal"
    """Position embeddings, learned from N(0, 0.02) as in the reference code, or from the sine and cosine waves over
    rows and columns that MoCo v3 (arXiv 2104.02057) and "Better plain ViT baselines" (arXiv 2205.01580) keep fixed: a
    short training does not find positions by itself."""
    dropout: Rate = 0.0
    """After position embeddings, attention output and both layers of every MLP."""


class BitOptions(ReferenceOptions):
    """BiT (arXiv 1912.11370). Its paper has no stochastic depth; `drop_path` is timm's, linear and rescaled."""

    conv_eps: Annotated[float, Field(gt=0.0)] = 1e-10
    """Added to a filter's variance in weight standardisation; timm's BiT models use 1e-8."""
