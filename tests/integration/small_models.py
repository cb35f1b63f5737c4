"""Models of other families than V4's, as small as llama.cpp takes them: random numbers, and V4's test tokenizer."""

from pathlib import Path
from typing import Literal

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter

Family = Literal["llama", "gemma3"]
WIDTH, HEAD_WIDTH, INNER = 64, 32, 128
WINDOW_TOKENS = 96


def small_model(path: Path, family: Family, tokenizer: Path, *, heads: int = 2) -> Path:
    """A GGUF of six layers with the tokenizer of another one; in "gemma3" every layer but the last has a window.

    K and V have half as many heads as Q: a token takes 32 numbers of a context for each head of a layer.
    """
    reader, writer = GGUFReader(tokenizer), GGUFWriter(path, family)
    for key, field in reader.fields.items():
        if key.startswith("tokenizer."):
            kind = field.types[0]
            writer.add_key_value(
                key, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None
            )
    vocabulary = len(reader.fields["tokenizer.ggml.tokens"].contents())
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(6)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads // 2)
    writer.add_key_length(HEAD_WIDTH)
    writer.add_value_length(HEAD_WIDTH)
    writer.add_layer_norm_rms_eps(1e-5)
    if family == "gemma3":
        writer.add_sliding_window(WINDOW_TOKENS)
    random = np.random.default_rng(3)

    def matrix(name: str, rows: int, width: int = WIDTH) -> None:
        numbers = random.normal(0, 1 / np.sqrt(width), (rows, width))
        writer.add_tensor(f"{name}.weight", numbers.astype(np.float32))

    def ones(name: str, width: int = WIDTH) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))

    matrix("token_embd", vocabulary)
    ones("output_norm")
    for layer in range(6):
        begin = f"blk.{layer}"
        ones(f"{begin}.attn_norm")
        matrix(f"{begin}.attn_q", heads * HEAD_WIDTH)
        matrix(f"{begin}.attn_k", heads // 2 * HEAD_WIDTH)
        matrix(f"{begin}.attn_v", heads // 2 * HEAD_WIDTH)
        matrix(f"{begin}.attn_output", WIDTH, heads * HEAD_WIDTH)
        ones(f"{begin}.ffn_norm")
        matrix(f"{begin}.ffn_gate", INNER)
        matrix(f"{begin}.ffn_up", INNER)
        matrix(f"{begin}.ffn_down", WIDTH, INNER)
        if family == "gemma3":
            ones(f"{begin}.attn_q_norm", HEAD_WIDTH)
            ones(f"{begin}.attn_k_norm", HEAD_WIDTH)
            ones(f"{begin}.post_attention_norm")
            ones(f"{begin}.post_ffw_norm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
