"""BiT ResNets as in arXiv 1912.11370, on timm's `ResNetV2`.

Pre-activation bottlenecks, group normalisation, weight-standardised convolutions, the stride on the 3x3. The
Adam-trained "ResNet (BiT)" of the ViT and Mixer papers is described only as a ResNet with both; this is BiT's own.
"""

from functools import partial

from timm.layers import GroupNormAct, StdConv2d
from timm.models.resnetv2 import ResNetV2
from torch import nn

from scaling.models.networks.init import init_flax_defaults
from scaling.models.networks.vision_model import BuildArguments, VisionModel
from scaling.models.options import BitOptions
from scaling.models.shapes import BitShape


def build(shape: BitShape, arguments: BuildArguments, options: BitOptions) -> VisionModel:
    """A BiT ResNet; it takes images of any size, so `arguments.image_size` is only recorded."""
    body = ResNetV2(
        layers=list(shape.blocks),
        channels=shape.channels,
        width_factor=shape.width_factor,
        stem_chs=shape.channels[0] // 4,
        stem_type="fixed",
        conv_layer=partial(StdConv2d, eps=options.conv_eps),
        norm_layer=partial(GroupNormAct, num_groups=shape.num_groups),
        drop_path_rate=arguments.drop_path,
        num_classes=0,
    )
    if options.init == "reference":
        init_flax_defaults(body)
    model = VisionModel(arguments, family="bit", body=body, num_features=body.num_features)
    if options.head_init == "timm":
        nn.init.normal_(model.head.weight, std=0.01)
    return model
