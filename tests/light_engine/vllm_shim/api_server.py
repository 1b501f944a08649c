"""Makes `python3 -m vllm.entrypoints.openai.api_server` start the light engine, in its image only."""

import sys

from light_engine.__main__ import main

sys.exit(main(as_module=True))
