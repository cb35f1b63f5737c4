from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="torch is not installed")

from engine.model import devices, saved_cache  # noqa: E402
from engine.model.checkpoint_weights import open_checkpoint  # noqa: E402
from engine.model.model_error import ModelError  # noqa: E402
from engine.model.network import Network  # noqa: E402
from tests.convert.seeded_checkpoint import write_checkpoint  # noqa: E402
from tests.engine.model.small_network import SMALL, drawn_tokens, network_of  # noqa: E402

on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="the network on a GPU needs one of NVIDIA's"),
]
gpu = pytest.mark.parametrize("device", [pytest.param("cuda", marks=on_gpu)])
everywhere = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_gpu)])
LAYERS = 5
ROOM = 3 << 30
F32_BOUND = 2e-4
"""Of the logits' deviation: the bound that holds between any two implementations in F32."""


def sharpened(name: str, stored: NDArray[Any]) -> NDArray[Any]:
    """Routers that tell tokens apart and experts that count: random ones do neither."""
    if name.endswith("ffn.gate.weight"):
        return stored + np.uint16(3 << 7)  # 3 more in BF16's exponent: eight times as large
    if ".ffn.experts." in name and name.endswith(".w2.scale"):
        return stored + np.uint8(1)
    return stored


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("small") / "checkpoint"
    write_checkpoint(folder, tokenizer="none", edit=sharpened, **SMALL | {"layers": LAYERS, "seed": 3})
    return folder


def placed(
    checkpoint: Path,
    device: str,
    *,
    activations: "torch.dtype" = torch.float32,
    gpu_bytes: int = ROOM,
    cache_format: str = "f32",
    drafts: bool = True,
) -> tuple[Network, devices.Placed]:
    model = open_checkpoint(checkpoint)
    found = devices.place(
        model.config, model.weights, torch.device(device), context_tokens=4096, chunk_tokens=512,
        cache_format=cache_format, activations=activations, gpu_bytes=gpu_bytes,
    )  # fmt: skip
    network = Network(
        model.config, found.weights, cache_format=cache_format, experts=found.experts,
        activations=activations, device=device, drafts=drafts,
    )  # fmt: skip
    return network, found


def read(network: Network, tokens: "torch.Tensor", *, step: int | None = None) -> "torch.Tensor":
    cache = network.new_cache()
    parts = tokens.split(step or len(tokens))
    return torch.cat([network.forward([(cache, part)], logits="all").cpu() for part in parts])


@everywhere
@pytest.mark.parametrize("step", [None, 37, 1])
def test_the_placed_network_computes_what_the_plain_one_computes(
    checkpoint: Path, device: str, step: int | None
) -> None:
    tokens = drawn_tokens(150 if device == "cuda" else 10 if step == 1 else 40)
    wanted = read(network_of(checkpoint), tokens, step=step)
    network, found = placed(checkpoint, device)
    assert found.slots == (LAYERS + 1) * SMALL["n_routed_experts"]
    assert found.weights.embed.data.device.type == device
    logits = read(network, tokens, step=step)
    assert float((logits - wanted).abs().max()) <= F32_BOUND * float(wanted.std())
    assert network.experts.counts.gpu > 0 or device == "cpu"


@everywhere
def test_with_room_for_some_layers_the_others_stay_where_they_are(checkpoint: Path, device: str) -> None:
    model = open_checkpoint(checkpoint)
    config, one = model.config, model.weights.blocks[0].moe.experts.matrices(0)
    dense = devices.dense_bytes(model.weights) + devices.cache_bytes(config, "f32", 4096)
    dense += devices.pass_bytes(config, 512, torch.float32)
    room = dense + 3 * config.n_routed_experts * one.size_bytes
    network, found = placed(checkpoint, device, gpu_bytes=room)
    assert found.gpu_layers == (0, 1)
    tokens = drawn_tokens(60)
    wanted = read(network_of(checkpoint), tokens)
    for step in (None, 1 if device == "cuda" else 5):
        logits = read(network, tokens, step=step)
        assert float((logits - wanted).abs().max()) <= F32_BOUND * float(wanted.std())
    counts = network.experts.counts
    assert counts.gpu > 0
    assert counts.ram + counts.disk > 0


def test_too_little_memory_is_told_before_anything_is_uploaded(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="MiB are free"):
        placed(checkpoint, "cpu", gpu_bytes=1000)


def test_what_would_fit_is_the_most_that_fits(checkpoint: Path) -> None:
    config = open_checkpoint(checkpoint).config
    for have in (0, 1 << 28, 1 << 29, 1 << 40):
        fits = devices.fitting_tokens(config, have, torch.bfloat16, 4096)
        assert fits in (0, 4096) or devices.pass_bytes(config, fits, torch.bfloat16) <= have
        assert fits == 4096 or devices.pass_bytes(config, fits + 1, torch.bfloat16) > have


def test_a_context_takes_no_more_than_is_reckoned(checkpoint: Path) -> None:
    network = network_of(checkpoint)
    cache = network.new_cache()
    network.forward([(cache, drawn_tokens(150))], logits="none")
    assert cache.size_bytes <= devices.cache_bytes(network.config, "f32", 150)


class Choices:
    """A `Watch` that notes what was chosen, and has the same chosen again by who is watched next."""

    def __init__(self) -> None:
        self._noted: dict[tuple[str, int], torch.Tensor] = {}
        self.repeats = False

    def note(self, name: str, layer: int, value: "torch.Tensor") -> None:
        if name.endswith("_choice") and not self.repeats:
            self._noted[name, layer] = value

    def choose(self, name: str, layer: int, values: "torch.Tensor") -> "torch.Tensor | None":
        return self._noted[name, layer] if self.repeats else None


@gpu
def test_bf16_tells_the_same_story(checkpoint: Path, device: str) -> None:
    """Weights and sums are the same; what goes from one operation to the next has 8 bits: 2^-9 each time. Where two
    experts' scores, or two rows', are closer than that, the choice may fall otherwise, and what follows is another
    expert's: so the divergence is taken with F32's choices, and with its own only beside a wider bound."""
    tokens, choices = drawn_tokens(300), Choices()

    def distributions(network: Network, watch: Choices | None) -> "torch.Tensor":
        found = network.forward([(network.new_cache(), tokens)], logits="all", watch=watch)
        return found.double().log_softmax(-1)

    exact = distributions(placed(checkpoint, device)[0], choices)
    choices.repeats = True
    rounded, _ = placed(checkpoint, device, activations=torch.bfloat16, cache_format="bf16")
    for watch, bound in ((choices, 1e-3), (None, 1e-2)):
        divergence = (exact.exp() * (exact - distributions(rounded, watch))).sum(-1)
        print(f"mean KL {float(divergence.mean()):.2e}, largest {float(divergence.max()):.2e}")
        assert float(divergence.mean()) <= bound


@gpu
@pytest.mark.parametrize("activations", [torch.float32, torch.bfloat16])
def test_two_runs_and_a_restored_state_have_the_same_bits(
    checkpoint: Path, device: str, activations: "torch.dtype"
) -> None:
    network, _ = placed(checkpoint, device, activations=activations, cache_format="bf16")

    def run(restored: bool) -> list["torch.Tensor"]:
        cache = network.new_cache()
        logits = network.forward([(cache, drawn_tokens(200))])
        if restored:
            raw = torch.empty(saved_cache.state_bytes(cache), dtype=torch.uint8).numpy()
            saved_cache.write_state(cache, raw)
            cache = saved_cache.read_state(raw, network.config, "bf16", device, drafts=True)
        found = [logits]
        for _ in range(200):
            found.append(network.forward([(cache, found[-1][0].argmax()[None].cpu())]))
        return [each.cpu() for each in found]

    first = run(restored=False)
    for again in (run(restored=False), run(restored=True)):
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


@gpu
@pytest.mark.parametrize("activations", [torch.float32, torch.bfloat16])
def test_a_few_tokens_in_one_pass_have_the_bits_of_single_steps(
    checkpoint: Path, device: str, activations: "torch.dtype"
) -> None:
    network, _ = placed(checkpoint, device, activations=activations, cache_format="bf16")
    tokens = drawn_tokens(170)
    cache = network.new_cache()
    network.forward([(cache, tokens[:140])], logits="none")
    alone, together = cache.fork(), cache
    for start, end in ((140, 143), (143, 151), (151, 153)):
        found = network.forward([(together, tokens[start:end])], logits="all")
        steps = [network.forward([(alone, tokens[t : t + 1])])[0] for t in range(start, end)]
        assert torch.equal(found, torch.stack(steps))


@gpu
def test_a_pass_takes_no_more_than_is_reckoned(checkpoint: Path, device: str) -> None:
    for activations in (torch.float32, torch.bfloat16):
        network, _ = placed(checkpoint, device, activations=activations)
        for tokens in (1, 200, 1500):
            cache = network.new_cache()
            network.forward([(cache, drawn_tokens(10))])
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            network.forward([(cache, drawn_tokens(tokens))])
            taken = torch.cuda.max_memory_allocated() - before
            assert taken <= devices.pass_bytes(network.config, tokens, activations), tokens


@gpu
def test_a_full_gpu_fails_the_pass_and_nothing_else(checkpoint: Path, device: str) -> None:
    network, _ = placed(checkpoint, device)
    cache, tokens = network.new_cache(), drawn_tokens(3000)
    network.forward([(cache, tokens[:100])], logits="none")
    untouched = cache.fork()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + (16 << 20)
    try:
        torch.cuda.set_per_process_memory_fraction(room / total)
        with pytest.raises(ModelError, match=r"tokens at once.* tokens would fit"):
            network.forward([(cache, tokens[100:])], logits="none")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert cache.position == 100
    found = [network.forward([(each, tokens[100:101])]) for each in (cache, untouched)]
    assert torch.equal(*found)


@gpu
def test_the_gpu_is_found(device: str) -> None:
    found = devices.gpu()
    assert found is not None
    assert 0 < devices.free_bytes(found) <= torch.cuda.get_device_properties(0).total_memory
