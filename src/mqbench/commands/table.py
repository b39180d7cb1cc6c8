"""Print the table of a study from its records."""

from mqbench import catalog
from mqbench.arguments import Axes
from mqbench.commands._options import NO_AXES, Files, Flag, Json
from mqbench.commands._print import show_study
from mqbench.commands._size import check_size
from mqbench.store import Store
from mqbench.sweep import check_names, plan


def table(
    study: str | None = None,
    /,
    *,
    axes: Axes = NO_AXES,
    store: str = "runs",
    agreement: Flag = False,
    load: Files = (),
    as_json: Json = False,
) -> int:
    """Print the table of a study from its records; nothing is run.

    The options from --architecture to --float-batch are the axes of a study:
    several values, separated by commas, in place of its own. Without a study
    they make one; of a single option not given, its default counts.

    Args:
        study: A study that ships, or a TOML file; without it and without axes, the default study.
        axes: In place of the study's.
        store: Folder of the records.
        agreement: Show how often networks classify as the float network does, instead of accuracy.
        load: Python files that add algorithms, observers and so on.
        as_json: Print JSON.

    Examples:
        mqbench table
        mqbench table ptq --store runs --agreement
        mqbench table --algorithm lsq,pact --backend academic,tvm --bits 4 --seeds 0,1 --json
    """
    for path in load:
        catalog.load(path)
    asked = axes.study(study)
    check_names(asked.settings().examples())
    check_size(asked, "a table")
    runs = plan(asked.settings())
    check_names(runs)
    records = Store(store)
    records.check_readable()
    found = [record for setting in runs if (record := records.get(setting)) is not None]
    show_study(asked, records, found, missing=len(runs) - len(found), as_json=as_json, agreement=agreement)
    return 0


COMMAND = table
