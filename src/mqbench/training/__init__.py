"""The one training pipeline: every algorithm is trained by it, with the recipe of the architecture."""

from mqbench.training._batches import BatchPlan as BatchPlan
from mqbench.training._batches import calibration_batches as calibration_batches
from mqbench.training._batches import check_batch as check_batch
from mqbench.training._board import Board as Board
from mqbench.training._check import check_compute as check_compute
from mqbench.training._checkpoint import Checkpoint as Checkpoint
from mqbench.training._checkpoint import check_checkpoint as check_checkpoint
from mqbench.training._checkpoint import saved_for as saved_for
from mqbench.training._evaluation import accuracy as accuracy
from mqbench.training._evaluation import evaluate as evaluate
from mqbench.training._evaluation import in_type_of as in_type_of
from mqbench.training._evaluation import predictions as predictions
from mqbench.training._loop import train as train
from mqbench.training._processes import launch as launch
from mqbench.training._processes import share_statistics as share_statistics
from mqbench.training._result import Training as Training
from mqbench.training._schedule import parameter_groups as parameter_groups
from mqbench.training._schedule import rate_factor as rate_factor
