"""conf/ by globbing: every yaml composes and fits its target; what names a cell."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from conftest import OUTSIDE, ROOT, Compose
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf

from synpriv import config, fingerprint
from synpriv.audit.evidence import DESIGNS
from synpriv.data import draws
from synpriv.results import vouched

CONF = ROOT / "conf"
YAMLS = sorted(str(file.relative_to(CONF).with_suffix("")) for file in CONF.glob("*/**/*.yaml"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("npz") / "mine.npz"
    write_archive(file, seed=0)
    return file


def write_archive(file: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(file, images=images, labels=np.arange(40) % 4)


def extra_for(choice: str, archive: Path) -> list[str]:
    """What a choice cannot do without."""
    if choice in OUTSIDE:
        return OUTSIDE[choice]
    if choice == "dataset=npz":
        return [f"dataset.path={archive}"]
    if choice == "canary=path":
        return [f"canary.path={archive}"]
    if choice != "dataset=folder":
        return []
    for name in ("cat", "dog"):  # to be named, they need not be pictures
        (archive.parent / "photos" / name).mkdir(parents=True, exist_ok=True)
        (archive.parent / "photos" / name / "1.png").write_bytes(name.encode())
    return [f"dataset.path={archive.parent / 'photos'}"]


def targets(node: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node with a `_target_`, without the nodes in it that have their own."""
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        yield where, config.own_arguments(node)
    for key, value in node.items():
        yield from targets(value, f"{where}.{key}")


@pytest.mark.parametrize("yaml", YAMLS)
def test_every_yaml_composes_and_its_target_takes_its_arguments(
    yaml: str, compose: Compose, archive: Path
) -> None:
    group, _, option = yaml.rpartition("/")
    choice = f"{group}={option}"
    if group == "stage":  # only ever a part of a method
        group, choice = "method.stage", f"+stage@method.stage={option}"
    of_hydra = group.startswith("hydra/")
    cfg = compose(choice, *extra_for(choice, archive), return_hydra_config=of_hydra)
    # What an experiment's own file, a launcher or a group brings; `cell` needs the whole config.
    root = "hydra." + group.partition("/")[2] if of_hydra else group
    nodes = config.GROUPS if group == "experiment" else [root]
    for where in nodes:
        if where == "hydra.job_logging":
            continue  # where a run logs to is only known when it runs
        content = config.plain(OmegaConf.select(cfg, where))
        for path, arguments in targets(content, where):
            config.check_arguments(arguments, path)
    if not of_hydra:
        assert cfg.cell.startswith(f"{cfg.method.name}-{cfg.dataset.name}-{cfg.canary.kind}-")


@pytest.mark.parametrize("yaml", YAMLS)
def test_every_yaml_begins_with_a_comment_and_is_named_after_its_file(yaml: str) -> None:
    text = (CONF / f"{yaml}.yaml").read_text()
    assert text.startswith("# ")
    content = OmegaConf.create(text)
    stem = yaml.rpartition("/")[2]
    if "name" in content:
        assert content.name == stem
    if "kind" in content:
        assert content.kind == stem


@pytest.mark.parametrize(
    "words",
    [
        ("method=distill", "~method.lr", "+method.x={y: [1]}", "seed=3", "seed=4", "results=''"),
        ("model@method.teacher.model=resnet18", "method=dfkd", "method.teacher.lr=${seed}"),
    ],
)
def test_a_config_of_the_tests_is_hydra_s(words: tuple[str, ...], compose: Compose) -> None:
    """Its choices are made once for all tests, its values set on a copy."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        whole = hydra_compose("config", list(words))
    assert OmegaConf.to_yaml(compose(*words)) == OmegaConf.to_yaml(whole)


@pytest.mark.parametrize("words", [("method.nope=1",), ("seed=x",), ("seed=1,2",), ("a@b=c",)])
def test_and_so_is_what_it_refuses(words: tuple[str, ...], compose: Compose) -> None:
    with (
        initialize_config_dir(str(CONF), version_base="1.3"),
        pytest.raises(HydraException) as whole,
    ):
        hydra_compose("config", list(words))
    with pytest.raises(type(whole.value)) as ours:
        compose(*words)
    assert str(ours.value) == str(whole.value)


def test_a_public_pool_is_its_own_data_set(compose: Compose) -> None:
    cfg = compose("dataset@public=cifar100")
    assert (cfg.public.name, cfg.dataset.name) == ("cifar100", "digits")
    assert cfg.public.load.root == cfg.public.root


def test_the_default_distillation_is_one_cell_however_it_is_typed(compose: Compose) -> None:
    assert compose("method=distill").cell == compose("method=distill_dm").cell


def test_the_digest_is_that_of_sorted_json() -> None:
    """By hand: printf '%s' '{"a": [0.5, 1], "b": {"c": false, "d": null}}' | sha256sum."""
    assert fingerprint.digest({"b": {"d": None, "c": False}, "a": [0.5, 1]}) == "76d7f2f3"


@pytest.mark.parametrize(
    ("membership", "cell"),
    [
        ("paired", "undefended-digits-mislabelled-543fbddf"),
        ("paired", "distill_dm-digits-mislabelled-6448e863"),
        ("paired", "coreset_el2n-digits-mislabelled-5d5b51f5"),
        ("paired", "dfkd-digits-mislabelled-dc65bd74"),
        ("paired", "dpsgd_eps3-digits-mislabelled-d42019bd"),
        ("paired", "dpsgd_high-digits-mislabelled-4235200e"),
        ("paired", "diffusion_public-digits-mislabelled-1ef725c2"),
        ("balanced", "undefended-digits-mislabelled-07750a1a"),
        ("balanced", "distill_dm-digits-mislabelled-86e7ea47"),
        ("bernoulli", "undefended-digits-mislabelled-a5c4c1df"),
    ],
)
def test_the_cell_s_name_does_not_drift(membership: str, cell: str, compose: Compose) -> None:
    """What is hashed decides which results on disk are found again.

    A recipe changed on purpose has a new name, to be written here. Anything else that fails this
    orphans every result.
    """
    words = (f"method={cell.partition('-')[0]}", f"canary.membership={membership}")
    assert compose(*words).cell == cell


@pytest.mark.parametrize(
    "change",
    [
        "method=distill",
        "method.lr=0.06",
        "method.crop=false",
        "dataset=mnist",
        "dataset.num_train=500",
        "dataset.num_canaries=50",
        "dataset.flip=true",
        "dataset.mean=[0.4]",
        "model=resnet18",
        "model.width=17",
        "canary=clean",
        "canary.num_canaries=50",
        "canary.membership=bernoulli",
        "canary.membership=balanced",
        "audit_seed=1",
        "trainer.precision=bf16-mixed",
    ],
)
def test_what_decides_the_science_names_the_cell(change: str, compose: Compose) -> None:
    assert compose(change).cell != compose().cell


@pytest.mark.parametrize(
    "change",
    [
        "seed=5",
        "num_models=32",
        "attack=threshold",
        "attack.views=[view0]",
        "logger=none",
        "logger.project=x",
        "results=elsewhere",
        "partial=true",
        "keep_release=false",
        "objective.maximise=auc",
        "trainer=cpu",
        "trainer.num_threads=2",
        "trainer.channels_last=true",
        "hydra/launcher=basic",
        "hydra.launcher.num_workers=3",
    ],
)
def test_what_does_not_decide_the_science_keeps_the_cell(change: str, compose: Compose) -> None:
    assert compose(change).cell == compose().cell


def test_a_validation_split_is_another_cell_and_the_test_set_no_part_of_it(
    compose: Compose,
) -> None:
    cell = compose("dataset.num_validation=200").cell
    assert cell != compose().cell
    assert cell == compose("dataset.num_validation=200", "dataset.num_test=50").cell
    assert cell != compose("dataset.num_validation=100").cell
    for wrong in ("0", "1.5", "yes"):
        with pytest.raises(ValueError, match=r"dataset\.num_validation=.*: must be an integer of"):
            _ = compose(f"dataset.num_validation={wrong}").cell


def test_validation_accuracy_is_no_objective_without_validation_images(compose: Compose) -> None:
    asked = "objective.maximise=validation_accuracy"
    with pytest.raises(ValueError, match="without validation images: must be accuracy, or write"):
        _ = compose(asked).cell
    assert compose(asked, "dataset.num_validation=100").cell


def test_a_size_beside_all_sections_is_refused(compose: Compose) -> None:
    with pytest.raises(ValueError, match=r"scale\.foo: no such option; it has "):
        _ = compose("++scale.foo=1").cell


@pytest.mark.parametrize(
    ("membership", "grows"),
    [
        ("paired", True),
        ("bernoulli", True),
        ("balanced", False),
    ],
)
def test_the_number_of_models_names_only_cells_that_cannot_grow(
    membership: str, grows: bool, compose: Compose
) -> None:
    few, many = (
        compose(f"canary.membership={membership}", f"num_models={num}") for num in (16, 64)
    )
    assert (few.cell == many.cell) == grows
    assert ("num_models" in config.science(few)) != grows


def test_the_kinds_of_membership_are_the_same_everywhere() -> None:
    assert set(config.MEMBERSHIPS) == set(DESIGNS) == set(draws.MEMBERSHIPS)
    assert set(get_args(get_type_hints(vouched.Metrics)["membership"])) == set(DESIGNS)


@pytest.mark.parametrize(
    ("membership", "last"), [("paired", 2**32 - 1), ("balanced", (2**32 - 1) // 65 - 1)]
)
def test_audit_seeds_fit_the_seeds_of_runs(membership: str, last: int, compose: Compose) -> None:
    words = [f"canary.membership={membership}", "seed=63"]
    config.validate(compose(*words, f"audit_seed={last}"))
    with pytest.raises(ValueError, match=rf"audit_seed={last + 1}: must be 0\.\.{last}$"):
        config.validate(compose(*words, f"audit_seed={last + 1}"))


@pytest.mark.parametrize("change", ["dataset.root=/mnt/cifar", "dataset.download=false"])
def test_where_data_lie_keeps_the_cell(change: str, compose: Compose) -> None:
    assert compose("dataset=cifar10", change).cell == compose("dataset=cifar10").cell


@pytest.mark.parametrize(
    ("method", "reads"),
    [
        *(("undefended", False), ("dfkd", False), ("distill_dm", False), ("coreset", False)),
        *(("distill_dm_public", True), ("diffusion_public", True), ("diffusion_scratch", False)),
    ],
)
def test_a_public_pool_names_the_cells_of_the_methods_that_look_at_it(
    method: str, reads: bool, compose: Compose
) -> None:
    # It opened a new cell with the same bits for all others.
    with_pool = compose(f"method={method}", "dataset@public=mnist").cell
    assert (with_pool != compose(f"method={method}").cell) == reads


def test_a_student_s_recipe_names_the_cell(compose: Compose) -> None:
    changed = compose("method=distill", "method.student.num_epochs=3")
    assert changed.cell != compose("method=distill").cell
    assert compose("method=distill", "method.embedder.width=8").cell != changed.cell


def test_an_edited_yaml_opens_a_new_cell(compose: Compose, tmp_path: Path) -> None:
    shutil.copytree(CONF, tmp_path / "conf")
    assert compose(conf=tmp_path / "conf").cell == compose().cell
    file = tmp_path / "conf" / "scale" / "digits.yaml"
    file.write_text(file.read_text().replace("num_epochs: 30", "num_epochs: 31", 1))
    edited = compose(conf=tmp_path / "conf")
    assert edited.method.num_epochs == 31
    assert edited.cell != compose().cell


def test_an_archive_s_content_names_the_cell_not_its_path(
    compose: Compose, tmp_path: Path, archive: Path
) -> None:
    def cell(file: Path) -> str:
        return compose("dataset=npz", f"dataset.path={file}").cell

    moved, other = tmp_path / "moved.npz", tmp_path / "other.npz"
    shutil.copy(archive, moved)
    write_archive(other, seed=1)
    assert cell(moved) == cell(archive)
    assert cell(other) != cell(archive)
    os.utime(other)  # rewritten in place: a new content is seen
    shutil.copyfile(archive, other)
    os.utime(other, ns=(1, 1))
    assert cell(other) == cell(archive)


def test_a_folder_s_content_names_the_cell(compose: Compose, tmp_path: Path) -> None:
    for name in ("cat", "cow"):
        (tmp_path / "a" / name).mkdir(parents=True)
        (tmp_path / "a" / name / "1.png").write_bytes(name.encode())
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    def cell(name: str) -> str:
        return compose("dataset=folder", f"dataset.path={tmp_path / name}").cell

    assert cell("a") == cell("b")
    (tmp_path / "b" / "cat").rename(tmp_path / "b" / "dog")  # a class renamed
    assert cell("a") != cell("b")


def target(a: int, b: float = 1.0, c: str | None = None, d: bool = False) -> None:
    """What `check_arguments` is shown below."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a": "x"}, r"^method\.a='x': must be an integer$"),
        ({"a": 1.5}, r"^method\.a=1\.5: must be an integer$"),
        ({"a": True}, r"^method\.a=True: must be an integer$"),
        ({"a": None}, r"^method\.a=None: must be an integer$"),
        ({"b": "x"}, r"^method\.b='x': must be a number$"),
        ({"c": 3}, r"^method\.c=3: must be a word or null$"),
        ({"d": "no"}, r"^method\.d='no': must be true or false$"),
        ({"e": 1}, r"^method\.e: no such option; it has a, b, c, d$"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.check_arguments({"_target_": f"{__name__}.target", **arguments}, "method")


def test_right_arguments_pass() -> None:
    for arguments in ({"a": 1}, {"a": 1, "b": 2}, {"c": None}, {"c": "x", "d": True}, {}):
        config.check_arguments({"_target_": f"{__name__}.target", **arguments}, "method")


def other(num_epochs: int) -> None:
    """A target with a longer name."""


def test_a_misspelt_argument_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"method\.num_epoch: .* did you mean num_epochs\?"):
        config.check_arguments({"_target_": f"{__name__}.other", "num_epoch": 1}, "method")


def test_a_bool_is_no_member_of_a_list_of_integers(compose: Compose) -> None:
    cfg = compose("method.milestones=[true]")
    with pytest.raises(ValueError, match=r"method\.milestones=\[True\]: must be"):
        config.build(cfg.method, "method")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["num_models=7"], "num_models=7: must be even, at least 4"),
        (["seed=64"], r"seed=64: must be 0\.\.63"),
        (["trainer.precision=16"], "trainer.precision=16: must be one of 32-true, bf16-mixed"),
        (["trainer.accelerator=tpu"], "must be one of auto, cpu, gpu"),
        (["logger.name=visdom"], "must be one of wandb, tensorboard, mlflow, csv, none"),
        (["attack.name='a b'"], "name=a b: must be letters"),
        (["attack=lira_parent", "attack.queries=10"], r"queries=10: must be 1\.\.9"),
        (["method=dfkd", "method.teacher=null"], "method.teacher=null: must be what dfkd brings"),
        (["method=distill", "method.student=null"], "method.student=null: must be what"),
        (["dataset=npz"], "dataset.path: has no default; write dataset.path=VALUE"),
    ],
)
def test_a_config_that_cannot_run_is_refused(
    changes: list[str], message: str, compose: Compose
) -> None:
    with pytest.raises(ValueError, match=message):
        config.validate(compose(*changes))


def test_more_views_are_there_where_images_may_be_mirrored(compose: Compose) -> None:
    config.validate(compose("dataset=cifar10", "attack=lira_parent", "attack.queries=18"))


def test_a_dataset_of_one_s_own_has_the_options_that_its_loader_refers_to(
    compose: Compose, tmp_path: Path, archive: Path
) -> None:
    shutil.copytree(CONF, tmp_path / "conf")
    text = (CONF / "dataset" / "npz.yaml").read_text()
    text = text.replace("test_rate: 0.2 ", "share: 0.3\nhalf: ${.share} ")
    text = text.replace("${..test_rate}", "${..half}").replace("name: npz", "name: mine")
    (tmp_path / "conf" / "dataset" / "mine.yaml").write_text(text)
    words = ("dataset=mine", f"dataset.path={archive}")
    config.validate(compose(*words, "dataset.share=0.4", conf=tmp_path / "conf"))
    with pytest.raises(ValueError, match=r"dataset\.shares: no such option; did you mean share\?"):
        config.validate(compose(*words, "+dataset.shares=0.4", conf=tmp_path / "conf"))


def test_one_preset_gives_each_method_the_arithmetic_that_suits_it(compose: Compose) -> None:
    private, plain = (compose(f"method={m}", "trainer=bf16") for m in ("dpsgd_high", "undefended"))
    assert (plain.trainer.precision, plain.trainer.channels_last) == ("bf16-mixed", True)
    assert (private.trainer.precision, private.trainer.channels_last) == ("32-true", False)
    assert private.cell == compose("method=dpsgd_high").cell  # the same arithmetic, the same cell
    exact = compose("method=undefended", "trainer.precision=bf16-mixed")
    assert plain.cell == exact.cell != compose("method=undefended").cell
    teacher = config.of_prerequisite(compose("method=dfkd", "trainer=bf16"), "teacher")
    assert teacher.cell == plain.cell


def test_a_stage_of_another_precision_than_the_method_s_names_its_cell(compose: Compose) -> None:
    own = ("method=dfkd", "+method.trainer_precision=32-true")
    mixed, exact = compose(*own, "trainer=bf16"), compose(*own)
    assert mixed.trainer.precision == exact.trainer.precision == "32-true"
    assert config.science(mixed)["teacher_precision"] == "bf16-mixed"
    assert "teacher_precision" not in config.science(exact)
    assert mixed.cell != exact.cell == compose("method=dfkd").cell


def test_checking_alone_is_no_other_cell(compose: Compose) -> None:
    assert compose().check is False
    assert compose("check=true").cell == compose().cell
