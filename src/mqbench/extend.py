"""What a file from outside the package builds on: the base classes of every catalog."""

from mqbench.algorithm import Algorithm
from mqbench.algorithms._clipping import ClippedActivation
from mqbench.algorithms._ranges import MovingRange, RangeQuantizer, WeightRange
from mqbench.architectures._base import Architecture, Recipe
from mqbench.backends._base import Backend, Overrides
from mqbench.data._base import Dataset, Preprocessing, Split, Splits, TensorSplit
from mqbench.folding._base import BatchNormTensors, Folding
from mqbench.functional import apply, uniform
from mqbench.fused.elementwise import Elementwise
from mqbench.observers._base import Observer
from mqbench.quantizer import FakeQuantize, Role
from mqbench.scheme import QParams, QuantScheme
from mqbench.tools._base import Job, Tool

__all__ = [
    "Algorithm",
    "Architecture",
    "Backend",
    "BatchNormTensors",
    "ClippedActivation",
    "Dataset",
    "Elementwise",
    "FakeQuantize",
    "Folding",
    "Job",
    "MovingRange",
    "Observer",
    "Overrides",
    "Preprocessing",
    "QParams",
    "QuantScheme",
    "RangeQuantizer",
    "Recipe",
    "Role",
    "Split",
    "Splits",
    "TensorSplit",
    "Tool",
    "WeightRange",
    "apply",
    "uniform",
]
