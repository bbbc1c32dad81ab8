"""Command-line words become overrides that Hydra understands, or get an answer."""

import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from pipeline.config.overrides import prepare_overrides, split_make_variables
from pipeline.core.errors import ConfigError
from tests.helpers.paths import REPOSITORY
from tests.helpers.runs import settings_for


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", []),
        ("   ", []),
        ("task=detect", ["task=detect"]),
        ("b=2 a=1", ["a=1", "b=2"]),  # make lists the last one first
        (r"input=My\ Photos task=detect", ["task=detect", "input=My Photos"]),
        (r"input=a\ \ b", ["input=a  b"]),
        ("input=a\\\tb", ["input=a\tb"]),
        (r"input=C:\\photos", [r"input=C:\photos"]),
        (r"input=end\\", ["input=end\\"]),
        (r"input=two\\\\", [r"input=two\\"]),
        (r"input=\\\ x", [r"input=\ x"]),
        ("input=50$$", ["input=50$"]),
        ("input=$$$$HOME", ["input=$$HOME"]),
        ("input=it's", ["input=it's"]),
        (r"classes=[dog,\ cat]", ["classes=[dog, cat]"]),
        (r"min_score={default:\ 0.5}", ["min_score={default: 0.5}"]),
        ("input=a=b=c", ["input=a=b=c"]),
        ("input:=a b::=2 c:::=3 d+=4 e?=5 f!=6", ["f=6", "e=5", "d=4", "c=3", "b=2", "input=a"]),
        ("input=a:=b", ["input=a:=b"]),
        ("PYTHON=/usr/bin/python3 task=detect VENV=.v", ["task=detect"]),
        ("Input=a", ["Input=a"]),  # a typo, and no variable of the Makefile
    ],
)
def test_the_variables_of_make_are_split_into_what_was_typed(words, expected):
    assert split_make_variables(words) == expected


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["input=My Photos", "limit=3"], ["input=My Photos", "limit=3"]),
        (["input=a  b\tc"], ["input=a  b\tc"]),
        (["input=it's", 'output="x"'], ["input=it's", 'output="x"']),
        (["input=back\\slash", "output=end\\"], ["input=back\\slash", "output=end\\"]),
        (["input=\\ x", "output=a\\\\b"], ["input=\\ x", "output=a\\\\b"]),
        (["input=50$", "output=$HOME"], ["input=50$", "output=$HOME"]),
        (["input=a;b&c|d>e<f*?(g)#h"], ["input=a;b&c|d>e<f*?(g)#h"]),
        (["input=`id`", "output=$(id)"], ["input=`id`", "output=$(id)"]),
        (
            ["classes=[dog, cat]", "min_score={default: 0.5}"],
            ["classes=[dog, cat]", "min_score={default: 0.5}"],
        ),
        (["input=日本/é"], ["input=日本/é"]),
        (["input=a=b"], ["input=a=b"]),
        (["VENV=elsewhere", "input=x"], ["input=x"]),
    ],
)
def test_a_value_survives_the_real_makefile(typed, expected):
    """It goes through make, the shell and `split_make_variables`, as in `make run`."""
    recipe = "show: ; @printf '%s\\0' $(ARGS)"
    command = ["make", "-s", "-f", str(REPOSITORY / "Makefile"), "--eval", recipe, "show", *typed]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, timeout=20)
    flag, words, end = done.stdout.decode().split("\0")
    assert (flag, end) == ("--make", "")
    assert split_make_variables(words) == expected


def test_the_variables_of_make_replace_their_flag():
    assert prepare_overrides(
        ["limit=1", "--make", "batch_size=3 seed=2", "workers=4"], sweep=False
    ) == [
        "limit=1",
        "seed=2",
        "batch_size=3",
        "workers=4",
    ]


@pytest.mark.parametrize("given", [[], ["--make"], ["--make", ""]])
def test_nothing_stays_nothing(given):
    assert prepare_overrides(given, sweep=False) == []


PATHS = [
    "photos",
    "/absolute/path",
    "My Photos",
    " leading and trailing ",
    "a,b",
    "a[1]",
    "a]b}c",
    "a{b}",
    "a(b)",
    "it's",
    "it''s",
    "ends'",
    'say "cheese"',
    "a=b",
    "a= b",
    "a/~/photos",
    "a~b",
    "back\\slash",
    "two\\\\slashes",
    "ends with\\",
    "ends with\\\\",
    "quote after\\'slash",
    "quote after\\\\'slashes",
    "\\",
    "日本語/é",
    "\u202egpj",
    "a:b",
    "a#b",
    "a%b",
    "a;b&c|d",
    "$HOME",
    "a$b",
    "a\tb",
    "a\nb",
    "-dash",
    "+plus",
    "@at",
    "!bang*",
    "..",
    "1e5",
    "007",
    "1_000",
    "true",
    "nan",
    "nullable",
]


@pytest.mark.parametrize(
    ("a", "b", "c"), list(zip(PATHS[::3], PATHS[1::3], PATHS[2::3], strict=True))
)
def test_a_path_survives_hydra(a, b, c):
    settings = settings_for(f"input={a}", f"output={b}", f"weights={c}")
    assert (settings.input, settings.output, settings.weights) == (a, b, c)
    assert settings.components["source"]["root"] == a


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("'already quoted'", "already quoted"),
        ('"already, quoted"', "already, quoted"),
        ("'it\\'s'", "it's"),
        ("${output}", "outputs"),
        ("${output}/sub", "outputs/sub"),
    ],
)
def test_hydras_own_notation_keeps_its_meaning(given, expected):
    assert settings_for(f"input={given}").input == expected


def test_an_override_that_is_no_path_is_left_to_hydra():
    given = [
        "min_score=0.5",
        "train.augment=[flip, crop]",
        "+model_args.x=1",
        "~limit",
        "hydra.verbose=true",
        "-m",
    ]
    assert prepare_overrides(given, sweep=False) == given


def test_names_and_scores_are_quoted_for_hydra():
    given = ["classes=[a, b]", "min_score={default: 0.5}", "train.validation=a b"]
    assert prepare_overrides(given, sweep=False) == [
        "classes=['a','b']",
        "min_score='{default: 0.5}'",
        "train.validation='a b'",
    ]


def test_brackets_and_quotes_keep_the_commas_of_a_swept_value_together():
    given = ["classes=[a,b],[c]", "min_score={a: 0.1, b: 0.2},0.5", "input='a,b',c"]
    assert prepare_overrides(given, sweep=True) == [
        "classes=['a','b'],['c']",
        "min_score='{a: 0.1, b: 0.2}',0.5",
        "input='a,b','c'",
    ]


def test_a_sweep_quotes_each_value_and_keeps_the_commas():
    assert prepare_overrides(
        ["model=resnet50,vit_b_16", "task=detect,classify", "min_score=0.1,0.2"], sweep=True
    ) == [
        "model='resnet50','vit_b_16'",
        "task=detect,classify",
        "min_score=0.1,0.2",
    ]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("source.evry=3", "source.every"),
        ("sink.overlays.qualty=80", "sink.overlays.quality"),
        ("task.normalise=false", "task.normalize"),
        ("+source.fpss=1", "source.fps"),
        ("task.presets.model=x", "task.top_k"),
    ],
)
def test_an_unknown_setting_of_a_component_is_refused(given, hint):
    name = given.partition("=")[0].lstrip("+")
    with pytest.raises(ConfigError, match=f"unknown setting '{name}'.*Known: .*{hint}"):
        prepare_overrides([given], sweep=False)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["task.nonsense=1", "task=classify"], r"Known: task.top_k \(classify\)\."),
        (["task=detect", "task.top_k=3"], "task=detect has no settings of its own"),
        (
            ["engine=eager", "engine.compile=true"],
            r"Known: engine.device \(eager\), .* \(eager\)\.",
        ),
    ],
)
def test_only_settings_of_the_named_component_are_known(words: list[str], answer: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown setting .*{answer}"):
        prepare_overrides(words, sweep=False)


def test_a_sweep_knows_the_settings_of_all_components_that_it_names() -> None:
    words = ["task=classify,embed", "task.top_k=1,2", "task.normalize=false"]
    assert prepare_overrides(words, sweep=True) == words


@pytest.mark.parametrize(
    "given",
    ["source.every=3", "source.length=8", "task.normalize=false", "sink.overlays.quality=80"],
)
def test_a_setting_of_some_component_passes(given):
    assert prepare_overrides([given], sweep=False) == [given]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("imput=photos", "'input'"),
        ("batchsize=4", "'batch_size'"),
        ("minscore=0.5", "'min_score'"),
        ("tsk=detect", "'task'"),
        ("TASK=detect", "'task'"),
        ("+class=dog", "'classes'"),
        ("~limits", "'limit'"),
        ("sorce.root=x", "'source'"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_is_offered(given, hint):
    name = given.lstrip("+~").partition("=")[0].partition(".")[0]
    with pytest.raises(
        ConfigError, match=f"unknown setting '{name}'.*Did you mean.*{hint}.*Known: "
    ):
        prepare_overrides([given], sweep=False)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("tiles.siz=3", "Did you mean 'size'"),
        ("+tiles.ovrlap=0.1", "Did you mean 'overlap'"),
        ("~tiles.mode", "tiles has: size,"),
    ],
)
def test_an_unknown_key_below_another_is_refused_and_the_nearest_is_offered(given, hint):
    with pytest.raises(ConfigError, match=f"unknown setting 'tiles[.].*{hint}"):
        prepare_overrides([given], sweep=False)


@pytest.mark.parametrize("given", ["defaults=[]", "format=builder", "=x", "_target_=os.system"])
def test_a_key_that_users_cannot_set_is_unknown(given):
    with pytest.raises(ConfigError, match="unknown setting"):
        prepare_overrides([given], sweep=False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("task=detekt", "task=detekt: expected classify, detect.* Did you mean 'detect'"),
        ("task=Classify", "Did you mean 'classify'"),
        ("task=", "task=: expected classify, detect"),
        ("source=foldr", "expected clips, folder, .*, zip. Did you mean 'folder'"),
        ("engine=eagr", "Did you mean 'eager'"),
        ("executor=locl", "Did you mean 'local'"),
        ("sink=parqet", "Did you mean 'parquet'"),
    ],
)
def test_an_unknown_choice_is_refused_and_the_nearest_is_offered(given, expected):
    with pytest.raises(ConfigError, match=expected):
        prepare_overrides([given], sweep=False)


@pytest.mark.parametrize("given", ["task", "photos", "", "input"])
def test_a_word_without_a_value_is_refused(given):
    with pytest.raises(ConfigError, match="expected key=value"):
        prepare_overrides([given], sweep=False)


def test_a_mapping_changes_what_it_names_and_leaves_the_rest():
    assert prepare_overrides(["tiles={size: 640}"], sweep=False) == [
        "++tiles={size: 640}"
    ]  # Hydra's word for a partial change
    assert (
        settings_for("tiles={size: 640, iou: 0.4}").tiles
        == settings_for("tiles.size=640", "tiles.iou=0.4").tiles
    )


def test_a_tilde_is_the_home_folder_as_in_the_shell(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert settings_for("input=~/photos", "output=~/o").input == "/home/someone/photos"
    assert prepare_overrides(["output=~/o"], sweep=True) == ["output='/home/someone/o'"]


@pytest.mark.parametrize(
    ("words", "metadata", "added"),
    [
        (["model=FILE"], {"task": "classify"}, ["task=classify"]),
        (["model='FILE'", "limit=3"], {"task": "segment"}, ["task=segment"]),
        (["model=FILE", "task=embed"], {"task": "classify"}, []),
        (["experiment=codes", "model=FILE"], {"task": "classify"}, []),
        (["model=FILE"], {"task": "classify limit=3"}, []),
        (["model=FILE"], {"task": "dance"}, []),
        (["model=FILE"], {}, []),
        (["model=FILE.absent.safetensors"], {"task": "classify"}, []),
        (["model=resnet18"], {"task": "classify"}, []),
        (["weights=FILE"], {"task": "classify"}, []),
        ([], {}, []),
    ],
)
@pytest.mark.parametrize("sweep", [False, True])
def test_the_task_of_a_weights_file_is_the_default(words, metadata, added, sweep, tmp_path):
    path = tmp_path / "a b.safetensors"
    save_file({"w": torch.zeros(1)}, path, metadata=metadata)
    given = [word.replace("FILE", str(path)) for word in words]
    assert prepare_overrides(given, sweep)[len(given) :] == added


def test_a_damaged_file_adds_no_task(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    assert prepare_overrides([f"model={tmp_path / 'a.safetensors'}"], sweep=False) == [
        f"model='{tmp_path / 'a.safetensors'}'"
    ]


def test_the_task_of_a_file_is_read_without_torch(tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"task": "classify"})
    code = (
        "import sys; from pipeline.config.overrides import prepare_overrides; "
        "print(prepare_overrides(sys.argv[1:], False)[1], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"model={tmp_path / 'a.safetensors'}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["task=classify", "False"]


@pytest.mark.parametrize("word", ["task=null", "task=", "task=detect,null", "task=dtect"])
def test_a_sweep_refuses_a_component_that_does_not_exist(word: str) -> None:
    with pytest.raises(ConfigError, match=r"task=\w*: expected classify, detect"):
        prepare_overrides([word], sweep=True)


@pytest.mark.parametrize("sweep", [False, True])
def test_a_nul_character_is_refused(sweep: bool) -> None:
    with pytest.raises(ConfigError, match="without NUL characters"):
        prepare_overrides(["output=a\0b"], sweep=sweep)
