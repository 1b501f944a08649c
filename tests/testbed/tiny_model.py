"""A model small enough to serve on two cores, made on the spot.

Exists because tests may not download weights. Assumes the CPU engine's environment, whose transformers writes the
files. The weights are random but seeded: what the model says means nothing, how fast it says it is what is tested.
"""

import fcntl
import hashlib
import subprocess
from pathlib import Path

from .engine_cpu import CPU_ENV, cache, python

MAKER = """
import json, sys, torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

folder = sys.argv[1]
torch.manual_seed(20)
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
vocabulary = {token: i for i, token in enumerate(["<pad>", "</s>", *letters])}
tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", model_max_length=2048,
    chat_template="{% for m in messages %}{{ m['content'] }}\\n{% endfor %}",
).save_pretrained(folder)
OPTForCausalLM(OPTConfig(
    vocab_size=512, hidden_size=256, num_hidden_layers=4, ffn_dim=1024, num_attention_heads=4,
    max_position_embeddings=2048, word_embed_proj_dim=256, pad_token_id=0, bos_token_id=1, eos_token_id=1,
    dtype="bfloat16",
)).to(torch.bfloat16).save_pretrained(folder)
"""


def tiny_model() -> Path:
    """The folder `opt-tiny` in the cache: a 4-layer OPT of hidden size 256 with a byte-level tokenizer, about 7 MB."""
    key = hashlib.sha256(MAKER.encode()).hexdigest()[:12]
    folder = cache() / "models" / key / "opt-tiny"
    ready = folder.parent / "ready"
    if not ready.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder.parent / "lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            if not ready.exists():
                subprocess.run([str(python()), "-c", MAKER, str(folder)], env=CPU_ENV, check=True)
                for file in folder.iterdir():
                    file.chmod(0o644)  # engines in containers are not root
                ready.touch()
    return folder
