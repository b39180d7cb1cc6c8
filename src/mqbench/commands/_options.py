"""Types of options that several commands have."""

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mqbench.arguments import Axes, whole

Whole = Annotated[int, Parameter(converter=whole)]
Count = Annotated[int, Parameter(validator=Number(gte=1), converter=whole)]
Files = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
Json = Annotated[bool, Parameter(name="--json", negative=(), show_default=False)]
NO_AXES = Axes()
