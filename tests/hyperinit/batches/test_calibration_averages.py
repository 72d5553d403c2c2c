"""The averages of statistics: precise in low precision, and of what each norm saw."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from hyperinit.batches.calibration import calibrate_


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 1, 8, 8, generator=generator) * scale for size, scale in ((6, 1), (6, 3), (4, 2))]


def test_averages_are_taken_in_float32_and_cast_once():
    """In bfloat16, the average of 100 batches was 5 % off. One rounding is at most 1 in 256."""
    norm, exact = nn.BatchNorm1d(4).bfloat16(), nn.BatchNorm1d(4)
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(32, 4, generator=generator) * 3 + 5).bfloat16() for _ in range(100)]
    calibrate_(norm, batches)
    calibrate_(exact, [batch.float() for batch in batches])
    assert norm.running_mean.dtype == torch.bfloat16
    for key in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(norm, key).float(), getattr(exact, key), rtol=1 / 200, atol=0)
    assert norm.num_batches_tracked == 100


def test_a_norm_used_twice_counts_each_use(batches):
    norm = nn.BatchNorm2d(1)
    net = nn.Sequential(norm, nn.Hardtanh(), norm)
    expected = nn.Sequential(nn.BatchNorm2d(1), nn.Hardtanh())
    expected.append(expected[0])
    update_bn(batches, expected)
    calibrate_(net, batches)
    torch.testing.assert_close(norm.state_dict(), expected[0].state_dict())
    assert norm.num_batches_tracked == 6


def test_a_norm_without_a_counter_averages_over_batches(batches):
    norm, counted = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
    norm.num_batches_tracked = None
    for part in (norm, counted):
        calibrate_(part, batches)
    torch.testing.assert_close(norm.running_var, counted.running_var)


class Fixed(nn.BatchNorm2d):
    """Only reads its statistics, as fine-tuning code often has it."""

    def forward(self, x):
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, eps=self.eps)


def test_a_subclass_that_only_reads_its_statistics_still_has_them_during_calibration(batches):
    fixed, after = Fixed(1), nn.BatchNorm2d(1)
    fixed.running_mean.fill_(5)
    fixed.running_var.fill_(4)
    calibrate_(nn.Sequential(fixed, after), batches)
    assert fixed.running_mean == 5
    expected = calibrate_(nn.BatchNorm2d(1), [(batch - 5) / 2 for batch in batches])
    torch.testing.assert_close(after.running_mean, expected.running_mean)


def test_a_bad_present_statistic_does_not_spoil_the_average(batches):
    norm = nn.BatchNorm2d(1)
    norm.running_var.fill_(torch.nan)
    calibrate_(norm, batches)
    torch.testing.assert_close(norm.running_var, calibrate_(nn.BatchNorm2d(1), batches).running_var)
