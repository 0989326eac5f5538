"""The command line: what it prints, and one line and status 2 for what is wrong."""

import subprocess
import sys

import pytest
from conftest import TINY, in_this_process

from simreg_core.lab.cli import main
from simreg_core.lab.make.figures import compute_missing


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["simreg_core", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code or 0


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SIMREG_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("SIMREG_RECORDS", str(tmp_path / "figures"))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["figures", "--profile", "huge"],
            "unknown profile 'huge'; allowed: cifar-small, neural, paper, quick, recorded, trimmed",
        ),
        (["train", "--threshold", "1.5"], "threshold: got 1.5"),
        (["train", "--threshold", "nan"], "threshold: got nan"),
        (["train", "--seed", "-1"], "seed: got -1"),
        (["train", "--alpha", "-2"], "alpha: got -2"),
        (["train", "--k", "9999999"], "pairs_per_step=9999999 exceeds"),
        (["train", "--target", "brain"], "unknown target 'brain'; allowed: none, pixel, threshold"),
        (["train", "--target", "none", "--alpha", "3"], "target 'none' has no alpha"),
        (["evaluate", "--attack", "laser"], "unknown attack 'laser'; allowed: gaussian, uniform"),
        (["evaluate", "--epsilon", "8"], "did you mean 8/255"),
        (["evaluate", "--protocol", "careful"], "protocol: got 'careful'"),
        (["evaluate", "--attack", "fgsm", "--target", "none", "--seed", "16"], "is the surrogate of this attack"),
        (["evaluate", "--attack", "boundary", "--epsilon", "0.1"], "has no epsilon"),
        (["select", "--threshold", "1.5"], "thresholds.0: got 1.5"),
        (
            ["select", "--set", "nowhere"],
            "unknown regularization set 'nowhere'; allowed: mnist-5k, digits, photos-foreign",
        ),
        (["run", "--executor", "slurm"], "unknown executor 'slurm'; allowed: local, ray"),
        (["run", "--address", "head:6379"], "executor 'local' has no address, got 'head:6379'"),
        (["run", "--only", "99_none"], "unknown notebook '99_none'; allowed: 00_start_here"),
        (
            ["select", "--variant", "nothing"],
            "unknown variant 'nothing'; allowed: photographs, ResNet10, MNIST digits, ResNet18",
        ),
        (["select", "--architecture", "resnet50"], "unknown architecture 'resnet50'; allowed: torchvision-resnet18"),
        (["select", "--learning-rate", "inf"], "learning_rate: got inf"),
        (["select", "--matched"], "--matched goes with target zero, shuffled, pixel, neural, got 'threshold'"),
        (["select", "--defence", "blur", "--strength", "1"], "--task, --defence and --strength go with --matched"),
        (["select", "--matched", "--defence", "blur"], "--defence and --strength go together"),
        (
            ["select", "--matched", "--defence", "hope", "--strength", "1"],
            "unknown defence 'hope'; allowed: adversarial training, noise augmentation, blur",
        ),
        (
            ["select", "--matched", "--target", "pixel", "--task", "moons"],
            "unknown task 'moons'; allowed: digits, photographs",
        ),
        (
            ["select", "--profile", "cifar-small", "--matched", "--target", "pixel", "--task", "digits"],
            "unknown task 'digits'; allowed: none, as 'cifar-small' has no all_defences",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_two(monkeypatch, capsys, places, arguments, message):
    profile = [] if "--profile" in arguments else ["--profile", "quick"]
    assert run(monkeypatch, *arguments, *profile) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1
    assert list(places.iterdir()) == []  # nothing was written


def test_an_unknown_image_set_is_named_before_anything_is_computed(monkeypatch, capsys, places):
    profile = places / "mine.yaml"
    profile.write_text(TINY.read_text().replace("task: {images: digits", "task: {images: nowhere"))
    assert run(monkeypatch, "train", "--profile", profile) == 2
    assert "unknown image set 'nowhere'" in capsys.readouterr().err
    assert not (places / "runs").exists()


@pytest.mark.parametrize(
    "command",
    [["train", "--target", "neural"], ["evaluate"], ["select"], ["run"], ["figures", "--only", "02_attack_curves"]],
)
def test_every_command_names_all_that_is_missing_before_it_computes(monkeypatch, capsys, places, command):
    monkeypatch.setenv("SIMREG_DATA", str(places))
    profile = places / "mine.yaml"
    text = TINY.read_text().replace("regularizer: {images: digits", "regularizer: {images: gone")
    profile.write_text(text.replace("{images: digits", "{images: nowhere"))
    assert run(monkeypatch, *command, "--profile", profile) == 2
    said = capsys.readouterr().err
    assert "unknown image set 'nowhere'" in said
    assert "unknown image set 'gone'" in said
    assert len(said.splitlines()) == 1
    assert not (places / "runs" / "experiments").exists()


def test_status_names_all_that_does_not_fit(monkeypatch, capsys, places):
    monkeypatch.setattr("simreg_core.lab.running.estimate.seconds_per_step", lambda *_, **__: 1.0)
    profile = places / "mine.yaml"
    text = TINY.read_text().replace("  test_images: 30", "  test_images: 501")
    profile.write_text(text.replace("epochs: 2, phase_epochs", "epochs: 2, batch_size: 1300, phase_epochs"))
    assert run(monkeypatch, "status", "--profile", profile) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("MISSING")]
    assert lines == [
        "MISSING: batch_size 1300 exceeds the 300 training images of 'digits'",
        "MISSING: 501 images are asked for, but 'digits' has 500 to attack",
    ]


def test_a_profile_that_needs_a_gpu_wants_a_flag_without_one(monkeypatch, capsys, places, no_workers):
    drawn = []
    monkeypatch.setattr("simreg_core.lab.make.figures.run_notebooks", lambda paths, *_: drawn.extend(paths))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    profile = places / "mine.yaml"
    profile.write_text(TINY.read_text() + "needs_gpu: true\n")
    assert run(monkeypatch, "figures", "--profile", profile, "--only", "10_layer_weights") == 2
    said = capsys.readouterr().err
    assert "profile 'tiny' needs a GPU for 4 networks and 4 attacks, and this machine has none" in said
    assert "--without-gpu" in said
    assert not (places / "runs" / "experiments").exists()
    arguments = ("figures", "--profile", profile, "--only", "10_layer_weights", "--without-gpu")
    assert run(monkeypatch, *arguments) == 0
    said = capsys.readouterr().out
    assert "4 networks to train and 4 attacks to run, about" in said
    assert [path.stem for path in drawn] == ["10_layer_weights"]


@pytest.mark.parametrize("command", [["train"], ["evaluate", "--attack", "fgsm"], ["select"]])
def test_what_computes_a_profile_that_needs_a_gpu_wants_the_flag(monkeypatch, capsys, places, command):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    profile = places / "mine.yaml"
    profile.write_text(TINY.read_text() + "needs_gpu: true\n")
    assert run(monkeypatch, *command, "--profile", profile) == 2
    said = capsys.readouterr().err.strip()
    assert "profile 'tiny' needs a GPU" in said
    assert len(said.splitlines()) == 1
    assert not (places / "runs").exists()


def test_what_is_trained_already_needs_no_gpu(monkeypatch, capsys, places, no_workers):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    profile = places / "mine.yaml"
    profile.write_text(TINY.read_text() + "needs_gpu: true\n")
    assert run(monkeypatch, "train", "--profile", profile, "--without-gpu") == 0
    assert run(monkeypatch, "train", "--profile", profile) == 0
    assert "weights.safetensors" in capsys.readouterr().out


def test_status_names_missing_sets_first_and_lists_the_trainings_all_the_same(monkeypatch, capsys, places):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("SIMREG_DATA", str(places))
    assert run(monkeypatch, "status", "--profile", "trimmed") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("MISSING: unknown image set 'cifar10-jpeg75'")
    assert lines[1].startswith("MISSING: unknown image set 'tiny-imagenet32-jpeg75'")
    assert "gray cifar10-jpeg75 32x32, resnet18 width 64, 8 epochs, unregularized; seeds 0-6; for 00, 02" in "\n".join(
        lines
    )
    assert lines[-1].endswith(
        "attacks: for a GPU, which this machine lacks; --without-gpu says how long they take here"
    )
    assert run(monkeypatch, "status", "--profile", "trimmed", "--without-gpu") == 0
    assert capsys.readouterr().out.endswith("attacks: how long is unknown without the missing image sets\n")


def test_status_lists_what_is_missing_and_computes_nothing(monkeypatch, capsys, places):
    monkeypatch.setenv("SIMREG_DATA", str(places))
    assert run(monkeypatch, "status", "--profile", "paper") == 0
    said = capsys.readouterr().out
    assert "S^Th, alpha 10, Th 0.8, k 16, 5000 images of imagenet; seeds 0-9; for 00, 02, 03, 04, 05" in said
    assert "MISSING: unknown image set 'imagenet'" in said
    assert "put images there as imagenet/train/CLASS/*.png" in said
    assert "MISSING: the published V1 predictor is not at" in said
    assert not (places / "runs").exists()


def test_the_paper_profile_names_a_missing_set_first(monkeypatch, capsys, places):
    monkeypatch.setenv("SIMREG_DATA", str(places))
    assert run(monkeypatch, "figures", "--profile", "paper", "--without-gpu") == 2
    assert "unknown image set 'imagenet'" in capsys.readouterr().err
    assert not (places / "runs").exists()


def test_evaluate_trains_first_and_prints_a_table(monkeypatch, capsys, places, no_workers):
    epsilons = ["--epsilon", "0", "--epsilon", "0.2"]
    assert run(monkeypatch, "evaluate", "--profile", TINY, "--seed", "1", "--attack", "uniform", *epsilons) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "metric,epsilon,repeat,value,attempted,failed"
    assert [line.split(",")[:2] for line in lines[1:]] == [["accuracy", "0"], ["accuracy", "0.2"]]
    assert run(monkeypatch, "train", "--profile", TINY, "--seed", "1") == 0  # done already: says where
    trained = capsys.readouterr().out
    assert (places / "runs" / "experiments" / trained.split()[1].rstrip(":") / "weights.safetensors").is_file()
    assert run(monkeypatch, "status", "--profile", TINY) == 0
    assert "02_attack_curves: 0 of 50 records" in capsys.readouterr().out


def test_run_computes_what_is_missing_and_draws_nothing(monkeypatch, capsys, places, tiny):
    compute_missing(tiny, ["10_layer_weights"], executor=in_this_process)
    assert "tiny: 4 networks to train and 4 attacks to run, about" in capsys.readouterr().out
    assert len(list((places / "runs" / "records").glob("*/*.json"))) == 4
    assert not (places / "figures").exists()
    assert run(monkeypatch, "run", "--profile", TINY, "--only", "10_layer_weights") == 0
    assert capsys.readouterr().out == "tiny: nothing to compute\n"


def test_the_ray_executor_says_how_to_install_ray(monkeypatch, capsys, places):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(monkeypatch, "run", "--profile", TINY, "--executor", "ray") == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("simreg: executor 'ray' needs the package ray")
    assert said.endswith('pip install -e ".[ray]"')
    assert len(said.splitlines()) == 1
    assert list(places.iterdir()) == []


def test_the_module_runs_as_a_program():
    command = [sys.executable, "-m", "simreg_core", "figures", "--profile", "quick", "--only", "99_none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("simreg: unknown notebook '99_none'; allowed: 00_start_here")


def test_a_crash_says_where_python_was():
    code = "import os\nfrom simreg_core.lab import cli\ncli.app = lambda: os.kill(os.getpid(), 11)\ncli.main()"
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert done.returncode == -11
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert "cli.py" in done.stderr
