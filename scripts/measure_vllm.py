#!/usr/bin/env python3
# measure_vllm.py - decode speed of vLLM's CPU build on the same model directory
#
# SPDX-License-Identifier: Apache-2.0
"""usage: measure_vllm.py MODEL EAGER PROMPT BATCH...; prints decoded tokens a second for each batch, medians of three.

Runs under the python of an environment that has vLLM; used by scripts/measure, no dependency of the project."""

import os
import statistics
import sys
import time


def main():
    model, eager, prompt, batches = sys.argv[1], sys.argv[2] == "1", sys.argv[3], [int(word) for word in sys.argv[4:]]
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from vllm import LLM, SamplingParams  # the environment above must be set first

    engine = LLM(model=model, dtype="bfloat16", enforce_eager=eager, enable_prefix_caching=False, max_model_len=1024,
                 max_num_seqs=max(batches))

    def seconds(batch, tokens):
        """Time of one batch; prefix caching is off, so every round computes its prompts."""
        start = time.perf_counter()
        engine.generate([prompt] * batch, SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True), use_tqdm=False)
        return time.perf_counter() - start

    rates = []
    for batch in batches:
        seconds(batch, 65)
        times = [(seconds(batch, 1), seconds(batch, 65)) for _ in range(3)]  # prefill and one token; 64 more
        rates.append(64 * batch / statistics.median(long - short for short, long in times))
    print("rates:", *rates, flush=True)


if __name__ == "__main__":
    main()
