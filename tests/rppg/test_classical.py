"""Each method is derived again here, frame by frame and with dense algebra; the reference's slips are written out."""

import math

import numpy as np
import pytest
import scipy.signal

from robustvision.core.errors import InputError
from robustvision.rppg.classical import METHODS, chrom, fill_gaps, green, ica, lgi, omit, pbv, pos
from robustvision.rppg.jade import common_rotation, cumulant_matrices, jade, whiten

FS = 30.0
BLOOD = np.array([0.33, 0.77, 0.53])


def beat(num_frames, fs=FS, hz=1.25):
    """Steep upstroke, slow decay: not symmetric in time, so its sign and skew can be told."""
    phase = (np.arange(num_frames) / fs * hz) % 1
    wave = np.exp(-0.5 * ((phase - 0.22) / 0.09) ** 2) + 0.55 * np.exp(-0.5 * ((phase - 0.47) / 0.11) ** 2)
    return wave - wave.mean()


def skin(num_frames=300, fs=FS, *, noise=0.05, drift=0.02, seed=0):
    rng = np.random.default_rng(seed)
    times = np.arange(num_frames) / fs
    light = 1 + drift * np.sin(2 * np.pi * 0.11 * times + seed)[:, None]
    colours = np.array([196.0, 148.0, 121.0]) * light * (1 - 0.01 * beat(num_frames, fs)[:, None] * BLOOD)
    return colours + rng.normal(0, noise, (num_frames, 3))


def dense_detrend(x, lam=100.0):
    second = np.zeros((len(x) - 2, len(x)))
    for row in range(len(x) - 2):
        second[row, row : row + 3] = 1, -2, 1
    return x - np.linalg.inv(np.eye(len(x)) + lam**2 * second.T @ second) @ x


def filtered(x, order, low, high, fs=FS):
    b, a = scipy.signal.butter(order, [low / fs * 2, high / fs * 2], btype="bandpass")
    return scipy.signal.filtfilt(b, a, x)


def pos_by_loop(traces, fs, last):
    length = math.ceil(1.6 * fs)
    pulse = np.zeros(len(traces))
    for end in range(length, last):
        window = traces[end - length : end]
        red, green_, blue = (window / window.mean(axis=0)).T
        s1, s2 = green_ - blue, -2 * red + green_ + blue
        h = s1 + np.std(s1) / np.std(s2) * s2
        pulse[end - length : end] += h - h.mean()
    return -filtered(dense_detrend(pulse), 1, 0.75, 3.0, fs)


def chrom_by_loop(traces, fs):
    length = math.ceil(1.6 * fs)
    length += length % 2
    half = length // 2
    count = (len(traces) - half) // half
    pulse = np.zeros(half * (count + 1))
    for number in range(count):
        window = traces[number * half : number * half + length]
        red, green_, blue = (window / window.mean(axis=0)).T
        x = filtered(3 * red - 2 * green_, 3, 0.7, 2.5, fs)
        y = filtered(1.5 * red + green_ - 1.5 * blue, 3, 0.7, 2.5, fs)
        n = np.arange(length)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / (length - 1))
        pulse[number * half : number * half + length] += (x - np.std(x) / np.std(y) * y) * hann
    return pulse


@pytest.mark.parametrize(("num_frames", "fs"), [(300, 30.0), (137, 30.0), (200, 25.0), (150, 29.97), (49, 30.0)])
def test_pos_is_the_loop_over_windows(num_frames, fs):
    traces = skin(num_frames, fs)
    np.testing.assert_allclose(pos(traces, fs, compat=True), pos_by_loop(traces, fs, num_frames), atol=1e-9)
    lam = 100 * (fs / 30) ** 2
    if lam == 100:
        np.testing.assert_allclose(pos(traces, fs), pos_by_loop(traces, fs, num_frames + 1), atol=1e-9)


def test_the_reference_never_covers_the_last_frame_in_pos():
    traces = skin(48)
    assert np.abs(pos(traces, FS, compat=True)).max() == 0  # one window, and it is the last
    assert np.abs(pos(traces, FS)).max() > 0
    moved = traces.copy()
    moved[-1] += [30, -20, 10]
    longer = np.concatenate([traces, traces])
    moved = longer.copy()
    moved[-1] += [30, -20, 10]
    np.testing.assert_array_equal(pos(moved, FS, compat=True), pos(longer, FS, compat=True))
    assert np.abs(pos(moved, FS) - pos(longer, FS)).max() > 0.1


@pytest.mark.parametrize(("num_frames", "fs", "kept"), [(300, 30.0, 288), (137, 30.0, 120), (300, 25.0, 300)])
def test_chrom_with_compat_is_the_loop_and_loses_the_tail(num_frames, fs, kept):
    traces = skin(num_frames, fs)
    pulse = chrom(traces, fs, compat=True)
    assert pulse.shape == (kept,)
    np.testing.assert_allclose(pulse, chrom_by_loop(traces, fs), atol=1e-10)


@pytest.mark.parametrize("num_frames", [48, 49, 71, 72, 96, 137, 300])
def test_chrom_covers_every_frame_and_agrees_where_the_reference_does(num_frames):
    traces = skin(num_frames)
    whole, cut = chrom(traces, FS), chrom(traces, FS, compat=True)
    assert whole.shape == (num_frames,)
    agreed = len(cut) - 24  # the reference fades out over its last half-window
    np.testing.assert_allclose(whole[:agreed], cut[:agreed], atol=1e-12)
    tail = whole[agreed:]
    assert np.corrcoef(tail, beat(num_frames)[agreed:])[0, 1] > 0.8
    if num_frames > 96:  # not faded: as strong as in the middle
        assert 0.5 < tail.std() / whole[24:agreed].std() < 2


def test_an_odd_window_of_chrom_is_rounded_up():
    fs = 28.0  # 44.8 frames: 45, so 46
    np.testing.assert_allclose(chrom(skin(230, fs), fs, compat=True), chrom_by_loop(skin(230, fs), fs), atol=1e-10)


def test_lgi_is_the_projection_off_the_first_singular_vector():
    traces = skin()
    left, _, _ = np.linalg.svd(traces.T, full_matrices=False)
    projection = np.eye(3) - np.outer(left[:, 0], left[:, 0])
    np.testing.assert_allclose(lgi(traces, FS), -(projection @ traces.T)[1], atol=1e-9)


def test_omit_is_the_projection_off_the_first_frame():
    traces = skin()
    q, _ = np.linalg.qr(traces.T)
    projection = np.eye(3) - np.outer(q[:, 0], q[:, 0])
    pulse = omit(traces, FS)
    np.testing.assert_allclose(pulse, -(projection @ traces.T)[1], atol=1e-10)
    assert pulse[0] == 0


def test_pbv_solves_for_the_signature():
    traces = skin()
    ratios = (traces / traces.mean(axis=0)).T
    signature = ratios.std(axis=1) / np.sqrt(ratios.var(axis=1).sum())
    weights = np.linalg.solve(ratios @ ratios.T, signature[:, None])[:, 0]
    expected = ratios.T @ weights / (signature @ weights)
    pulse = pbv(traces, FS)
    np.testing.assert_allclose(pulse, -(expected - expected.mean()), atol=1e-9)
    correlations = ratios @ expected  # what the weights were solved for
    np.testing.assert_allclose(correlations / np.linalg.norm(correlations), signature, atol=1e-8)


def test_ica_takes_the_sharpest_source_of_detrended_channels():
    traces = skin(noise=0.2)
    channels = np.stack([dense_detrend(channel) for channel in traces.T])
    channels = (channels - channels.mean(axis=1, keepdims=True)) / channels.std(axis=1, keepdims=True)
    sources = jade(channels)
    sharpness = []
    for source in sources:
        power = np.abs(np.fft.fft(source)[: len(source) // 2 + 1]) ** 2
        sharpness.append(power.max() / power.sum())
    best = sources[int(np.argmax(sharpness))]
    best = -best * np.sign(np.corrcoef(best, channels[1])[0, 1])
    np.testing.assert_allclose(ica(traces, FS), filtered(best, 3, 0.7, 2.5), atol=1e-7)


@pytest.mark.parametrize("name", METHODS)
def test_the_upstroke_is_positive(name):
    truth = beat(600)
    pulse = METHODS[name](skin(600, noise=0.02, drift=0.001), FS)
    assert np.corrcoef(pulse, truth)[0, 1] > 0.9
    rate = 60 * scipy.signal.periodogram(pulse, FS, nfft=2**14)[1].argmax() * FS / 2**14
    assert abs(rate - 75) < 0.5


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_batch_is_its_rows(name, compat):
    method = METHODS[name]
    clips = np.stack([skin(160, seed=seed, noise=0.3) for seed in range(4)] + [np.full((160, 3), 90.1)])
    batch = method(clips, FS, compat=compat)
    assert batch.dtype == np.float64
    for row, clip in zip(batch, clips, strict=True):
        np.testing.assert_allclose(row, method(clip, FS, compat=compat), atol=1e-8)
    assert method(clips[:1].astype(np.float32), FS, compat=compat).shape == batch[:1].shape


@pytest.mark.parametrize("name", ["chrom", "pos", "pbv", "ica"])
def test_a_darker_camera_changes_nothing(name):
    traces = skin(noise=0.2)
    np.testing.assert_allclose(METHODS[name](0.13 * traces, FS), METHODS[name](traces, FS), atol=1e-7)


@pytest.mark.parametrize(("name", "least"), [("chrom", 0.6), ("pos", 0.95), ("lgi", 0.95), ("omit", 0.95)])
def test_light_that_dims_all_channels_alike_is_cancelled(name, least):
    # CHROM 0.73: within 1.6 s light of 1.1 Hz and a pulse of 1.25 Hz are correlated, which pulls its alpha from 1
    light = 1 + 0.05 * np.sin(2 * np.pi * 1.1 * np.arange(300) / FS)[:, None]  # inside the band
    lit, still = skin(noise=0, drift=0) * light, skin(noise=0, drift=0)
    pulse = METHODS[name](lit, FS)[48:-48]
    assert np.corrcoef(pulse, METHODS[name](still, FS)[48:-48])[0, 1] > least
    assert np.corrcoef(green(lit, FS), beat(300))[0, 1] < 0.5


@pytest.mark.parametrize("level", [0.0, 0.1, 100.3, 255.0])
@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_a_photo_has_no_pulse(name, compat, level):
    photo = np.full((300, 3), level) * [1.0, 0.7, 0.6]
    assert not METHODS[name](photo, FS, compat=compat).any()


@pytest.mark.parametrize("name", ["chrom", "pos", "lgi", "omit"])
def test_a_grey_film_has_no_colour_to_project(name):
    grey = np.repeat(skin()[:, 1:2], 3, axis=1)
    assert not METHODS[name](grey, FS).any()
    for method in (ica, pbv, green):  # these fall back on brightness
        assert np.isfinite(method(grey, FS)).all()


@pytest.mark.parametrize("name", METHODS)
def test_a_black_channel_stays_finite(name):
    traces = skin()
    traces[:, 2] = 0
    assert np.isfinite(METHODS[name](traces, FS)).all()
    traces[100:200] = 0  # a cap over the lens: windows of nothing but black
    assert np.isfinite(METHODS[name](traces, FS)).all()


def test_pos_where_the_second_signal_stands_still():
    ripple = 0.01 * np.sin(2 * np.pi * 1.3 * np.arange(300) / FS)
    traces = 100 * (1 + np.stack([0 * ripple, ripple, -ripple], axis=1))  # S2 = -2R + G + B = 0, S1 = 2 ripple
    pulse = pos(traces, FS)
    assert np.isfinite(pulse).all()
    assert np.corrcoef(pulse[48:-48], -ripple[48:-48])[0, 1] > 0.99  # beyond them fewer windows overlap


@pytest.mark.parametrize("name", METHODS)
def test_a_frame_without_a_face_is_refused_by_number(name):
    traces = skin()
    traces[[40, 41]] = np.nan
    with pytest.raises(InputError, match=r"2 of 300 frames have no colour .* first is frame 40: .*fill_gaps"):
        METHODS[name](traces, FS)
    with pytest.raises(InputError, match="neither centred nor filtered"):
        METHODS[name](skin() - 150, FS)
    with pytest.raises(InputError, match=r"shape \(3, 300\): expected mean colours"):
        METHODS[name](skin().T, FS)
    with pytest.raises(InputError, match=r"shape \(300,\): expected"):
        METHODS[name](skin()[:, 0], FS)


@pytest.mark.parametrize(("name", "needed"), [("pos", 48), ("chrom", 48), ("ica", 22), ("lgi", 3), ("green", 2)])
def test_too_short_is_said_with_numbers(name, needed):
    METHODS[name](skin(needed), FS)
    with pytest.raises(InputError, match=rf"needs at least {needed} frames \({needed / FS:.2f} s at 30 fps\), got"):
        METHODS[name](skin(needed - 1), FS)


def test_chrom_says_which_frame_rate_it_needs():
    chrom(skin(200, 13.2), 13.2)
    with pytest.raises(InputError, match=r"20 frames at 12 fps: it needs more than 12\.5 fps"):
        chrom(skin(200, 12.0), 12.0)


def test_at_60_fps_the_slow_pulse_survives_detrending():
    traces = skin(1200, 60.0, noise=0)
    slow = np.array([200.0, 150, 120]) * (1 - 0.01 * np.cos(2 * np.pi * 0.8 * np.arange(1200) / 60)[:, None] * BLOOD)
    assert pos(slow, 60.0).std() > 1.4 * pos(slow, 60.0, compat=True).std()  # lambda 100 eats a third of 48 bpm there
    assert pos(traces, 60.0).shape == (1200,)


def test_short_gaps_are_closed_by_lines_and_long_ones_named():
    traces = skin()
    holed = traces.copy()
    holed[[0, 1, 100, 101, 102, 299]] = np.nan
    closed = fill_gaps(holed, FS)
    np.testing.assert_allclose(closed[101], (traces[99] + traces[103]) / 2)
    np.testing.assert_array_equal(closed[[0, 1, 299]], traces[[2, 2, 298]])
    np.testing.assert_array_equal(closed[3:100], traces[3:100])
    assert np.isnan(holed[0]).all()  # what came is not written to
    holed[100:131] = np.nan
    with pytest.raises(InputError, match=r"no colour for 1\.03 s from frame 100 on, the longest gap to close is 1 s"):
        fill_gaps(holed, FS)
    assert np.isfinite(fill_gaps(holed, FS, longest_s=2.0)).all()
    with pytest.raises(InputError, match="none of the 300 frames"):
        fill_gaps(np.full((300, 3), np.nan), FS)


# ---------------------------------------------------------------------------------------------------------------- JADE


def mixtures(seed=0, length=3000):
    rng = np.random.default_rng(seed)
    sources = np.stack([rng.uniform(-1, 1, length), rng.laplace(size=length), np.sign(rng.normal(size=length))])
    return sources, rng.normal(size=(3, 3)) @ sources


def test_cumulants_are_those_of_their_definition():
    _, mixed = mixtures(length=200)
    z = mixed - mixed.mean(axis=1, keepdims=True)
    matrices = iter(cumulant_matrices(z))
    for i in range(3):
        for j in range(i, 3):
            matrix = next(matrices)
            for k in range(3):
                for m in range(3):
                    moment = np.mean(z[i] * z[j] * z[k] * z[m])
                    pairs = ((i, j, k, m), (i, k, j, m), (i, m, j, k))
                    cumulant = moment - sum(np.mean(z[a] * z[b]) * np.mean(z[c] * z[d]) for a, b, c, d in pairs)
                    assert matrix[k, m] == pytest.approx(cumulant * (1 if i == j else math.sqrt(2)), abs=1e-9)


def test_the_rotation_diagonalises_what_can_be_diagonalised():
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    matrices = np.stack([turn @ np.diag(rng.normal(size=3)) @ turn.T for _ in range(6)])
    found = common_rotation(matrices)
    np.testing.assert_allclose(found.T @ found, np.eye(3), atol=1e-12)
    rotated = found.T @ matrices @ found
    assert np.abs(rotated * (1 - np.eye(3))).max() < 1e-9


def test_no_small_turn_makes_the_cumulants_more_diagonal():
    _, mixed = mixtures()
    matrices = cumulant_matrices(whiten(mixed))
    best = common_rotation(matrices)

    def on_diagonal(rotation):
        return (np.diagonal(rotation.T @ matrices @ rotation, axis1=1, axis2=2) ** 2).sum()

    for axis in range(3):
        for angle in (-0.1, -0.01, 0.01, 0.1):
            p, q = [k for k in range(3) if k != axis]
            turn = np.eye(3)
            turn[p, p] = turn[q, q] = math.cos(angle)
            turn[p, q], turn[q, p] = -math.sin(angle), math.sin(angle)
            assert on_diagonal(best @ turn) < on_diagonal(best)


@pytest.mark.parametrize("seed", range(3))
def test_jade_separates_independent_sources(seed):
    sources, mixed = mixtures(seed)
    found = jade(mixed)
    correlation = np.abs(np.corrcoef(found, sources)[:3, 3:])
    assert sorted(correlation.argmax(axis=1)) == [0, 1, 2]
    assert correlation.max(axis=1).min() > 0.99
    np.testing.assert_allclose(found @ found.T / found.shape[1], np.eye(3), atol=1e-10)


def test_jade_of_too_few_directions_leaves_empty_sources():
    sources, _ = mixtures()
    found = jade(np.stack([sources[0], sources[0], 2 * sources[0]]))
    deviations = np.sort(found.std(axis=1))
    np.testing.assert_allclose(deviations, [0, 0, 1], atol=1e-9)
    assert not jade(np.ones((3, 50))).any()
