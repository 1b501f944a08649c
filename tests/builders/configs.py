"""config.json of models whose sizes are published: the fields that sizes depend on."""

from __future__ import annotations

from typing import Any

OPT_1_3B: dict[str, Any] = {
    "model_type": "opt", "hidden_size": 2048, "num_hidden_layers": 24, "ffn_dim": 8192, "num_attention_heads": 32,
    "vocab_size": 50272, "max_position_embeddings": 2048, "word_embed_proj_dim": 2048, "torch_dtype": "float16",
}  # fmt: skip
OPT_2_7B = OPT_1_3B | {"hidden_size": 2560, "num_hidden_layers": 32, "ffn_dim": 10240, "word_embed_proj_dim": 2560}
OPT_350M = OPT_1_3B | {
    "hidden_size": 1024, "ffn_dim": 4096, "word_embed_proj_dim": 512, "num_attention_heads": 16,
    "do_layer_norm_before": False,
}  # fmt: skip
LLAMA_2_7B: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11008,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "tie_word_embeddings": False,
    "torch_dtype": "float16",
}  # fmt: skip
LLAMA_2_13B = LLAMA_2_7B | {
    "hidden_size": 5120, "num_hidden_layers": 40, "intermediate_size": 13824, "num_attention_heads": 40,
    "num_key_value_heads": 40,
}  # fmt: skip
LLAMA_3_8B = LLAMA_2_7B | {
    "intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "bfloat16",
}  # fmt: skip
QWEN_2_5_0_5B: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "intermediate_size": 4864,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "sliding_window": 32768, "use_sliding_window": False,
}  # fmt: skip
MISTRAL_7B = LLAMA_3_8B | {"model_type": "mistral", "vocab_size": 32000, "sliding_window": 4096}
MIXTRAL_8X7B = MISTRAL_7B | {
    "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None,
}  # fmt: skip
DEEPSEEK_V2_LITE: dict[str, Any] = {
    "model_type": "deepseek_v2", "hidden_size": 2048, "num_hidden_layers": 27, "intermediate_size": 10944,
    "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
    "first_k_dense_replace": 1, "kv_lora_rank": 512, "q_lora_rank": None, "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128, "v_head_dim": 128, "num_attention_heads": 16, "vocab_size": 102400,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
DEEPSEEK_V2 = DEEPSEEK_V2_LITE | {
    "hidden_size": 5120, "num_hidden_layers": 60, "intermediate_size": 12288, "moe_intermediate_size": 1536,
    "n_routed_experts": 160, "q_lora_rank": 1536, "num_attention_heads": 128,
}  # fmt: skip
QWEN_1_5_MOE: dict[str, Any] = {
    "model_type": "qwen2_moe", "hidden_size": 2048, "num_hidden_layers": 24, "intermediate_size": 5632,
    "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "num_experts": 60,
    "num_experts_per_tok": 4, "decoder_sparse_step": 1, "num_attention_heads": 16, "num_key_value_heads": 16,
    "vocab_size": 151936, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
GEMMA_3_1B: dict[str, Any] = {
    "model_type": "gemma3_text", "hidden_size": 1152, "num_hidden_layers": 26, "intermediate_size": 6912,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144,
    "sliding_window": 512, "sliding_window_pattern": 6, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
}  # fmt: skip
