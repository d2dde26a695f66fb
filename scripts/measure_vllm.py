#!/usr/bin/env python3
# measure_vllm.py - decode speed of vLLM's CPU build on the same model directory
#
# SPDX-License-Identifier: Apache-2.0
"""usage: measure_vllm.py MODEL BATCH EAGER PROMPT; prints decoded tokens a second, the median of three rounds.

Runs under the python of an environment that has vLLM; used by scripts/measure, no dependency of the project."""

import os
import statistics
import sys
import time


def main():
    model, batch, eager, prompt = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1", sys.argv[4]
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from vllm import LLM, SamplingParams  # the environment above must be set first

    engine = LLM(model=model, dtype="bfloat16", enforce_eager=eager, enable_prefix_caching=False, max_model_len=1024,
                 max_num_seqs=32)
    prompts = [prompt] * batch

    def seconds(tokens):
        """Time of one batch; prefix caching is off, so every round computes its prompts."""
        start = time.perf_counter()
        engine.generate(prompts, SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True), use_tqdm=False)
        return time.perf_counter() - start

    seconds(65)
    rates = []
    for _ in range(3):
        first = seconds(1)  # prefill and one token
        rates.append(64 * batch / (seconds(65) - first))
    print(statistics.median(rates))


if __name__ == "__main__":
    main()
