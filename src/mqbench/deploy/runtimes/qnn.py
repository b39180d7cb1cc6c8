"""Qualcomm's QNN: its HTP backend, as built for x86, through ONNX Runtime's plugin; for correctness, not for speed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.program import Program
from mqbench.deploy.runtimes._base import Fault, Node, Runtime
from mqbench.deploy.runtimes.onnxruntime import OnnxSession, operations_of, precision_of
from mqbench.errors import IncompatibleError, RequestError

FORM = "qnn"
_PROVIDER, _NAME = "QNNExecutionProvider", "mqbench.qnn"
_registered: list[str] = []


class _Session(OnnxSession):
    """The compiler wants every size, so there is a session for each size of a batch that comes."""

    form = FORM

    def __init__(
        self,
        program: Program,
        file: Path | None,
        threads: int,
        watched: Sequence[str],
        options: Mapping[str, Any],
    ) -> None:
        self._sessions: dict[int, Any] = {}
        super().__init__(program, file, threads, watched, {"optimization": "all", **options})

    def _open(self, dump: Path | None = None) -> Any:
        return self._of_size(1)

    def run(self, *inputs: Tensor) -> dict[str, Tensor]:
        """One batch."""
        self._session = self._of_size(len(inputs[0]))
        return super().run(*inputs)

    def nodes(self) -> list[Node]:
        """What the plugin took, in integers, and what it left to ONNX Runtime."""
        known = {op.name: op for op in self._program.operations}
        return [
            Node(
                name=node.name,
                kind=f"{part.ep_name.removeprefix('mqbench.')} {node.op_type}",
                precision=precision_of(node.op_type, inside=part.ep_name == _NAME),
                operations=operations_of([node.name], known),
            )
            for part in self._of_size(1).get_provider_graph_assignment_info()
            for node in part.get_nodes()
        ]

    def _of_size(self, batch: int) -> Any:
        if batch not in self._sessions:
            self._sessions[batch] = self._compile(batch)
        return self._sessions[batch]

    def _compile(self, batch: int) -> Any:
        import onnx

        model = onnx.load_from_string(self._bytes)
        for value in (*model.graph.input, *model.graph.output):
            size = value.type.tensor_type.shape.dim[0]
            size.ClearField("dim_param")
            size.dim_value = batch
        chosen = self._engine.SessionOptions()
        chosen.log_severity_level = 4
        chosen.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        chosen.add_provider_for_devices([_device(self._engine)], {"backend_type": "htp"})
        try:
            session = self._engine.InferenceSession(model.SerializeToString(), chosen)
        except Exception as error:  # the engine raises classes of its own for whatever it refuses
            raise RequestError(f"qnn refuses the file: {str(error).strip().partition(chr(10))[0]}") from error
        parts = session.get_provider_graph_assignment_info()
        if not any(part.ep_name == _NAME for part in parts):
            raise IncompatibleError(
                "qnn takes no part of this network; it wants weights without zero points or per tensor, and graph 3"
            )
        return session


def _device(engine: Any) -> Any:
    """The plugin's device, registered once in a process."""
    import onnxruntime_qnn

    if not _registered:
        engine.register_execution_provider_library(_NAME, onnxruntime_qnn.get_library_path())
        _registered.append(_NAME)
    return next(device for device in engine.get_ep_devices() if device.ep_name == _NAME)


def _clipped_above_the_grid(program: Program) -> list[str]:
    """Layers whose ReLU is not the lower end of their grid."""
    return [
        layer.name
        for layer in program.layers()
        if (grid := program.grid(layer.name)) is not None
        and layer.clip is not None
        and layer.clip[0] > grid.quant_min
    ]


RUNTIME = Runtime(
    package="onnxruntime_qnn",
    distribution="onnxruntime-qnn",
    extra="qnn",
    form=FORM,
    arithmetic=Arithmetic(),
    open=_Session,
    faults=(
        Fault(
            name="dropped ReLU",
            about=(
                "QNN fuses convolution, ReLU and quantizer, and leaves out the ReLU where zero is not the lowest "
                "integer, so negative values come through"
            ),
            cure="asymmetric activations (backend snpe), whose lowest integer is zero behind a ReLU",
            concerns=_clipped_above_the_grid,
        ),
    ),
    one_step=(
        "HTP requantizes its sums by a rule that Qualcomm does not publish; some integers in a hundred differ, by "
        "up to two steps"
    ),
    timed=False,  # an emulation of another processor
)
