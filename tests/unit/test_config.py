import dataclasses

import pytest

from attar.config import (
    DataConfig,
    PretrainConfig,
    PretrainRun,
    RunConfig,
    Tang,
    TeacherConfig,
    TextConfig,
    TinyBertAugmentation,
    TrainConfig,
    dump_toml,
    from_table,
    override,
    read_toml,
    to_table,
)
from attar.errors import ConfigError
from attar.methods.adapters.config import Adapters
from attar.methods.bilstm_soft.config import TRAIN as BILSTM_TRAIN
from attar.methods.bilstm_soft.config import BilstmSoft
from attar.methods.bitfit.config import BitFit
from attar.methods.distilbert.config import DistilBert, DistilBertPretraining
from attar.methods.freezing.config import TRAIN as FULL_TRAIN
from attar.methods.freezing.config import Freezing, Full
from attar.methods.logits.config import TRAIN as LOGITS_TRAIN
from attar.methods.logits.config import Logits
from attar.methods.lora.config import Lora
from attar.methods.mlm_head.config import MlmHead
from attar.methods.registry import METHODS, PRETRAINING, find_method, method_of
from attar.methods.tinybert.config import TinyBert, TinyBertPretraining
from attar.recipe import config_of, recipe_table


def recipe(**sections):
    return {"out": "student", "data": {"path": "reviews.csv"}, **sections}


CONFIGS = {
    "full": RunConfig(
        command="finetune",
        out="teacher",
        model="bert",
        data=DataConfig(path="a.csv", label=("x", "y"), task="multi-label", drop_bad_rows=True, limit=5),
        method=Full(),
        train=TrainConfig(lr=3e-5, max_steps=7, patience=2),
    ),
    "bilstm-soft": RunConfig(
        command="distill",
        out="student",
        data=DataConfig(path="a.csv", unlabelled=("b.txt", "c.txt"), text="review", dev_share=0.25),
        teacher=TeacherConfig(bundles=("t1", "t2"), combine="logits"),
        method=BilstmSoft(hidden=5, alpha=0.5, vectors="file:glove.txt", lowercase=False),
        augment=Tang(n_iter=3, tagger="en_core_web_sm"),
        train=TrainConfig(optimizer="adadelta", lr=1.0, precision="float32"),
        baseline=False,
        report_to=("tensorboard",),
    ),
    "logits": RunConfig(
        command="distill",
        out="student",
        data=DataConfig(path="a.csv"),
        teacher=TeacherConfig(scores="probs:neg=a,pos=b"),
        method=Logits(student="layers:0,2", loss="soft-ce", temperature=4.0, alpha=0.1),
        train=TrainConfig(schedule="cosine"),
    ),
    **{
        name: RunConfig(
            command="finetune", out="delta", model="bert", data=DataConfig(path="a.csv"), method=method, train=train
        )
        for name, method, train in (
            ("freezing", Freezing(layers=0), TrainConfig(lr=1e-4)),
            ("bitfit", BitFit(biases=("query", "intermediate")), TrainConfig(weight_decay=0.0)),
            ("adapters", Adapters(bottleneck=8, placement="pfeiffer", drop_first=2), TrainConfig(epochs=7)),
            ("lora", Lora(kind="ia3", targets=("key", "value")), TrainConfig(warmup=0.0)),
        )
    },
    "tinybert": RunConfig(
        command="distill",
        out="student",
        data=DataConfig(path="a.csv"),
        teacher=TeacherConfig(bundles=("t",)),
        method=TinyBert(layers=6, heads=3, attention="relations", hidden_weight=0.5, intermediate_epochs=0),
        train=TrainConfig(),
    ),
    "distilbert": RunConfig(
        command="distill",
        out="student",
        data=DataConfig(path="a.csv"),
        teacher=TeacherConfig(bundles=("t",)),
        method=DistilBert(student="layers:0,2"),
        pretrain=PretrainConfig(
            teacher="bert",
            text=TextConfig(paths=("a.txt", "b"), column="body"),
            method=DistilBertPretraining(init="random"),
            train=TrainConfig(accumulation=4, patience=2),
        ),
        train=TrainConfig(),
    ),
}
PRETRAIN_CONFIGS = {
    "distilbert": PretrainRun(
        out="student",
        teacher="bert",
        text=TextConfig(paths=("corpus",), min_tokens=3, dev_share=0.2),
        method=DistilBertPretraining(alpha_cos=0.0, soft_tokens="masked"),
        train=TrainConfig(adam_beta2=0.98),
        report_to=("tensorboard",),
    ),
    "tinybert": PretrainRun(
        out="student",
        teacher="bert",
        text=TextConfig(paths=("corpus",)),
        method=TinyBertPretraining(width=64, projections="shared"),
        train=TrainConfig(batch_size=8),
    ),
    "mlm-head": PretrainRun(
        out="head",
        teacher="bert",
        text=TextConfig(paths=("corpus",)),
        method=MlmHead(smoothing=0.0),
        train=TrainConfig(),
    ),
}
ALL = [*CONFIGS.values(), *PRETRAIN_CONFIGS.values()]


@pytest.mark.parametrize("config", ALL, ids=lambda config: type(config.method).__name__)
def test_a_config_comes_back_from_its_recipe_file(config, tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(dump_toml(recipe_table(config)))
    assert config_of(read_toml(file)) == config


def test_every_method_has_a_round_trip_above():
    assert set(CONFIGS) == set(METHODS)
    assert set(PRETRAIN_CONFIGS) == set(PRETRAINING)


@pytest.mark.parametrize("config", ALL, ids=lambda config: type(config.method).__name__)
def test_the_recipe_table_is_a_fixed_point(config):
    table = recipe_table(config)
    assert table["method"]["name"] == method_of(config.method).name
    assert recipe_table(config_of(table)) == table


def test_a_pretraining_section_takes_the_defaults_of_its_own_method():
    section = {"teacher": "bert", "text": {"paths": "corpus"}, "train": {"epochs": 1}}
    config = config_of(recipe(method={"name": "distilbert"}, pretrain=section))
    assert (config.pretrain.train.lr, config.pretrain.train.epochs) == (5e-4, 1)
    assert config.train.lr == 5e-5
    assert config.pretrain.method == DistilBertPretraining()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, r"'pretrain\.teacher' is missing"),
        ({"teacher": "bert"}, r"'pretrain\.text' is missing"),
        ({"teacher": "bert", "text": {"paths": []}}, r"pretrain\.text: expected at least one path"),
        ({"teacher": "bert", "text": {"paths": "a", "share": 1}}, r"unknown setting 'pretrain\.text\.share'"),
        ({"method": {"name": "logits"}}, r"'logits' belongs to attar distill; attar pretrain knows: distilbert"),
        ({"method": {"alpha": 1.0}}, r"unknown setting 'pretrain\.method\.alpha'"),
        ({"method": {"alpha_ce": -1.0}}, r"pretrain\.method: alpha_ce"),
        ({"train": 3}, r"\[pretrain\.train\]; found pretrain\.train = 3"),
    ],
)
def test_a_pretraining_section_is_checked_like_any_other(section, message):
    with pytest.raises(ConfigError, match=message):
        config_of(recipe(pretrain=section))


def test_only_a_distillation_is_preceded_by_a_pretraining():
    with pytest.raises(ConfigError, match=r"\[pretrain\] belongs to a recipe that distils"):
        config_of(recipe(command="finetune", pretrain={"teacher": "bert", "text": {"paths": "a"}}))


def test_a_recipe_table_is_not_changed_by_resolving_it():
    table = recipe(method={"name": "logits", "alpha": 0.5}, train={"epochs": 1})
    before = {key: dict(value) if isinstance(value, dict) else value for key, value in table.items()}
    config_of(table)
    assert table == before


def test_settings_that_are_none_are_left_out_of_the_table():
    table = to_table(TrainConfig())
    assert "patience" not in table
    assert from_table(TrainConfig, table).patience is None


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"train": {"epoch": 3}}, r"'train\.epoch'; did you mean 'epochs'\?"),
        ({"data": {"path": "a", "unlabeled": "b"}}, r"'data\.unlabeled'; did you mean 'unlabelled'\?"),
        ({"method": {"name": "logits", "temprature": 2.0}}, r"'method\.temprature'; did you mean 'temperature'\?"),
        ({"teachers": {}}, r"'teachers'; did you mean 'teacher'\?"),
        ({"augment": {"p_masks": 0.1}}, r"'augment\.p_masks'; did you mean 'p_mask'\?"),
        ({"augment": {"method": "tinybert", "model": "m", "p_mask": 0.1}}, r"'augment\.p_mask'.*known: method, model"),
        ({"augment": {"method": "tang", "model": "m"}}, r"unknown setting 'augment\.model'"),
    ],
)
def test_an_unknown_key_is_named_by_its_path_with_the_nearest_one(sections, message):
    with pytest.raises(ConfigError, match=message):
        config_of(recipe(**sections))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"train": {"epochs": "3"}}, r"'train\.epochs' expects int; found '3'"),
        ({"train": {"epochs": 3.0}}, r"'train\.epochs' expects int; found 3\.0"),
        ({"train": {"epochs": True}}, r"'train\.epochs' expects int; found True"),
        ({"train": {"lr": "small"}}, r"'train\.lr' expects float; found 'small'"),
        ({"train": {"head_lr_factor": 0.0}}, "head_lr_factor expects a number above 0, found 0.0"),
        ({"train": {"lr": True}}, r"'train\.lr' expects float; found True"),
        ({"train": {"patience": "never"}}, r"'train\.patience' expects int; found 'never'"),
        ({"train": {"optimizer": "sgd"}}, r"'train\.optimizer' expects one of adamw, adadelta; found 'sgd'"),
        ({"data": {"path": 3}}, r"'data\.path' expects str; found 3"),
        ({"data": {"path": "a", "task": "ner"}}, r"'data\.task' expects one of single-label.*; found 'ner'"),
        ({"data": {"path": "a", "label": ["x", 1]}}, r"'data\.label' expects str; found 1"),
        ({"data": {"path": "a", "drop_bad_rows": 1}}, r"'data\.drop_bad_rows' expects bool; found 1"),
        ({"data": "reviews.csv"}, "'data' expects"),
        ({"augment": True}, r"'augment' expects a section \[augment\]; found True"),
        ({"augment": {"method": "eda"}}, r"'augment\.method' expects one of tang, tinybert; found 'eda'"),
        ({"augment": {"method": "tinybert"}}, r"'augment\.model' is missing"),
        ({"augment": {"method": "tinybert", "model": "m", "p_replace": 2}}, "augment: p_replace expects a share"),
        ({"method": {"name": "logits", "loss": "ce"}}, r"'method\.loss' expects one of kl, soft-ce, mse"),
        ({"baseline": "no"}, "'baseline' expects bool; found 'no'"),
        ({"method": "logits"}, r"section \[method\]; found method = 'logits'"),
        ({"train": 3}, r"section \[train\]; found train = 3"),
        ({"command": "train"}, "expects command"),
    ],
)
def test_a_wrong_value_is_refused_by_path(sections, message):
    with pytest.raises(ConfigError, match=message):
        config_of(recipe(**sections))


@pytest.mark.parametrize(
    ("table", "missing"),
    [({"out": "o", "data": {}}, "data.path"), ({"data": {"path": "a"}}, "out"), ({"out": "o"}, "data")],
)
def test_a_missing_setting_is_named(table, missing):
    with pytest.raises(ConfigError, match=f"setting '{missing}' is missing"):
        config_of(table)


def test_whole_numbers_become_floats_and_one_string_a_tuple():
    config = config_of(recipe(train={"lr": 1}, data={"path": "a", "label": "stars"}))
    assert isinstance(config.train.lr, float)
    assert config.train.lr == 1.0
    assert config.data.label == ("stars",)


@pytest.mark.parametrize(
    ("name", "command", "defaults"),
    [
        ("bilstm-soft", "distill", BILSTM_TRAIN),
        ("logits", "distill", LOGITS_TRAIN),
        ("full", "finetune", FULL_TRAIN),
    ],
)
def test_the_rooms_training_defaults_lie_below_the_recipes(name, command, defaults):
    bare = recipe(command=command, method={"name": name})
    assert config_of(bare).train == defaults
    assert config_of({**bare, "train": {"seed": 9}}).train == dataclasses.replace(defaults, seed=9)


def test_the_default_method_depends_on_the_command():
    assert isinstance(config_of(recipe()).method, BilstmSoft)
    assert isinstance(config_of(recipe(command="finetune")).method, Full)


@pytest.mark.parametrize("name", ["bilstm-soft", "logits"])
@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_alpha_out_of_range_is_refused(name, alpha):
    with pytest.raises(ConfigError, match="alpha expects a weight from 0 to 1"):
        config_of(recipe(method={"name": name, "alpha": alpha}))


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ConfigError, match="temperature expects a number above 0"):
        config_of(recipe(method={"name": "logits", "temperature": temperature}))


@pytest.mark.parametrize("name", ["hidden", "projection", "width", "min_count", "max_words"])
def test_a_bilstm_size_below_one_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} expects a whole number above 0, found 0"):
        config_of(recipe(method={"name": "bilstm-soft", name: 0}))


@pytest.mark.parametrize(
    ("assignment", "section", "key", "value"),
    [
        ("train.lr=3e-5", "train", "lr", 3e-5),
        ("train.epochs=4", "train", "epochs", 4),
        ("data.drop_bad_rows=true", "data", "drop_bad_rows", True),
        ('data.label=["a", "b"]', "data", "label", ["a", "b"]),
        ("method.vectors=file:glove 300d.txt", "method", "vectors", "file:glove 300d.txt"),
        ('data.text="3"', "data", "text", "3"),
        ("teacher.scores=probs:neg=a,pos=b", "teacher", "scores", "probs:neg=a,pos=b"),
        ("method.vectors = random", "method", "vectors", "random"),
    ],
)
def test_an_override_is_read_as_toml_or_else_as_a_string(assignment, section, key, value):
    table = recipe(train={"lr": 1.0})
    override(table, assignment)
    assert table[section][key] == value
    assert type(table[section][key]) is type(value)


def test_false_switches_an_optional_setting_of_the_room_off():
    table = recipe()
    override(table, "train.patience=false")
    assert BILSTM_TRAIN.patience is not None
    assert config_of(table).train.patience is None


def test_an_override_leaves_its_neighbours():
    table = recipe(train={"lr": 1.0, "epochs": 2})
    override(table, "train.lr=2.0")
    override(table, "out=elsewhere")
    assert table == {**recipe(), "out": "elsewhere", "train": {"lr": 2.0, "epochs": 2}}


@pytest.mark.parametrize("assignment", ["train.lr", "=3", "out.deep=3"])
def test_an_override_of_another_form_is_refused(assignment):
    with pytest.raises(ConfigError, match="--set"):
        override(recipe(), assignment)


def test_an_override_goes_through_the_same_checks():
    table = recipe()
    override(table, "train.epochz=3")
    with pytest.raises(ConfigError, match=r"'train\.epochz'; did you mean 'epochs'"):
        config_of(table)


@pytest.mark.parametrize(("content", "message"), [(b"a = [", "not valid TOML"), (b"a = '\xff'", "not valid TOML")])
def test_a_recipe_that_is_no_toml_is_refused(tmp_path, content, message):
    file = tmp_path / "recipe.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_toml(file)


def test_a_recipe_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not found"):
        read_toml(tmp_path / "none.toml")


def test_an_unknown_method_gets_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'bilstm-soft'"):
        find_method("bilstm", "distill")


def test_a_method_of_the_other_command_is_refused_with_where_it_belongs():
    with pytest.raises(ConfigError, match="'full' belongs to attar finetune; attar distill knows: bilstm-soft, logits"):
        find_method("full", "distill")


def test_settings_of_no_method_are_refused():
    with pytest.raises(ConfigError, match="found TrainConfig"):
        method_of(TrainConfig())


@pytest.mark.parametrize("augment", [None, Tang(n_iter=3), TinyBertAugmentation(model="m", p_replace=0.2)])
def test_a_recipe_keeps_the_method_of_augmentation(augment):
    config = dataclasses.replace(config_of(recipe()), augment=augment)
    assert config_of(recipe_table(config)).augment == augment
