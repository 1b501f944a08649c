"""Which of a user's words and variables change nothing that is measured of vLLM: they must not cost GPU time.

Logs, usage statistics, proxies, tokens, the names of parsers and templates of chats: what is measured are completions of
token ids. Sources: vllm/envs.py and vllm/entrypoints of the pinned version, whose options stand in
tests/data/vllm/options.json; huggingface_hub's constants.py. Must keep whatever it does not know.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slm_core.engines.vllm_flags import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WITH_VALUE, ALONE = True, False
UNMEASURED_FLAGS: Mapping[str, bool] = {
    "--uvicorn-log-level": WITH_VALUE,
    "--max-log-len": WITH_VALUE,
    "--chat-template": WITH_VALUE,
    "--chat-template-content-format": WITH_VALUE,
    "--trust-request-chat-template": ALONE,
    "--no-trust-request-chat-template": ALONE,
    "--response-role": WITH_VALUE,
    "--tool-call-parser": WITH_VALUE,
    "--tool-parser-plugin": WITH_VALUE,
    "--enable-auto-tool-choice": ALONE,
    "--no-enable-auto-tool-choice": ALONE,
    "--reasoning-parser": WITH_VALUE,
    "--allowed-origins": WITH_VALUE,
    "--allowed-methods": WITH_VALUE,
    "--allowed-headers": WITH_VALUE,
    "--allow-credentials": ALONE,
    "--no-allow-credentials": ALONE,
    "--root-path": WITH_VALUE,
    "--disable-fastapi-docs": ALONE,
    "--no-disable-fastapi-docs": ALONE,
    "--enable-prompt-tokens-details": ALONE,
    "--no-enable-prompt-tokens-details": ALONE,
    "--seed": WITH_VALUE,
}
"""Each with whether a value follows. Abbreviations of them are not known here, and so are kept."""
UNMEASURED_VARIABLES = re.compile(
    # Where and how vLLM writes its log; who hears of it.
    r"VLLM_(?:LOGGING_(?:LEVEL|PREFIX|STREAM|COLOR|CONFIG_PATH)|CONFIGURE_LOGGING|LOG_STATS_INTERVAL"
    r"|NO_USAGE_STATS|DO_NOT_TRACK|USAGE_SOURCE|USAGE_STATS_SERVER)"
    r"|DO_NOT_TRACK|HF_HUB_DISABLE_TELEMETRY|TRANSFORMERS_VERBOSITY|TQDM_DISABLE|NO_COLOR"
    # How the model is fetched, not which.
    r"|(?:HTTP|HTTPS|ALL|NO|http|https|all|no)_(?:PROXY|proxy)"
    r"|HF_TOKEN|HUGGING_FACE_HUB_TOKEN|HF_ENDPOINT|HF_HUB_(?:DOWNLOAD_TIMEOUT|ETAG_TIMEOUT|ENABLE_HF_TRANSFER|VERBOSITY)"
    r"|HF_XET_[A-Z_]+|AWS_[A-Z_]+|REQUESTS_CA_BUNDLE|SSL_CERT_(?:FILE|DIR)"
    # Where files are kept, and what time it is.
    r"|HF_HOME|HF_HUB_CACHE|VLLM_CACHE_ROOT|XDG_CACHE_HOME|TMPDIR|TZ|LANG|LC_[A-Z]+"
)


def measured_words(words: Sequence[str]) -> list[str]:
    """The words without the flags that change nothing, and without their values."""
    return list(_kept(words))


def _kept(words: Sequence[str]) -> Iterator[str]:
    is_value = False
    for word in words:
        flag = name_of(word)
        if is_value:
            is_value = False
        elif flag in UNMEASURED_FLAGS:
            is_value = UNMEASURED_FLAGS[flag] and "=" not in word
        else:
            yield word
