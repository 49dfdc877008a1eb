"""Networks: each takes uint8 or unit-range images [B,ch,H,W] and gives logits [B,K].

Their options, and what these may be, are in architectures.py.
"""

from synpriv.models.network import Network as Network
from synpriv.models.patches import convnext_tiny as convnext_tiny
from synpriv.models.patches import vit_tiny as vit_tiny
from synpriv.models.plain import convnet as convnet
from synpriv.models.plain import convnet3 as convnet3
from synpriv.models.residual import resnet18 as resnet18
from synpriv.models.residual import resnet34 as resnet34
from synpriv.models.residual import wrn16_4 as wrn16_4
from synpriv.models.residual import wrn28_2 as wrn28_2
