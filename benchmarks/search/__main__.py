"""How good is the search? Some of the figures that `quality.py` explains.

python -m benchmarks.search [--json] [--cases 600] [--seed 1]
"""

import argparse
import asyncio
import json
import time

from benchmarks.search.quality import run


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search",
        description="how good is the search, against exhaustive sweeps in virtual time",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--cases", type=int, default=600, help="random engines (default 600)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    began = time.perf_counter()
    figures = asyncio.run(run(args.cases, args.seed))
    if args.json:
        print(json.dumps({key: round(value, 4) for key, value in figures.items()}))
        return
    for key, value in figures.items():
        print(f"{key:32} {value:.4g}")
    print(f"{'wall seconds':32} {time.perf_counter() - began:.1f}")


if __name__ == "__main__":
    main()
