"""A new attack is one file; the table of attacks in test_door.py then asks for its row."""

import sys

import pytest
import torch
from attacked import attack_functions

from simreg_core import attacks

TOY = '''
import torch

from simreg_core.attacks import door
from simreg_core.attacks.ball import project
from simreg_core.attacks.result import check_size, never_fails


def toward_gray(model, images, labels, epsilon, *, seed=0, batch_size=256):
    """Every pixel moved towards 0.5 by at most epsilon."""
    with door.opened(model, images, labels, seed=seed, batch_size=batch_size) as (model, images, labels):
        check_size(images, epsilon, "linf")
        return never_fails(images, project(torch.full_like(images, 0.5), images, epsilon, "linf"))
'''


@pytest.fixture
def toward_gray(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(attacks, "__path__", [*attacks.__path__, str(tmp_path)])
    from simreg_core.attacks.toy import toward_gray

    yield toward_gray
    del sys.modules["simreg_core.attacks.toy"], attacks.toy


def test_it_is_found_and_has_what_every_attack_has(toward_gray, linear, middle_images, middle_labels):
    assert "toward_gray" in attack_functions()
    result = toward_gray(linear, middle_images, middle_labels, 0.05)
    expected = middle_images + (0.5 - middle_images).clamp(-0.05, 0.05)
    torch.testing.assert_close(result.adversarial, expected)
    assert result.linf.max() <= 0.05 + 1e-6
    with pytest.raises(ValueError, match="the attacked model is in training mode"):
        toward_gray(linear.train(), middle_images, middle_labels, 0.05)
    with pytest.raises(ValueError, match="did you mean 8/255"):
        toward_gray(linear.eval(), middle_images, middle_labels, 8)


def test_it_is_gone_afterwards():
    assert "toward_gray" not in attack_functions()
