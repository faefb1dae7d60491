"""ViT as in arXiv 2010.11929, on timm's `VisionTransformer`.

Class token, learned 1-D position embeddings, pre-norm blocks, and during upstream training a hidden tanh layer
between class token and classifier (appendix D.3).
"""

from collections import OrderedDict

from timm.layers import GELUTanh
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from scaling.models.networks.init import init_flax_defaults, init_positions_by_waves, init_vit
from scaling.models.networks.vision_model import BuildArguments, VisionModel
from scaling.models.options import VitOptions
from scaling.models.shapes import VitShape, check_patch_grid


def build(shape: VitShape, arguments: BuildArguments, options: VitOptions) -> VisionModel:
    """A ViT at `arguments.image_size`, a multiple of the patch size."""
    check_patch_grid(arguments.name, arguments.image_size, shape.patch_size)
    width = shape.hidden_dim
    body = VisionTransformer(
        img_size=arguments.image_size,
        patch_size=shape.patch_size,
        embed_dim=width,
        depth=shape.num_layers,
        num_heads=shape.num_heads,
        num_classes=0,
        pos_drop_rate=options.dropout,
        proj_drop_rate=options.dropout,
        drop_path_rate=arguments.drop_path,
        act_layer=GELUTanh if options.gelu == "tanh" else nn.GELU,
        weight_init="skip" if options.init == "reference" else "",
    )
    if options.init == "reference":
        init_vit(body)
    if options.position_init == "sincos2d":
        init_positions_by_waves(body)
    pre_logits = None
    if options.pre_logits == "tanh":
        pre_logits = nn.Sequential(OrderedDict(fc=nn.Linear(width, width), act=nn.Tanh()))
        init_flax_defaults(pre_logits)
    model = VisionModel(arguments, family="vit", body=body, num_features=width, pre_logits=pre_logits)
    if options.head_init == "timm":
        nn.init.trunc_normal_(model.head.weight, std=0.02)
    return model
