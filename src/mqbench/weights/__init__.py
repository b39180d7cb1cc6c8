"""Float networks whose weights are given: timm's hub, a local file, a file that a package holds."""

from mqbench.weights._load import FloatNetwork as FloatNetwork
from mqbench.weights._load import check_weights as check_weights
from mqbench.weights._load import load_float_network as load_float_network
from mqbench.weights._match import Report as Report
