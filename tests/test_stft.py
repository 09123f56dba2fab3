"""The STFT and its inverse."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from my_submission.src.stft import STFT


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(5, 40), st.sampled_from([(64, 16), (64, 32), (256, 64), (62, 20)]))
def test_the_inverse_restores_the_waveform(batch: int, channels: int, frames: int, sizes: tuple[int, int]) -> None:
    n_fft, hop_length = sizes
    stft = STFT(n_fft, hop_length, n_fft // 2 + 1)
    waveform = torch.randn(batch, channels, hop_length * (frames - 1))
    spec = stft(waveform)
    assert spec.shape == (batch, 2 * channels, n_fft // 2 + 1, frames)
    torch.testing.assert_close(stft.inverse(spec), waveform, rtol=0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(5, 20), st.sampled_from([(64, 16), (64, 32), (62, 20), (63, 21)]), st.integers(10, 33))
def test_the_inverse_and_its_gradient_equal_those_of_torch(batch: int, frames: int, sizes: tuple[int, int], bins: int) -> None:
    n_fft, hop_length = sizes
    bins = min(bins, n_fft // 2 + 1)
    stft = STFT(n_fft, hop_length, bins)
    spec = torch.randn(batch, 2, bins, frames, requires_grad=True)
    weights = torch.randn(batch, 1, hop_length * (frames - 1))
    waveform = stft.inverse(spec)
    (waveform * weights).sum().backward()
    gradient, spec.grad = spec.grad, None

    whole = torch.nn.functional.pad(spec, (0, 0, 0, n_fft // 2 + 1 - bins))
    expected = torch.istft(
        torch.complex(whole[:, 0], whole[:, 1]), n_fft, hop_length, window=stft.window, length=hop_length * (frames - 1)
    )[:, None]
    (expected * weights).sum().backward()
    torch.testing.assert_close(waveform, expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(gradient, spec.grad, rtol=0, atol=2e-6)


def test_channels_are_left_real_left_imaginary_right_real_right_imaginary() -> None:
    stft = STFT(64, 16, 20)
    waveform = torch.randn(1, 2, 16 * 9)
    spec = stft(waveform)
    for channel in (0, 1):
        padded = torch.nn.functional.pad(waveform[:, channel : channel + 1], (32, 32), mode="reflect")[0, 0]
        frame = torch.fft.rfft(padded[16 * 3 : 16 * 3 + 64] * torch.hann_window(64))[:20]  # frame 3, computed directly
        torch.testing.assert_close(spec[0, 2 * channel, :, 3], frame.real)
        torch.testing.assert_close(spec[0, 2 * channel + 1, :, 3], frame.imag)


def test_it_computes_in_float32_under_autocast_and_adds_nothing_to_the_state_dict() -> None:
    stft = STFT(64, 16, 20)
    with torch.autocast("cpu", torch.bfloat16):
        spec = stft(torch.randn(1, 1, 160))
        assert spec.dtype == torch.float32
        assert stft.inverse(spec.bfloat16()).dtype == torch.float32
    assert not stft.state_dict()
