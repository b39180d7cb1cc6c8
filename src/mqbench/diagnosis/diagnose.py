"""`diagnose`: one row per quantizer (or layer), with what it costs the network."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import fx

from mqbench.diagnosis.examination import examine
from mqbench.errors import RequestError

if TYPE_CHECKING:
    import polars

By = Literal["quantizer", "layer"]


def diagnose(
    model: fx.GraphModule,
    batches: Iterable[Any],
    *,
    by: By = "quantizer",
    sensitivity_images: int = 64,
) -> "polars.DataFrame":
    """Measure what each quantizer costs a network; the one that hurts most comes first.

    SQNR is 10 log10(sum x^2 / sum (y - x)^2) in dB, infinite where nothing differs. ``only_*`` and
    ``without_*`` are the whole network's: with only this quantizer (everything else in float), and with all
    but it. Of a converted network the float weights are not known, so that weights have integer statistics
    only, and "float" means: without the quantizers of activations; a prepared network tells more.

    Columns by quantizer: ``quantizer`` (its path), ``role``, ``layer`` (that it belongs to), ``bits``,
    ``per_channel``, ``symmetric``, ``sqnr_db`` and ``cosine`` (of its output to its input),
    ``clipped_percent`` (values outside its range), ``clipping_noise_percent`` (of the squared error),
    ``range_used_percent`` (of its integers, from the smallest to the largest that occurs),
    ``effective_bits`` (entropy of the integers), ``channels``, ``dead_channels`` (that are all zero after
    quantization), ``channel_spread`` (largest peak of a channel over their median), ``accumulated_sqnr_db``
    (against the float network's tensor), then ``only_`` and ``without_`` with ``sqnr_db`` of the output,
    ``agreement`` with the float network's top-1 and ``accuracy``, both in percent.

    Columns by layer, whose weight and input quantizers are taken together: ``layer``, ``weight_bits``,
    ``input_bits``, ``weight_sqnr_db``, ``input_sqnr_db``, ``output_sqnr_db`` and ``output_cosine``
    (of the layer's output, against the float network's), ``only_*``, ``without_*``.

    Args:
        model: from `mqbench.prepare`, calibrated, or from `mqbench.convert`; it is not changed.
        batches: tensors, tuples of tensors for several inputs, or (images, integer labels) pairs. They
            are read once, and only the images of the sensitivities are kept.
        by: one row per ``"quantizer"`` or per ``"layer"``.
        sensitivity_images: the first so many images give the ``only_`` and ``without_`` columns, at the cost
            of about one forward pass per quantizer; 0 leaves them empty.

    Raises:
        RequestError: no batch, another kind of network, or an argument that is not allowed.
        CalibrationError: a quantizer without parameters.

    >>> import torch, mqbench
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3))
    >>> x = torch.randn(4, 3, 8, 8)
    >>> q = mqbench.prepare(net, x, backend="tensorrt", algorithm="ptq", bits=4)
    >>> mqbench.calibrate(q, [x])
    >>> diagnose(q, [x])["quantizer"].sort().to_list()
    ['0.weight', '2.weight', 'activation_quantizers._0_input', 'activation_quantizers._2_input']
    """
    import polars

    if by not in get_args(By):
        raise RequestError(f"by must be 'quantizer' or 'layer', got {by!r}")
    found = examine(model, batches, sensitivity=sensitivity_images)
    return polars.DataFrame(found.quantizers if by == "quantizer" else found.layers, infer_schema_length=None)
