"""Pretrained networks that are worth a try, by short names, with facts of each.

Parameters and sizes are those of timm and torchvision (a test compares them). The licence is that
of the weights, as those state it who publish the files.
"""

from typing import NamedTuple


class Recommended(NamedTuple):
    """A network, and what a person chooses it by.

    Attributes:
        short: the name to type.
        name: the one that `build_backbone` takes, and run.json keeps.
        parameters: millions, without a classifier.
        gmacs: billions of multiplications with an addition, of one image of 224 px.
        size: side in pixels of the images that it was trained on.
        licence: of its weights.
        trained: by what.
        words: the network of open_clip's that has the same image side, and a text side; "" of none.
    """

    short: str
    name: str
    parameters: float
    gmacs: float
    size: int
    licence: str
    trained: str
    words: str = ""

    @property
    def free(self) -> bool:
        """Whether anybody may use, change and pass on the weights for any purpose."""
        return self.licence != _META


_APACHE, _BSD, _META = "Apache-2.0", "BSD-3-Clause", "DINOv3, not free"
_IN1K, _IN22K, _CAPTIONS = "ImageNet-1k", "ImageNet-22k", "captions"
_ALONE = "no labels"
_SIGLIP, _CLIP = "vit_base_patch16_siglip_224.v2_webli", "vit_base_patch16_clip_224.openai"
_SIGLIP_WORDS, _CLIP_WORDS = "open_clip/ViT-B-16-SigLIP2@webli", "open_clip/ViT-B-16@openai"
# fmt: off
_ROWS = (
    ("efficientnet-lite0", "timm/tf_efficientnet_lite0.in1k", 3.4, 0.38, 224, _APACHE, _IN1K),
    ("efficientnet-lite1", "timm/tf_efficientnet_lite1.in1k", 4.1, 0.50, 240, _APACHE, _IN1K),
    ("efficientnet-lite2", "timm/tf_efficientnet_lite2.in1k", 4.8, 0.58, 260, _APACHE, _IN1K),
    ("resnet18", "resnet18", 11.2, 1.8, 224, _BSD, _IN1K),
    ("resnet50", "resnet50", 23.5, 4.1, 224, _BSD, _IN1K),
    ("convnext-t", "timm/convnext_tiny.fb_in22k", 27.8, 4.5, 224, _APACHE, _IN22K),
    ("convnext-b", "timm/convnext_base.fb_in22k", 87.6, 15.4, 224, _APACHE, _IN22K),
    ("dinov2-s", "timm/vit_small_patch14_dinov2.lvd142m", 22.1, 6.1, 518, _APACHE, _ALONE),
    ("dinov2-b", "timm/vit_base_patch14_dinov2.lvd142m", 86.6, 23.2, 518, _APACHE, _ALONE),
    ("dinov2-l", "timm/vit_large_patch14_dinov2.lvd142m", 304.4, 81.0, 518, _APACHE, _ALONE),
    ("dinov3-s", "timm/vit_small_patch16_dinov3.lvd1689m", 21.6, 4.7, 256, _META, _ALONE),
    ("dinov3-b", "timm/vit_base_patch16_dinov3.lvd1689m", 85.6, 17.9, 256, _META, _ALONE),
    ("siglip2-b", f"timm/{_SIGLIP}", 92.9, 17.7, 224, _APACHE, _CAPTIONS, _SIGLIP_WORDS),
    ("clip-b", f"timm/{_CLIP}", 85.8, 17.6, 224, _APACHE, _CAPTIONS, _CLIP_WORDS),
)
# fmt: on
JOIN = "+"  # between the names of networks that stand side by side
RECOMMENDED = {str(row[0]): Recommended(*row) for row in _ROWS}


def true_name(backbone: str) -> str:
    """The name of a network, or of several that are joined, that may have been called shortly."""
    several = backbone.split(JOIN)
    return JOIN.join(RECOMMENDED[one].name if one in RECOMMENDED else one for one in several)
