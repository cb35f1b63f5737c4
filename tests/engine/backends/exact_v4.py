"""Small V4 models whose arithmetic is exact enough to tell a wrong context from another order of summing.

A seeded checkpoint is converted and every tensor then written in F32: with 8-bit or BF16 weights llama.cpp
rounds activations too, and one value that falls on the other side of a rounding moves the logits as far as a
wrong token in the context does. Every expert and every row is chosen, so that no choice can tip either.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize

from convert.conversion import convert
from tests.convert.conversions import checkpoint, job

SURE: dict[str, Any] = {
    "layers": 4,
    "hidden_size": 128,
    "num_attention_heads": 2,
    "n_routed_experts": 2,
    "num_experts_per_tok": 2,
    "index_topk": 512,
}
"""As small as llama.cpp takes it. Of at most 512 compressed rows (2,048 tokens), all are attended to."""


def exact_model(folder: Path, ratios: Literal["flash", "pro"]) -> Path:
    """A GGUF in F32 in `folder`, of layers compressed as Flash's or Pro's are (V4.md 1.2)."""
    source = checkpoint(folder / "source", ratios=ratios, seed=7, **SURE)
    (small,) = convert(job(source, folder / "small.gguf", draft="skip"))
    target = folder / f"{ratios}.gguf"
    reader = GGUFReader(small)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind = field.types[0]
            inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), kind, inner)
    for tensor in reader.tensors:
        whole = tensor.tensor_type.name in ("F32", "I32")
        numbers = np.array(tensor.data) if whole else dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, numbers if whole else numbers.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
