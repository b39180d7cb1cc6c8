"""Studies: what a grid expands to, and what a bad file is told."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mqbench import study
from mqbench.errors import RequestError, UnknownNameError
from mqbench.record import Setting
from mqbench.study import Study, load_study

BASE: dict[str, Any] = {"architecture": "a", "dataset": "d"}


def expand(axes: dict[str, Any], **more: Any) -> list[Setting]:
    return list(Study(name="s", axes=BASE | axes, **more).settings())


def subsets(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


def test_the_default_study_is_72_runs_from_one_float_network() -> None:
    settings = list(load_study("default").settings())
    assert len(settings) == len(set(settings)) == 72
    assert {s.float_setting for s in settings} == {Setting(architecture="digits_resnet", dataset="digits")}
    assert {s.algorithm for s in settings} == {"lsq", "pact", "dorefa", "dsq"}
    assert {s.backend for s in settings} == {"academic", "tensorrt", "acl", "tvm", "snpe", "fbgemm"}
    assert {(s.bits, s.first_last_bits) for s in settings} == {((4, 4), 8)}
    assert {s.seed for s in settings} == {0, 1, 2}


@given(
    algorithms=subsets(["lsq", "pact", "dsq"]),
    backends=subsets(["academic", "tvm", "acl"]),
    bits=subsets([2, 4, "w4a8"]),
    seeds=subsets([0, 1, 7]),
)
def test_a_grid_is_the_product_of_its_axes(
    algorithms: list[str], backends: list[str], bits: list[Any], seeds: list[int]
) -> None:
    settings = expand({"algorithms": algorithms, "backend": backends, "bits": bits, "seeds": seeds})
    pairs = [(4, 8) if b == "w4a8" else (b, b) for b in bits]
    expected = list(itertools.product(algorithms, backends, pairs, seeds))
    assert [(s.algorithm, s.backend, s.bits, s.seed) for s in settings] == expected


@given(
    axes=st.fixed_dictionaries(
        {"algorithm": subsets(["float", "lsq", "pact"]).filter(lambda names: names != ["float"])},
        optional={
            "backend": subsets(["academic", "tvm"]),
            "bits": subsets([3, 4]),
            "bn_folding": subsets([-1, 4]),
            "epochs": subsets([1, 2]),
            "seed": subsets([0, 1]),
        },
    ),
    include=st.lists(st.fixed_dictionaries({"algorithm": st.sampled_from(["lsq", "dsq"])}), max_size=2),
    exclude=st.lists(st.fixed_dictionaries({"seed": st.just([0])}), max_size=1),
)
def test_every_study_expands_to_distinct_settings(
    axes: dict[str, Any], include: list[Any], exclude: list[Any]
) -> None:
    if exclude:
        axes = {**axes, "seed": [0, 1]}
    settings = expand(axes, include=include, exclude=exclude)
    assert len({s.key for s in settings}) == len(settings)
    if exclude and not include:
        assert not {s.seed for s in settings} & set(exclude[0]["seed"])


def test_settings_are_lazy() -> None:
    huge = {"seeds": list(range(1000)), "bits": ["w4a8", 4], "epochs": list(range(1000))}
    first = next(iter(Study(name="s", axes=BASE | {"algorithm": "lsq"} | huge).settings()))
    assert first.bits == (4, 8)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [(4, [(4, 4)]), ("4", [(4, 4)]), ("w4a8", [(4, 8)]), ([4, 8], [(4, 4), (8, 8)]), ([[4, 8]], [(4, 8)])],
)
def test_spellings_of_bits(bits: Any, expected: list[tuple[int, int]]) -> None:
    assert [s.bits for s in expand({"algorithm": "lsq", "bits": bits})] == expected


def test_float_takes_what_it_can_of_the_grid() -> None:
    settings = expand({"algorithms": ["float", "lsq"], "backend": "tvm", "bits": [4, 8], "seeds": [0, 1]})
    floats = [s for s in settings if s.algorithm == "float"]
    assert floats == [Setting(**BASE, seed=0), Setting(**BASE, seed=1)]
    assert len(settings) == 2 + 4


def test_exclude_leaves_out_settings_that_have_a_value_of_every_axis() -> None:
    axes = {"algorithms": ["lsq", "pact"], "backends": ["academic", "tvm"]}
    settings = expand(axes, exclude=[{"algorithms": ["pact", "dsq"], "backend": "tvm"}])
    assert [(s.algorithm, s.backend) for s in settings] == [
        ("lsq", "academic"),
        ("lsq", "tvm"),
        ("pact", "academic"),
    ]


def test_include_is_the_grid_once_more_with_other_values() -> None:
    axes = {"algorithms": ["lsq", "pact"], "backend": "tvm", "seeds": [0, 1]}
    settings = expand(axes, include=[{"algorithm": "apot", "backend": "academic"}])
    added = [(s.algorithm, s.backend, s.seed) for s in settings[4:]]
    assert added == [("apot", "academic", 0), ("apot", "academic", 1)]


def test_replaced_axes() -> None:
    small = load_study("default").replaced({"seeds": ("5",), "algorithm": "lsq"})
    assert small.name == "default"
    assert [(s.algorithm, s.seed) for s in small.settings()] == [("lsq", 5)] * 6


def test_replaced_axes_restrict_what_is_included() -> None:
    include = ({"algorithm": ("dsq", "pact")}, {"backend": ("snpe",)}, {"bits": (8,)})
    study = Study(name="s", axes=BASE | {"algorithm": "lsq", "backend": "tvm"}, include=include)
    settings = study.replaced({"algorithm": ("lsq", "pact"), "backend": "tvm"}).settings()
    found = [(s.algorithm, s.backend, s.bits) for s in settings if s.bits]
    assert found == [
        ("lsq", "tvm", (4, 4)), ("pact", "tvm", (4, 4)), ("lsq", "tvm", (8, 8)), ("pact", "tvm", (8, 8)),
    ]  # fmt: skip


def test_what_cannot_go_together_is_refused_or_left_out() -> None:
    include = ({"bn_calibration": (200,)}, {"bits": (8,)})
    study = Study(name="s", axes=BASE | {"algorithm": "ptq", "backend": "snpe"}, include=include)
    corrected = study.replaced({"bias_correction": 128})
    assert [setting.bits for setting in corrected.settings()] == [(4, 4), (8, 8)]
    with pytest.raises(RequestError, match="give bn_calibration or bias_correction, not both"):
        corrected.replaced({"bn_calibration": 200})
    with pytest.raises(ValidationError, match="give epochs or steps, not both"):
        Study(name="s", axes=BASE | {"epochs": 2, "steps": (3,)})


def test_axes_of_an_include_may_stand_above_it() -> None:
    settings = expand({"backend": "tvm"}, include=[{"algorithm": "lsq"}])
    assert [(s.algorithm, s.backend) for s in settings] == [("float", None), ("lsq", "tvm")]


def test_replaced_by_what_is_left_out() -> None:
    grid = Study(name="s", axes=BASE | {"algorithms": ["lsq", "pact"]}, exclude=({"algorithm": ("pact",)},))
    with pytest.raises(RequestError, match="nothing of the study is left"):
        grid.replaced({"algorithm": "pact"})


def test_a_file_takes_its_name_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('architecture = "a"\ndataset = "d"\nalgorithm = "lsq"\nlearning_rate = 0.1\n')
    assert load_study(path).name == "mine"
    assert [s.learning_rate for s in load_study(str(path)).settings()] == [0.1]
    path.write_text(path.read_text() + 'name = "yours"\ntitle = "T"\n')
    assert (load_study(path).name, load_study(path).title) == ("yours", "T")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("=", ["not valid TOML", "line 3"]),
        ("sead = 1", ["'sead'", "seed", "did you mean", "bn_folding", "include"]),
        ("bits = 40", ["bits", "40", "16"]),
        ('bits = "w4"', ["bits", "w4", "w4a8"]),
        ("bits = 4.0", ["bits", "4.0"]),
        ("bits = [[4]]", ["bits", "[4]"]),
        ("seeds = 'zero'", ["seed", "integer", "'zero'"]),
        ("seed = -1", ["seed", "0", "-1"]),
        ("seed = true", ["seed", "true"]),
        ("epochs = 1.5", ["epochs", "integer", "1.5"]),
        ("learning_rate = nan", ["learning_rate", "finite"]),
        ("graph = 7", ["graph", "1, 2 or 3", "7"]),
        ("algorithms = []", ["algorithm", "empty"]),
        ("algorithm = 3", ["algorithm", "string", "3"]),
        ("algorithm = 'x'\nalgorithms = 'y'", ["algorithm", "twice"]),
        ("name = ''", ["name", "at least 1"]),
        ("title = 3", ["title", "string"]),
        ("include = 3", ["include", "3"]),
        ("include = [3]", ["include", "3"]),
        ("include = [{foo = 3}]", ["include", "foo", "algorithm"]),
        ("exclude = [{bits = 99}]", ["exclude", "bits", "99"]),
        ("axes = 3", ["'axes'"]),
        ('backends = ["tvm"]\nbits = 4', ["algorithm is missing", "backend, bits"]),
        ('algorithm = "float"\nbackends = ["nosuch"]', ["float network takes no backend"]),
        ('algorithm = "float"\nfloat_seed = 3', ["float network takes no float_seed"]),
        ('algorithm = "lsq"\ninclude = [{algorithm = "float", backend = "nosuch"}]', ["takes no backend"]),
        ('algorithm = "lsq"\nexclude = [{}]', ["exclude", "empty table"]),
        ('algorithm = "lsq"\nexclude = [{algorithm = "lsq"}]', ["exclude", "nothing of the study is left"]),
    ],
)
def test_a_bad_file_gets_one_sentence(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(f'architecture = "a"\ndataset = "d"\n{text}\n')
    with pytest.raises(RequestError) as caught:
        load_study(path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in [str(path), *words]), message


def test_architecture_and_dataset_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('dataset = "d"\n')
    with pytest.raises(RequestError, match="architecture is missing"):
        load_study(path)


def test_studies_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"unknown study 'defaults' \(did you mean 'default'\?\)"):
        load_study("defaults")
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(RequestError, match=f"cannot read study {path}"):
            load_study(path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="not valid TOML"):
        load_study(tmp_path / "binary.toml")


def test_every_study_that_ships_is_whole() -> None:
    assert "default" in study.names()
    for name in study.names():
        assert load_study(name).title
        assert next(iter(load_study(name).settings()))


def test_unknown_axes_from_python() -> None:
    with pytest.raises(ValidationError, match="sead"):
        expand({"sead": 1})
    with pytest.raises(UnknownNameError):
        load_study("default").replaced({"sead": 1})


def test_calibration_studies_train_nothing_and_start_from_given_weights() -> None:
    for name in ("ptq", "ptq_4bit"):
        settings = list(load_study(name).settings())
        assert {(s.epochs, s.algorithm, bool(s.weights)) for s in settings} == {(0, "ptq", True)}
        assert {s.seed for s in settings} == {0, 1, 2}
    combinations = {(s.activation_calibration, s.weight_calibration) for s in load_study("ptq").settings()}
    assert {activation for activation, _ in combinations} == {weight for _, weight in combinations}
    of_table_10 = {
        ("minmax", "minmax"),
        ("mse", "minmax"),
        ("kld", "minmax"),
        ("quantile", "minmax"),
        ("mse", "mse"),
    }
    assert of_table_10 < combinations


def test_an_override_gives_other_values_where_it_says() -> None:
    settings = expand(
        {"algorithms": ["float", "lsq", "dsq"], "backends": ["tvm", "acl"], "epochs": 9},
        override=[
            {"where": {"algorithm": "dsq"}, "set": {"epochs": 3, "learning_rate": 0.5}},
            {"where": {"algorithm": ["dsq"], "backend": "acl"}, "set": {"epochs": 4}},
            {"set": {"weight_decay": 0.25, "calibration_images": 8}},
        ],
    )
    assert [(s.algorithm, s.backend, s.epochs, s.learning_rate) for s in settings] == [
        ("float", None, 9, None),
        ("lsq", "tvm", 9, None),
        ("lsq", "acl", 9, None),
        ("dsq", "tvm", 3, 0.5),
        ("dsq", "acl", 4, 0.5),
    ]
    assert {s.weight_decay for s in settings} == {0.25}
    assert [s.calibration_images for s in settings] == [None, 8, 8, 8, 8]  # the float network has none


def test_an_override_reaches_what_is_included_and_precedes_what_is_excluded() -> None:
    settings = expand(
        {"algorithms": ["lsq", "dsq"]},
        include=[{"algorithm": "qil"}],
        exclude=[{"epochs": 3}],
        override=[{"where": {"algorithm": ["dsq", "qil"]}, "set": {"epochs": 3}}],
    )
    assert [(s.algorithm, s.epochs) for s in settings] == [("lsq", None), ("qil", 3)]


def test_the_length_of_an_override_replaces_that_of_the_study() -> None:
    settings = expand({"algorithm": "lsq", "epochs": 9}, override=[{"set": {"steps": 5}}])
    assert [(s.epochs, s.steps) for s in settings] == [(None, 5)]


def test_the_command_line_precedes_an_override() -> None:
    more: dict[str, Any] = {"override": [{"set": {"epochs": 3, "weight_decay": 0.5}}]}
    grid = Study(name="s", axes=BASE | {"algorithm": "lsq"}, **more)
    settings = list(grid.replaced({"epochs": [1, 2]}).settings())
    assert [(s.epochs, s.weight_decay) for s in settings] == [(1, 0.5), (2, 0.5)]


AXES: dict[str, st.SearchStrategy[list[Any]]] = {
    "algorithm": subsets(["float", "lsq", "pact"]).filter(lambda names: names != ["float"]),
    "backend": subsets(["academic", "tvm"]),
    "bits": subsets([3, 4]),
    "epochs": subsets([1, 2]),
    "seed": subsets([0, 1]),
}


@given(
    axes=st.fixed_dictionaries(
        {"algorithm": AXES["algorithm"]},
        optional={n: values for n, values in AXES.items() if n != "algorithm"},
    ),
    include=st.lists(
        st.fixed_dictionaries({"algorithm": subsets(["lsq", "dsq"])}, optional={"seed": AXES["seed"]}),
        max_size=2,
    ),
    exclude=st.lists(st.just({"seed": [0], "backend": ["tvm"]}), max_size=1),
    override=st.lists(
        st.fixed_dictionaries(
            {
                "where": st.fixed_dictionaries({}, optional=AXES),
                "set": st.sampled_from([{"weight_decay": 0.5}, {"learning_rate": 0.5}]),
            }
        ),
        max_size=2,
    ),
)
def test_distinct_without_being_remembered(axes: Any, include: Any, exclude: Any, override: Any) -> None:
    if exclude:  # leaves something
        axes = {**axes, "seed": [0, 1]}
    whole = Study(name="s", axes=BASE | axes, include=include, exclude=exclude, override=override).settings()
    settings = list(whole)
    assert len(set(settings)) == len(settings)
    assert list(whole) == settings  # it may be read again
    assert all(setting in whole for setting in settings)
    others = [s.model_copy(update={"weight_decay": 0.75}) for s in settings]
    assert not any(setting in whole for setting in others)
    # what is left out of a later grid is in an earlier one
    assert {s for grid in whole.grids for s in grid} == set(settings)


def test_examples_have_every_value() -> None:
    axes = {"algorithms": ["float", "lsq", "pact"], "backends": ["tvm", "acl"], "seeds": list(range(50))}
    examples = list(Study(name="s", axes=BASE | axes).settings().examples())
    assert len(examples) < 60
    assert {s.algorithm for s in examples} == {"float", "lsq", "pact"}
    assert {s.backend for s in examples if s.backend} == {"tvm", "acl"}
    assert {s.seed for s in examples} == set(range(50))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("{set = {seed = 1}}", ["override", "seed has several values"]),
        ("{set = {algorithm = 'dsq'}}", ["algorithm cannot be set", "include"]),
        ("{set = {epochs = [1, 2]}}", ["epochs is set to 2 values"]),
        ("{set = {}}", ["set is empty"]),
        ("{where = {algorithm = 'lsq'}}", ["where and set is expected"]),
        ("{epochs = 1}", ["where and set is expected", "epochs"]),
        ("{set = {sead = 1}}", ["'sead'", "did you mean 'seed'"]),
        ("{set = {epochs = -1}}", ["epochs", "-1"]),
        ("3", ["where and set is expected", "3"]),
    ],
)
def test_a_bad_override_gets_one_sentence(tmp_path: Path, override: str, words: list[str]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        f'architecture = "a"\ndataset = "d"\nalgorithm = "lsq"\nseeds = [0, 1]\noverride = [{override}]\n'
    )
    with pytest.raises(RequestError) as caught:
        load_study(path)
    assert all(word in str(caught.value) for word in [str(path), *words]), caught.value
