import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed: it comes with torch's CUDA builds")

from kernels.rotary import reference, triton_rotary  # noqa: E402
from tests.kernels.gpu_tensors import DEVICE, error, gpu, needed  # noqa: E402

pytestmark = [gpu, needed]


@pytest.mark.parametrize("shape", [(0, 40), (1, 40), (9, 4, 512), (5, 64)])
@pytest.mark.parametrize("inverse", [False, True])
def test_a_rotation_is_the_reference_s(shape: tuple[int, ...], inverse: bool) -> None:
    torch.manual_seed(0)
    x, positions = torch.randn(shape), torch.randint(0, 1 << 20, shape[:1])
    frequencies = reference.rotary_frequencies(10_000.0, 16, None)
    found = triton_rotary.rotate(x.to(DEVICE), positions.to(DEVICE), frequencies.to(DEVICE), inverse=inverse)
    wanted = reference.rotate(x, positions, frequencies, inverse=inverse)
    # The same F32 angles, up to a million radians; sines to their last bits.
    assert error(found, wanted) < 1e-6
